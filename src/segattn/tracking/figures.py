"""Figures of one run, and figures as pixels; see `segattn.analysis` for comparisons."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a training that draws nothing need not load it
    from matplotlib.figure import Figure


def figure_pixels(figure: "Figure") -> NDArray[np.uint8]:
    """Return a figure as uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def confusion_figure(result: dict[str, Any]) -> "Figure":
    """Draw where the pixels of each true class of a result went, in percent of the class.

    The row of a class without pixels is blank.
    """
    from matplotlib.figure import Figure

    classes = result["data"]["classes"]
    pixels = np.array(result["confusion"], dtype=np.float64)  # [true class][predicted class]
    totals = pixels.sum(1, keepdims=True)
    shares = 100 * np.divide(pixels, totals, out=np.full_like(pixels, np.nan), where=totals > 0)
    few = len(classes) <= 20  # then there is room for numbers
    side = 1.6 + 0.38 * len(classes) if few else 12
    figure = Figure(figsize=(side + 0.8, side), dpi=100 if few else 200, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8 if few else 4)
    axes.set_yticks(range(len(classes)), classes, fontsize=8 if few else 4)
    axes.set(xlabel="predicted", ylabel="true class")
    for (row, column), share in np.ndenumerate(shares):
        if few and share >= 0.5:  # a smaller one would read 0
            color = "white" if share > 60 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", size=7, color=color)
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.7)
    return figure
