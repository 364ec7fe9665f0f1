"""Figures of one run, and figures as pixels; see `segattn.analysis` for comparisons."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a training that draws nothing need not load it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_NUMBERS = 20  # classes of a confusion matrix whose cells still have room for a number


def figure_pixels(figure: "Figure") -> NDArray[np.uint8]:
    """A figure as uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def size_figure(result: dict[str, Any]) -> "Figure":
    """Bars of the test IoU of every group of classes and every size of objects."""
    from matplotlib.figure import Figure

    rows = size_scores(result)
    figure = Figure(figsize=(5, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(rows), [100 * (score or 0) for score in rows.values()])
    axes.bar_label(bars, ["n/a" if s is None else f"{100 * s:.1f}" for s in rows.values()])
    axes.invert_yaxis()
    axes.set_xlabel("test IoU [%]")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion_figure(result: dict[str, Any]) -> "Figure":
    """Where the pixels of each true class went, in percent of the class; rows without any: blank.

    Args:
        result: `confusion` holds pixels [true class][predicted class].
    """
    from matplotlib.figure import Figure

    classes, shares = result["data"]["classes"], confusion_shares(result)
    few = len(classes) <= _MAX_NUMBERS
    side = 1.6 + 0.38 * len(classes) if few else 12
    figure = Figure(figsize=(side + 0.8, side), dpi=100 if few else 200, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    font, ticks = 8 if few else 4, range(len(classes))
    axes.set_xticks(ticks, classes, rotation=90, fontsize=font)
    axes.set_yticks(ticks, classes, fontsize=font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true class")
    if few:
        _write_shares(axes, shares)
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.7)
    return figure


def _write_shares(axes: "Axes", shares: NDArray[np.float64]) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.5:  # else it would read 0
            color = "white" if share > 60 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", size=7, color=color)


def size_scores(result: dict[str, Any]) -> dict[str, float | None]:
    """The scores by group of classes and by size of objects, by their names in result.json."""
    sized = ("iou_group/", "iou_size/", "iou_shape/")
    return {name: value for name, value in result["scores"].items() if name.startswith(sized)}


def confusion_shares(result: dict[str, Any]) -> NDArray[np.float64]:
    """Percent of each true class, [true class, predicted class]; NaN in rows without pixels."""
    pixels = np.array(result["confusion"], dtype=np.float64)
    totals = pixels.sum(1, keepdims=True)
    return 100 * np.divide(pixels, totals, out=np.full_like(pixels, np.nan), where=totals > 0)
