"""Figures of one run, and figures as pixels; see `segattn.analysis.figures` for comparisons."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segattn.task import SHAPE_GROUPS, SIZE_GROUPS

_MAX_NUMBERS = 20  # classes of a confusion matrix whose cells still have room for a number


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as uint8 [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def size_figure(result: dict[str, Any]) -> Figure:
    """Bars of the test IoU by the size of objects, and beside them by their shape."""
    rows = size_scores(result)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    for label, groups, color in (
        ("by size", SIZE_GROUPS, "#0072B2"),
        ("by shape", SHAPE_GROUPS, "#E69F00"),
    ):
        scores = [rows[group][0] for group in groups]
        bars = axes.bar(groups, [100 * (score or 0) for score in scores], label=label, color=color)
        texts = ["n/a" if score is None else f"{100 * score:.1f}" for score in scores]
        axes.bar_label(bars, texts, fontsize=8)
    axes.set_ylabel("test IoU [%]")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def confusion_figure(result: dict[str, Any]) -> Figure:
    """Where the pixels of each true class went, in percent of the class; rows without any: blank.

    Args:
        result: `confusion` holds pixels [true class][predicted class].
    """
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


def _write_shares(axes: Axes, shares: NDArray[np.float64]) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.5:  # else it would read 0
            color = "white" if share > 60 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", size=7, color=color)


def size_scores(result: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """IoU and recall by the group of objects; None where the test set has too few of them."""
    scores = result["scores"]
    kinds = {"size": SIZE_GROUPS, "shape": SHAPE_GROUPS}
    return {
        group: (scores[f"iou_{kind}"][group], scores[f"recall_{kind}"][group])
        for kind, groups in kinds.items()
        for group in groups
    }


def confusion_shares(result: dict[str, Any]) -> NDArray[np.float64]:
    """Percent of each true class, [true class, predicted class]; NaN in rows without pixels."""
    pixels = np.array(result["confusion"], dtype=np.float64)
    totals = pixels.sum(1, keepdims=True)
    return 100 * np.divide(pixels, totals, out=np.full_like(pixels, np.nan), where=totals > 0)
