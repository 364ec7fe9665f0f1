"""The figure of objects won and lost: shares of all objects, and crops of the extremes."""

import textwrap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from segattn.analysis.comparison import Comparison
from segattn.analysis.figures import clean_axes, head_style, label_palette
from segattn.analysis.won_lost import GALLERY_FILE, THRESHOLD, object_differences, won_and_lost

_COLUMNS = 5
_LABEL_LENGTH = 18  # characters that fit beside a crop

Arrays = dict[str, NDArray[Any]]


def read_gallery(folder: Path) -> Arrays:
    """The arrays that `segattn.gallery.collect` left in an experiment folder; {} if it did not.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / GALLERY_FILE
    try:
        with np.load(path) as archive:
            return dict(archive)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"cannot read {path} ({error}); delete it and run scripts/collect.py again"
        ) from error


def won_lost(comparison: Comparison, pair: tuple[str, str]) -> Figure:
    """Shares of objects won and lost per size group, and the largest gains and losses.

    A column is one object, outlined in the image; below it stand the predictions of both heads
    (their first common seed) with the object's IoU (mean over the common seeds).

    Args:
        comparison: Its experiment folder holds the crops.
        pair: As in `segattn.analysis.won_lost.pairs`; what the first head gains is won.
    """
    gallery = read_gallery(next(iter(comparison.runs.values()))[0].path.parent)
    shown = _of_pair(gallery, pair)
    if not shown:
        figure = Figure(figsize=(6, 0.6))
        figure.text(0, 0.5, f"No crops of {pair[0]} against {pair[1]}: see scripts/collect.py.")
        return figure
    figure = Figure(figsize=(7.8, 7.2), layout="constrained")
    figure.suptitle(f"{pair[0]} against {pair[1]}", x=0.01, ha="left", fontsize=11)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.8), squeeze=False).ravel()
    upper, lower = left.subfigures(2, 1, height_ratios=(1, 2), squeeze=False).ravel()
    _share_bars(upper.subplots(), comparison, pair)
    _class_legend(lower, comparison, shown)
    won = shown["iou_a"] > shown["iou_b"]
    for block, title, rows in zip(
        right.subfigures(2, 1, squeeze=False).ravel(),
        ("largest gains", "largest losses"),
        (won, ~won),
        strict=True,
    ):
        block.suptitle(title if rows.any() else f"{title}: none", fontsize=9)
        if rows.any():
            _block(block, comparison, pair, {key: values[rows] for key, values in shown.items()})
    return figure


def _of_pair(gallery: Arrays, pair: tuple[str, str]) -> Arrays:
    """The crops of a pair; {} if there is none."""
    if not gallery:
        return {}
    rows = (gallery["pair"] == np.array(pair)).all(1)
    return {key: values[rows] for key, values in gallery.items()} if rows.any() else {}


def _share_bars(axes: Axes, comparison: Comparison, pair: tuple[str, str]) -> None:
    """Won to the right in the first head's colour, lost to the left in the second's."""
    frame = won_and_lost(object_differences(comparison, *pair))
    y, shares = range(len(frame)), 100 * frame[["won", "lost"]].fillna(0)
    for column, side, sign, head in (("won", "right", 1, pair[0]), ("lost", "left", -1, pair[1])):
        colour = head_style(head)["color"]
        axes.barh(y, sign * shares[column], color=colour)
        axes.set_title(column, loc=side, color=colour, fontsize=9)  # type: ignore[arg-type]
    labels = [f"{group} ({n})" for group, n in zip(frame["group"], frame["objects"], strict=True)]
    axes.set_yticks(y, labels)
    axes.invert_yaxis()
    reach = 1.1 * max(float(shares.to_numpy().max()), 1.0)
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_xlabel(f"share of objects, by over {THRESHOLD} IoU [%]", fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="y", length=0)
    clean_axes(axes, grid="x")


def _class_legend(figure: SubFigure, comparison: Comparison, shown: Arrays) -> None:
    """Colours of the classes that the crops show."""
    palette, ignore = label_palette(comparison)
    maps = np.stack([shown["prediction_a"], shown["prediction_b"]])
    patches = [
        Patch(facecolor=palette[k] / 255, edgecolor="#888888", label=comparison.classes[k])
        for k in np.setdiff1d(maps, [ignore])
    ]
    figure.legend(handles=patches, loc="upper left", ncols=2, frameon=False, fontsize=8)


def _block(figure: SubFigure, comparison: Comparison, pair: tuple[str, str], shown: Arrays) -> None:
    """Columns of image and two predictions."""
    palette, _ = label_palette(comparison)
    grid = figure.subplots(3, _COLUMNS)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for label, axes in zip(("image", *pair), grid[:, 0], strict=True):
        axes.set_ylabel(_broken(label), fontsize=8)
    for k, column in zip(range(len(shown["cls"])), grid.T, strict=False):
        title = f"{comparison.classes[shown['cls'][k]]}\n{shown['area'][k]} px"
        column[0].set_title(title, fontsize=7.5)
        column[0].imshow(shown["image"][k])
        for axes, head in zip(column[1:], ("a", "b"), strict=True):
            axes.imshow(palette[shown[f"prediction_{head}"][k]])
            axes.set_xlabel(f"IoU {shown[f'iou_{head}'][k]:.2f}", fontsize=7.5, labelpad=2)
        for axes in column:
            outline = axes.contour(shown["mask"][k], levels=[0.5], colors="white", linewidths=0.8)
            outline.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _broken(label: str) -> str:
    """The name of a variant can be longer than a crop is high; it breaks after "_" too."""
    return textwrap.fill(label.replace("_", "_ "), _LABEL_LENGTH).replace("_ ", "_")
