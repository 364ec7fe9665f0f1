"""Figures of a comparison; every function returns a Figure and touches no global state.

Head colours are the palette of Okabe and Ito (Color Universal Design, 2008), fixed by head name
so that a head looks the same in every figure; markers repeat the distinction without colour.
"""

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from segattn.analysis import tables
from segattn.analysis.comparison import HEAD_ORDER, Comparison, base_name
from segattn.analysis.measures import measures

_COLORS = dict(
    zip(HEAD_ORDER, ("#555555", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"), strict=True)
)
_MARKERS = dict(zip(HEAD_ORDER, "osDv^P", strict=True))
_OTHER_COLOR, _OTHER_MARKER = "#56B4E9", "X"
_VOID = (255, 255, 255)
_MAX_COLUMNS = 30  # classes side by side; more would shrink the text on a page


def head_style(head: str) -> dict[str, Any]:
    """Colour and marker of a head; the markers of variants are hollow."""
    name = base_name(head)
    return {
        "color": _COLORS.get(name, _OTHER_COLOR),
        "marker": _MARKERS.get(name, _OTHER_MARKER),
        "fillstyle": "full" if head == name else "none",
    }


def size_iou(comparison: Comparison) -> Figure:
    """One panel per measure: score of every head with its 95% interval, and a dot per seed.

    Each panel has its own axis, because bins are not comparable with each other.
    """
    frame, contrasts = tables.scores(comparison), measures(comparison)
    names = list(contrasts)
    rows = math.ceil(len(names) / 3)
    height = rows * (0.9 + 0.34 * len(comparison.heads))
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots(rows, 3, sharey=True, squeeze=False).ravel()
    for panel, name in zip(axes, names, strict=True):
        seeds = {head: 100 * contrasts[name](s.sums) for head, s in comparison.samples.items()}
        _interval_panel(panel, frame[frame["measure"] == name], title=name, seeds=seeds)
    for panel in axes[-3:]:
        panel.set_xlabel("IoU [%]")
    return figure


def _interval_panel(
    axes: Axes, rows: pd.DataFrame, *, title: str, seeds: dict[str, NDArray[np.float64]]
) -> None:
    for y, row in enumerate(rows.to_dict("records")):
        style = head_style(row["head"])
        axes.errorbar(
            row["value"],
            y,
            xerr=[[row["value"] - row["low"]], [row["high"] - row["value"]]],
            **style,
            markersize=6,
            capsize=3,
            linewidth=1.6,
        )
        values = seeds[row["head"]]
        axes.plot(values, np.full(len(values), y + 0.25), ".", color=style["color"], markersize=5)
    axes.set_yticks(range(len(rows)), list(rows["head"]))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.set_title(title if title == "mIoU" else f"{title} objects", fontsize=10, loc="left")
    if rows["value"].isna().all():
        axes.text(0.5, 0.5, "too few objects", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
    elif rows["low"].min() < 0 or rows["high"].max() > 100:
        axes.set_xlim(0, 100)  # the t interval of two seeds can leave the range of an IoU
    axes.tick_params(axis="y", length=0)
    clean_axes(axes, grid="x")


def class_heatmap(comparison: Comparison) -> Figure:
    """Per-class IoU of every head, and beside it the difference to its reference.

    Classes stand side by side as long as they fit a page, else below each other.
    """
    frame = tables.class_scores(comparison)
    wide = frame.pivot(index="head", columns="class", values="value")
    iou = wide.loc[comparison.heads, comparison.classes].to_numpy(dtype=float)
    references = comparison.references
    delta = iou[1:] - iou[[comparison.heads.index(head) for head in references.values()]]
    panels = [iou, delta] if len(delta) else [iou]
    tall = len(comparison.classes) > _MAX_COLUMNS
    axes = _heat_axes([len(panel) for panel in panels], comparison.classes, tall=tall)
    _heat_panel(axes[0], iou, limits=(0, 100), cmap="Blues", form="{:.0f}", tall=tall)
    _name_heads(axes[0], comparison.heads, title="IoU [%]", tall=tall)
    if len(delta):
        reach = max(1.0, float(np.nanmax(np.abs(delta), initial=0)))
        limits = (-reach, reach)
        _heat_panel(axes[1], delta, limits=limits, cmap="PuOr", form="{:+z.1f}", tall=tall)
        pairs = [f"{a} - {b}" for a, b in references.items()]
        _name_heads(axes[1], pairs, title="difference [points]", tall=tall)
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    return figure


def _heat_axes(counts: list[int], classes: list[str], *, tall: bool) -> list[Axes]:
    """Axes of panels with so many heads each, the classes named once."""
    if tall:
        size = (1.8 + 0.62 * sum(counts), 1.6 + 0.2 * len(classes))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(counts), sharey=True, squeeze=False, width_ratios=counts)
        axes[0, 0].set_yticks(range(len(classes)), classes, fontsize=8)
        return list(axes.ravel())
    size = (1.8 + 0.62 * len(classes), 1.2 + 0.36 * sum(counts) + 0.4 * len(counts))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(counts), 1, sharex=True, squeeze=False, height_ratios=counts)
    axes[-1, 0].set_xticks(
        range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor"
    )
    return list(axes.ravel())


def _name_heads(axes: Axes, names: list[str], *, title: str, tall: bool) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    if tall:
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(names)), names, rotation=40, ha="left", rotation_mode="anchor")
    else:
        axes.set_yticks(range(len(names)), names)


def _heat_panel(
    axes: Axes,
    values: NDArray[np.float64],
    *,
    limits: tuple[float, float],
    cmap: str,
    form: str,
    tall: bool,
) -> None:
    values = values.T if tall else values
    image = axes.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    luminance = image.to_rgba(values)[..., :3] @ (0.3, 0.59, 0.11)
    for (row, column), value in np.ndenumerate(values):
        text = "n/a" if np.isnan(value) else form.format(value)
        dark = luminance[row, column] < 0.5 and not np.isnan(value)
        color = "white" if dark else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def examples(comparison: Comparison) -> Figure:
    """Test images in rows: image, ground truth and the prediction of every head's first seed.

    Heads whose run folder was copied without its examples are left out.
    """
    shown = {h: r[0].examples() for h, r in comparison.runs.items() if r[0].examples_path.exists()}
    if not shown:
        figure = Figure(figsize=(6, 0.6))
        figure.text(0, 0.5, "These run folders hold no examples.npz: no images to show.")
        return figure
    first = next(iter(shown.values()))
    palette, ignore = label_palette(comparison)
    columns = [first["images"], palette[first["labels"]]]
    titles = ["image", "ground truth", *shown]
    names = [str(name) for name in first["names"]]
    for head, arrays in shown.items():
        if [str(name) for name in arrays["names"]] != names:
            raise ValueError(f"head {head!r} stored other example images than the first head")
        columns.append(palette[arrays["predictions"]])
    figure = _image_grid(columns, titles=titles, names=names)
    present = np.unique(np.concatenate([a["labels"].ravel() for a in shown.values()]))
    patches = [
        Patch(facecolor=palette[label] / 255, edgecolor="#888888", label=name)
        for label, name in [*enumerate(comparison.classes), (ignore, "void")]
        if label != ignore or ignore in present
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    return figure


def label_palette(comparison: Comparison) -> tuple[NDArray[np.uint8], int]:
    """Colours uint8 [256, 3] by label, and the label that is ignored."""
    data = comparison.facts["data"]
    palette = np.full((256, 3), _VOID, dtype=np.uint8)
    palette[: len(data["palette"])] = data["palette"]
    palette[data["ignore_index"]] = _VOID
    return palette, int(data["ignore_index"])


def _image_grid(columns: list[NDArray[np.uint8]], *, titles: list[str], names: list[str]) -> Figure:
    height, width = columns[0].shape[1:3]
    cell = 1.75
    size = (cell * len(columns), cell * height / width * len(names) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(names), len(columns), squeeze=False)
    for x, (title, images) in enumerate(zip(titles, columns, strict=True)):
        grid[0, x].set_title(title, fontsize=9)
        for y, image in enumerate(images):
            grid[y, x].imshow(image, interpolation="nearest")
            grid[y, x].set_xticks([])
            grid[y, x].set_yticks([])
    for y, name in enumerate(names):
        grid[y, 0].set_ylabel(name, fontsize=8)
    return figure


def learning_curves(comparison: Comparison) -> Figure:
    """Validation mIoU over training steps: mean over seeds, band from lowest to highest seed."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for head, runs in comparison.runs.items():
        logged = pd.concat([_validation(run.metrics()) for run in runs])
        curve = logged.groupby("step")["val/miou"].agg(["mean", "min", "max"]) * 100
        style = head_style(head)
        axes.plot(curve.index, curve["mean"], **style, markersize=4, label=head)
        axes.fill_between(
            curve.index, curve["min"], curve["max"], color=style["color"], alpha=0.15, lw=0
        )
    axes.set_xlabel("training step")
    protocol = comparison.facts["protocol"]
    whole = "" if protocol == "whole" else " of whole images"  # the test is by another protocol
    axes.set_ylabel(f"validation mIoU{whole} [%]")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    clean_axes(axes, grid="y")
    return figure


def _validation(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows with a validation score; `task` tells when its name says "whole"."""
    renamed = metrics.rename(columns={"val_whole/miou": "val/miou"})
    return renamed.reindex(columns=["step", "val/miou"]).dropna()


def clean_axes(axes: Axes, *, grid: Literal["x", "y"]) -> None:
    """No frame above and right, and light lines of one direction."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
