"""Figures of a comparison; every function returns a Figure and touches no global state."""

from collections.abc import Iterable
from textwrap import fill, wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from segattn.analysis.comparison import CHOSEN, HEADS, Comparison, base_name
from segattn.analysis.stats import MIN_SEEDS
from segattn.analysis.tables import OFF, block_shares, class_names, costs, gains, score_names
from segattn.analysis.text import gamma, seen
from segattn.data.palette import colour_table

_GREY, _INK = "#e6e6e6", "#222222"
_COLOURS = "BrBG"  # brown to green, which the colour-blind distinguish too
_MAX_COLUMNS = 40  # classes side by side
_WON, _LOST = "#01665e", "#8c510a"


def gain_picture(comparison: Comparison) -> Figure:
    """Heads x (overall, classes by size, objects by size): the gain over the reference, in points.

    The reference's row holds its IoU. Colours follow the verdicts. Two more columns say how much
    attention adds to its block, and what the whole network costs; the lines below, what could be
    seen.
    """
    comparison = comparison.judged
    names, heads = score_names(comparison.measures), comparison.heads
    warnings = [note for note in comparison.notes if note.startswith(CHOSEN)]
    width = 3.6 + 0.72 * (len(names) + 2)
    below = [line for text in (seen(comparison), *warnings) for line in wrap(text, int(15 * width))]
    top, rows, bottom = 1.2, 0.4 * len(heads), 0.15 + 0.14 * len(below)
    height = top + rows + bottom
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((2.35 / width, bottom / height, 1 - 2.4 / width, rows / height))
    _gain_cells(axes, comparison, gains(comparison), names)
    _share_and_cost(axes, comparison, start=len(names))
    labels = [*(name.split("/")[-1] if name != "miou" else "overall" for name in names)]
    axes.set_xticks(range(len(names) + 2), [*labels, "share of\nattention", "FLOPs"], fontsize=9)
    _group_titles(axes, names)
    title = f"Which attention helps objects of which size?  {comparison.facts['data']['title']}"
    figure.text(0.01, 1 - 0.08 / height, title, fontsize=11, weight="bold", va="top")
    for place, lines in ((height - 0.32, _legend(comparison)), (bottom - 0.05, "\n".join(below))):
        figure.text(0.01, place / height, lines, fontsize=8, color="#555555", va="top")
    return figure


def _legend(comparison: Comparison) -> str:
    row = f"Row {comparison.reference}: IoU in percent. Other rows: gain over it in points"
    row = " ".join([row, comparison.steps]).strip() + gamma(comparison)
    if comparison.seeds < MIN_SEEDS:
        return f"{row}; {comparison.seeds} seeds, too few to decide."
    return (
        f"{row}, {comparison.seeds} seeds.\n"
        "Colour: helps or harms. = no difference. Grey: not decided. k/S: learned in k of S runs."
    )


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
    frame = frame.assign(text=[cell_text(row) for row in frame.to_dict("records")])
    wide = {
        key: frame.pivot(index="head", columns="score", values=key).loc[heads, names].to_numpy()
        for key in ("gain", "verdict", "text")
    }
    gain = wide["gain"].astype(float)
    decided = np.isin(wide["verdict"], ["helps", "harms"])
    reach = max(2.0, float(np.max(np.abs(gain[decided]), initial=0)))
    depth = np.sign(gain) * np.sqrt(np.abs(gain) / reach)  # small effects have a colour too
    colours = colormaps[_COLOURS](Normalize(-1, 1)(np.nan_to_num(depth)))
    colours[~decided] = to_rgba(_GREY)
    colours[wide["verdict"] == "no difference"] = to_rgba("#f7f7f7")
    colours[heads.index(comparison.reference)] = 1
    axes.imshow(colours, aspect="auto")
    for (row, column), text in np.ndenumerate(wide["text"]):
        dark = decided[row, column] and abs(depth[row, column]) > 0.7
        plain = wide["verdict"][row, column] in ("not decided", "not tested")
        colour = "white" if dark else "#777777" if plain else _INK
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(heads)), [_row_name(head) for head in heads], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(heads) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def cell_text(row: dict[Any, Any]) -> str:
    """A cell of the picture: a gain, the IoU of the reference, or the runs that learned it."""
    if np.isnan(row["value"]):
        return "n/a"
    if not row["verdict"]:
        return f"{row['value']:.1f}"
    if row["runs"]:
        return str(row["runs"]).replace(" of ", "/")
    return f"{'= ' if row['verdict'] == 'no difference' else ''}{row['gain']:+.1f}"


def _row_name(head: str) -> str:
    name = HEADS.get(base_name(head))
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
    """Draw brackets above the columns of classes and above the columns of objects."""
    for start, text in (("iou_group", "groups of classes"), ("iou_s", "objects by size")):
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


def seeds_picture(comparison: Comparison) -> Figure:
    """Every run as a dot, one score a panel: heads by IoU, with the mean as a line."""
    comparison = comparison.judged
    names, heads = score_names(comparison.measures), comparison.heads
    figure = Figure(figsize=(1.6 + 1.3 * len(names), 0.8 + 0.32 * len(heads)), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for row, head in enumerate(heads):
            values = 100 * comparison.scores[head].values[name]
            axes.plot(values, np.full(len(values), row), "o", color=_WON, alpha=0.6, markersize=4)
            axes.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=_INK, linewidth=1)
        axes.set_title(_short(name), fontsize=8)
    panels[0].set_yticks(range(len(heads)), heads, fontsize=8)
    panels[0].invert_yaxis()
    _plain(panels)
    figure.supxlabel("IoU of every run [%]", fontsize=8)
    return figure


def learning_picture(frame: pd.DataFrame, comparison: Comparison) -> Figure:
    """Gain on the validation images along the training, one head a panel, a line per score."""
    heads = list(dict.fromkeys(frame["head"]))
    figure = Figure(figsize=(2.2 * len(heads) + 1.6, 2.9), layout="constrained")
    panels = figure.subplots(1, len(heads), sharex=True, sharey=True, squeeze=False)[0]
    for axes, head in zip(panels, heads, strict=True):
        for score, part in frame[frame["head"] == head].groupby("score", sort=False):
            label = _short(score).replace("\n", " ")
            axes.plot(part["step"] + 1, part["gain"], marker="o", markersize=3, label=label)
        axes.axhline(0, color=_INK, linewidth=0.8)
        axes.set_title(_row_name(head), fontsize=9)
        axes.set_xlabel("training steps", fontsize=8)
    _plain(panels)
    figure.legend(handles=panels[0].lines[:-1], loc="outside lower center", ncols=5, fontsize=8)
    figure.supylabel(f"gain over {comparison.reference} [points]", fontsize=8)
    return figure


def _short(name: str) -> str:
    """A column title: "large classes", "large objects", "overall"."""
    kind, _, label = name.partition("/")
    return f"{label}\n{'classes' if kind == 'iou_group' else 'objects'}" if label else "overall"


def _plain(panels: Iterable[Axes]) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)


def crops_picture(crops: dict[str, NDArray[Any]], comparison: Comparison, head: str) -> Figure:
    """The objects with the largest gains, then losses: image, and both predictions.

    Args:
        crops: Arrays of crops.npz, see `segattn.analysis.crops`.
        comparison: Names and colours.
        head: The one that is compared with the reference.
    """
    chosen = np.flatnonzero(crops["head"] == head)
    palette = colour_table(comparison.facts["data"]["palette"])
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
        axes.set_ylabel(fill(label, 14), fontsize=8)
    return figure
