"""Figures of a comparison; every function returns a Figure and touches no global state."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from segattn.analysis.claims import NAMES
from segattn.analysis.comparison import CHOSEN, Comparison, base_name
from segattn.analysis.stats import MIN_SEEDS
from segattn.analysis.tables import OFF, block_shares, class_names, costs, gains, score_names

_GREY, _INK = "#e6e6e6", "#222222"
_COLOURS = "BrBG"  # brown to green: told apart by the colour-blind too
_MAX_COLUMNS = 40  # classes side by side
_WON, _LOST = "#01665e", "#8c510a"


def gain_picture(comparison: Comparison) -> Figure:
    """Heads x (overall, classes by size, objects by size): the gain over the reference, in points.

    The reference's row holds its IoU. Grey cells have a 95% interval that holds 0. Two more
    columns say how much attention adds to its block, and what the whole network costs.
    """
    names = score_names(comparison.measures)
    frame = gains(comparison)
    figure = Figure(figsize=(3.6 + 0.72 * (len(names) + 2), 2.0 + 0.4 * len(comparison.heads)))
    axes = figure.add_axes(
        (2.35 / figure.get_figwidth(), 0.02, 1 - 2.4 / figure.get_figwidth(), 0.72)
    )
    _gain_cells(axes, comparison, frame, names)
    _share_and_cost(axes, comparison, start=len(names))
    labels = [*(name.split("/")[-1] if name != "miou" else "overall" for name in names)]
    axes.set_xticks(range(len(names) + 2), [*labels, "share of\nattention", "FLOPs"], fontsize=9)
    _group_titles(axes, names)
    title = f"Which attention helps objects of which size?  {comparison.facts['data']['title']}"
    figure.text(0.01, 0.97, title, fontsize=11, weight="bold", va="top")
    figure.text(0.01, 0.895, _legend(comparison), fontsize=8, color="#555555", va="top")
    return figure


def _legend(comparison: Comparison) -> str:
    row = f"Row {comparison.reference}: IoU in percent. Other rows: gain over it in points"
    if comparison.seeds < MIN_SEEDS:
        legend = f"{row}; {comparison.seeds} seeds, too few to tell heads apart."
    else:
        legend = f"{row}, {comparison.seeds} seeds; grey: the 95 % interval holds 0."
    return "\n".join([legend, *(note for note in comparison.notes if note.startswith(CHOSEN))])


def class_picture(comparison: Comparison) -> Figure:
    """Heads x classes, in the manner of `gain_picture`; as many rows of classes as it takes."""
    names = class_names(comparison)
    frame = gains(comparison, names)
    parts = [names[k : k + _MAX_COLUMNS] for k in range(0, len(names), _MAX_COLUMNS)]
    widest = max(map(len, parts))
    height = (1.5 + 0.36 * len(comparison.heads)) * len(parts)
    figure = Figure(figsize=(2.4 + 0.5 * widest, height), layout="constrained")
    panels = figure.subplots(len(parts), 1, squeeze=False)[:, 0]
    for axes, part in zip(panels, parts, strict=True):
        _gain_cells(axes, comparison, frame, part)
        axes.set_xlim(-0.5, widest - 0.5)
        labels = [name.removeprefix("iou/") for name in part]
        axes.set_xticks(range(len(part)), labels, rotation=60, ha="left", fontsize=8)
    return figure


def _gain_cells(axes: Axes, comparison: Comparison, frame: pd.DataFrame, names: list[str]) -> None:
    heads = comparison.heads
    wide = {
        key: frame.pivot(index="head", columns="score", values=key).loc[heads, names]
        for key in ("value", "gain", "told_apart")
    }
    gain, told = (wide[key].to_numpy() for key in ("gain", "told_apart"))
    gain = gain.astype(float)
    reach = max(2.0, float(np.nanmax(np.abs(np.where(told, gain, np.nan)), initial=0)))
    colours = colormaps[_COLOURS](Normalize(-reach, reach)(np.nan_to_num(gain)))
    colours[~told.astype(bool)] = to_rgba(_GREY)
    colours[heads.index(comparison.reference)] = 1
    axes.imshow(colours, aspect="auto")
    for (row, column), value in np.ndenumerate(gain):
        reference = heads[row] == comparison.reference
        shown = wide["value"].to_numpy()[row, column] if reference else value
        text = "n/a" if np.isnan(shown) else f"{shown:.1f}" if reference else f"{shown:+.1f}"
        dark = told[row, column] and abs(value) > 0.6 * reach
        colour = "white" if dark else _INK if reference or told[row, column] else "#777777"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(heads)), [_row_name(head) for head in heads], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(heads) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def _row_name(head: str) -> str:
    name = NAMES.get(base_name(head))
    if name is None or head == "fcn":
        return f"{name} ({head})" if name else head
    return f"{name.removesuffix(' attention')} ({head})"


def _share_and_cost(axes: Axes, comparison: Comparison, *, start: int) -> None:
    shares, cost = block_shares(comparison), costs(comparison)
    for row, head in enumerate(comparison.heads):
        share, flops = shares.get(head), cost["GFLOP"].get(head) if len(cost) else None
        if share is not None:
            text = f"off ({100 * share:.1f}%)" if share < OFF else f"{100 * share:.0f} %"
            axes.text(start, row, text, ha="center", va="center", fontsize=9, color=_INK)
        if flops is not None:
            ratio = flops / cost["GFLOP"].get(comparison.reference, flops)
            axes.text(start + 1, row, f"x {ratio:.2f}", ha="center", va="center", fontsize=9)
    axes.set_xlim(-0.5, start + 1.5)


def _group_titles(axes: Axes, names: list[str]) -> None:
    """A bracket above the columns of classes and those of objects."""
    for start, text in (("iou_group", "classes by size"), ("iou_s", "objects by size")):
        columns = [k for k, name in enumerate(names) if name.startswith(start)]
        if columns:
            left, right = columns[0] - 0.4, columns[-1] + 0.4
            across = axes.get_xaxis_transform()
            axes.plot(
                [left, right],
                [1.1, 1.1],
                transform=across,
                color="#888888",
                clip_on=False,
                linewidth=1,
            )
            middle = (left + right) / 2
            axes.text(middle, 1.12, text, transform=across, ha="center", va="bottom", fontsize=8)


def curve_picture(curve: pd.DataFrame, comparison: Comparison) -> Figure:
    """Gain along the size of objects, one head a panel, with 95% intervals."""
    heads = comparison.heads[1:]
    columns = min(len(heads), 5)
    rows = -(-len(heads) // columns)
    figure = Figure(figsize=(2.2 * columns + 0.6, 2.1 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, head in zip(panels, heads, strict=False):
        part = curve[curve["head"] == head]
        centre = np.sqrt(part["low"] * part["high"])
        axes.axhline(0, color="#888888", linewidth=0.8)
        if comparison.seeds >= MIN_SEEDS:
            axes.fill_between(centre, part["low95"], part["high95"], color=_WON, alpha=0.2)
        axes.plot(centre, part["gain"], color=_WON, marker="o", markersize=3)
        axes.set_title(_row_name(head), fontsize=9)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for edge in comparison.measures.size_edges:
            axes.axvline(edge, color="#bbbbbb", linewidth=0.8, linestyle=":")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    for axes in panels[len(heads) :]:
        axes.set_axis_off()
    figure.supylabel(f"gain over {comparison.reference} [points]", fontsize=9)
    figure.supxlabel("size of the object, root of its area [px]", fontsize=9)
    return figure


def won_lost_picture(frame: pd.DataFrame, comparison: Comparison) -> Figure:
    """Shares of objects won to the right and lost to the left, one head a panel."""
    heads = list(dict.fromkeys(frame["head"]))
    figure = Figure(figsize=(2.2 * len(heads) + 0.6, 2.1), layout="constrained")
    panels = figure.subplots(1, len(heads), sharex=True, sharey=True, squeeze=False)[0]
    for axes, head in zip(panels, heads, strict=True):
        part = frame[frame["head"] == head]
        names = [f"{b} ({n})" for b, n in zip(part["objects of"], part["number"], strict=True)]
        axes.barh(names, part["won"], color=_WON)
        axes.barh(names, -part["lost"], color=_LOST)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_title(_row_name(head), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.supxlabel(
        f"lost / won against {comparison.reference}: % of the objects, by over 0.1 IoU", fontsize=8
    )
    return figure


def crops_picture(crops: dict[str, NDArray[Any]], comparison: Comparison, head: str) -> Figure:
    """The objects with the largest gains, then losses: image, and both predictions.

    Args:
        crops: Of `segattn.analysis.crops`.
        comparison: Names and colours.
        head: The one that is compared with the reference.
    """
    chosen = np.flatnonzero(crops["head"] == head)
    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(comparison.measures.classes)] = comparison.facts["data"]["palette"]
    figure = Figure(figsize=(1.15 * len(chosen) + 0.6, 4.1), layout="constrained")
    grid = figure.subplots(3, len(chosen), squeeze=False)
    for column, k in zip(grid.T, chosen, strict=True):
        name = comparison.measures.classes[crops["cls"][k]]
        ious = crops["reference_iou"][k], crops["iou"][k]
        column[0].set_title(f"{name}\n{crops['area'][k]} px", fontsize=7)
        column[0].imshow(crops["image"][k])
        for axes, key, iou in zip(column[1:], ("reference", "prediction"), ious, strict=True):
            axes.imshow(palette[crops[key][k]])
            axes.set_xlabel(f"IoU {iou:.2f}", fontsize=7, labelpad=2)
        for axes in column:
            axes.set(xticks=[], yticks=[])
            line = axes.contour(crops["mask"][k], levels=[0.5], colors="white", linewidths=0.8)
            line.set_path_effects([withStroke(linewidth=2, foreground="black")])
    for axes, label in zip(grid[:, 0], ("image", comparison.reference, head), strict=True):
        axes.set_ylabel(textwrap.fill(label, 14), fontsize=8)
    return figure
