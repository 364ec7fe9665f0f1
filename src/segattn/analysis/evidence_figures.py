"""Figures of what helps objects of which size: curves, thin against compact, forest plot.

Every function returns a Figure and touches no global state; heads look as in `figures`.
"""

import textwrap
from collections.abc import Hashable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from segattn.analysis import tables
from segattn.analysis.comparison import Comparison
from segattn.analysis.curves import ClassSet, class_note, size_curve
from segattn.analysis.figures import clean_axes, head_style
from segattn.analysis.stats import Array

# reading of object size: its label, its sign in text, and colour and fill of its markers
_READINGS: dict[str, tuple[str, str, str, Literal["full", "none"]]] = {
    "objects": ("by object size", "\u25cf", "#0072B2", "full"),
    "classes": ("by class size", "\u25cb", "#D55E00", "none"),
}
_BAND, _GREY = "#e4e4e4", "#777777"
# of the forest plot, in inches: labels, a mean character and a text line at 7 points, a condition
_LABELS, _CHARACTER, _TEXT_LINE, _ROW = 3.6, 0.06, 0.135, 0.25


def size_curves(comparison: Comparison, *, classes: ClassSet = "all") -> Figure:
    """IoU against object size with its 95% band, and the difference to the reference beside it.

    Args:
        comparison: Its object tables are read again, see `curves.size_curve`.
        classes: "all" gives each bin the classes with enough objects of its size, so that heads
            compare, but not sizes; "common" the same classes at every size shown, if there are any.
    """
    frame = size_curve(comparison, classes=classes)
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, column, prefix in ((left, "value", ""), (right, "difference", "difference_")):
        shown = frame.dropna(subset=column)
        for head, rows in shown.groupby("head", sort=False):
            _curve(axes, rows, column=column, prefix=prefix, head=str(head))
        _size_axis(axes, shown, edges=comparison.facts["metric"]["size_edges"])
    left.set_ylim(*np.clip(left.get_ylim(), -2, 102))  # the t interval of few seeds goes further
    left.set_ylabel("IoU [%]")
    right.set_ylabel(f"IoU minus that of {_reference_name(comparison)} [points]")
    right.axhline(0, color=_GREY, linewidth=0.8, zorder=1)
    note = textwrap.fill(class_note(frame, wanted=classes), 150)
    figure.suptitle(note, x=0.01, ha="left", fontsize=9)
    handles = left.get_lines()[: len(comparison.heads)]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, *, column: str, prefix: str, head: str) -> None:
    # a line over a bin that was left out would claim what nobody measured
    whole = rows.set_index("bin").reindex(range(rows["bin"].min(), rows["bin"].max() + 1))
    style = head_style(head)
    axes.plot(whole["centre"], whole[column], **style, markersize=5, linewidth=1.5, label=head)
    low, high = whole[f"{prefix}low95"], whole[f"{prefix}high95"]
    axes.fill_between(whole["centre"], low, high, color=style["color"], alpha=0.15, lw=0)
    # the band of a point without neighbours has no width
    axes.vlines(whole["centre"], low, high, color=style["color"], alpha=0.35, lw=1)


def _size_axis(axes: Axes, frame: pd.DataFrame, *, edges: tuple[float, float]) -> None:
    axes.set_xlabel("object size: square root of the area [cells of the feature grid]")
    clean_axes(axes, grid="y")
    if frame.empty:
        _say_nothing_to_show(axes)
        return
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    low, high = axes.set_xlim(frame["centre"].min() / 2**0.35, frame["centre"].max() * 2**0.35)
    ranges = pairwise((0.0, *edges, np.inf))
    for name, (start, stop) in zip(("small", "medium", "large"), ranges, strict=True):
        left, right = max(start, low), min(stop, high)
        if low < start < high:
            axes.axvline(start, color=_GREY, linewidth=0.8, linestyle="--", zorder=1)
        fits = right / left > 2**0.6
        if fits or low < start < high < stop:  # a narrow last range has its word at the edge
            place, side = (np.sqrt(left * right), "center") if fits else (high, "right")
            text = axes.text(place, 1.0, name, color=_GREY, fontsize=9, ha=side, va="bottom")
            text.set_transform(axes.get_xaxis_transform())


def _reference_name(comparison: Comparison) -> str:
    names = set(comparison.references.values())
    return names.pop() if len(names) == 1 else "the reference"


def thin_against_compact(comparison: Comparison) -> Figure:
    """Difference to the reference on thin objects against that on compact ones, 95% intervals.

    Heads without enough thin or compact objects are left out.
    """
    frame = tables.differences(comparison).dropna(subset="value").set_index("head")
    compact, thin = (frame[frame["measure"] == measure] for measure in ("compact", "thin"))
    heads = [head for head in comparison.heads if head in compact.index and head in thin.index]
    figure = Figure(figsize=(6.6, 5), layout="compressed")
    axes = figure.subplots()
    clean_axes(axes, grid="y")
    unit = f"IoU minus that of {_reference_name(comparison)} [points]"
    axes.set(xlabel=f"compact objects: {unit}", ylabel=f"thin objects: {unit}")
    if not heads:
        _say_nothing_to_show(axes)
        return figure
    ends = ["low", "value", "high"]
    both = np.stack([t.loc[heads, ends].to_numpy(float) for t in (compact, thin)])
    marks = [_cross(axes, *both[:, k], head=head) for k, head in enumerate(heads)]
    _square(axes, low=min(0.0, both.min()), high=max(0.0, both.max()))
    figure.legend(marks, heads, loc="outside right center", frameon=False, fontsize=9)
    return figure


def _cross(axes: Axes, x: Array, y: Array, *, head: str) -> Line2D:
    """One head, x and y as (low, value, high); returns its marker."""
    style = head_style(head)
    for place in ((x[[0, 2]], y[[1, 1]]), (x[[1, 1]], y[[0, 2]])):
        axes.plot(*place, color=style["color"], linewidth=1.3)
    return axes.plot(x[1:2], y[1:2], **style, markersize=8, linestyle="none")[0]


def _square(axes: Axes, *, low: float, high: float) -> None:
    """Zero lines and diagonal; the same range on both axes."""
    margin = 0.08 * max(high - low, 0.1)
    limits = (low - margin, high + margin)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    for line in (axes.axhline, axes.axvline):
        line(0, color=_GREY, linewidth=0.8, zorder=1)
    axes.axline((0, 0), slope=1, color=_GREY, linewidth=1, linestyle="--", zorder=1)
    note = axes.text(0.03, 0.97, "above the diagonal:\nthin objects gain more", va="top")
    note.set(transform=axes.transAxes, fontsize=8, color="#444444", zorder=1.5)
    note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 2})


def _say_nothing_to_show(axes: Axes) -> None:
    axes.text(0.5, 0.5, "too few objects or heads", ha="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def forest(frame: pd.DataFrame) -> Figure:
    """Forest plot of the conditions of claims, one column of panels per experiment.

    A row is a condition: its value with the 95% interval under each reading of object size, the
    threshold that it has to exceed, and in grey the effects that are negligible. An interval that
    leaves the panel ends in an arrow. All panels have the same axis.

    Args:
        frame: One row per experiment, claim, condition (str) and reading ("objects" or "classes"),
            as `verdict_tables.conditions` has them: value (NaN: not tested), low, high, threshold,
            smallest (points; half the width of the grey band) and verdict (str). The name is grey
            where an optional column decides (bool) is false: no part in the verdict.
    """
    frame = frame.assign(decides=frame.get("decides", True))
    experiments = list(frame["experiment"].unique())
    width = min(12.0, _LABELS + 3.2 * len(experiments))
    note_width = int((width - _LABELS) / len(experiments) / _CHARACTER)
    notes = {
        (experiment, claim): _note(rows, width=note_width)
        for (experiment, claim), rows in frame.groupby(["experiment", "claim"])
    }
    lines = _forest_lines(frame, notes=notes)
    height = lines[-1].top + lines[-1].height
    figure = Figure(figsize=(width, height + 1.2), layout="constrained")
    panels = figure.subplots(1, len(experiments), sharex=True, sharey=True, squeeze=False)[0]
    panels[0].set(xlim=_limits(frame), ylim=(height, 0))
    for axes, experiment in zip(panels, experiments, strict=True):
        _forest_panel(axes, frame[frame["experiment"] == experiment], lines=lines, notes=notes)
    _name_lines(panels[0], lines)
    handles = _forest_legend(list(frame["reading"].unique()))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


class _Line(NamedTuple):
    """A line of a forest plot, in inches from the top; that of a claim has no condition."""

    claim: str
    condition: str
    decides: bool
    top: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2

    @property
    def label(self) -> str:
        return textwrap.fill(self.condition, 60) or self.claim


def _forest_lines(frame: pd.DataFrame, *, notes: dict[Any, str]) -> list[_Line]:
    lines: list[_Line] = []
    top = 0.0
    for claim, rows in frame.groupby("claim", sort=False):
        of_claim = [note.count("\n") + 1 for (_, name), note in notes.items() if name == claim]
        lines.append(_Line(str(claim), "", True, top, 0.12 + _TEXT_LINE * max(of_claim)))
        top += lines[-1].height
        for condition, parts in rows.groupby("condition", sort=False):
            line = _Line(str(claim), str(condition), bool(parts["decides"].all()), top, _ROW)
            lines.append(line._replace(height=_ROW + _TEXT_LINE * line.label.count("\n")))
            top += lines[-1].height
    return lines


def _name_lines(axes: Axes, lines: list[_Line]) -> None:
    axes.set_yticks([line.middle for line in lines], [line.label for line in lines])
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        text.set(fontsize=7 if line.condition else 9, color="black" if line.decides else _GREY)
        text.set_fontweight("normal" if line.condition else "bold")


def _note(rows: pd.DataFrame, *, width: int) -> str:
    """The verdicts on a claim, each after the sign of its reading."""
    verdicts = rows.groupby("reading", sort=False)["verdict"].first()
    return "\n".join(
        textwrap.fill(f"{_READINGS[str(reading)][1]} {verdict}", width, break_on_hyphens=False)
        for reading, verdict in verdicts.items()
    )


def _limits(frame: pd.DataFrame) -> tuple[float, float]:
    """Every value fits, and four of five ends of intervals."""
    inside = np.nanmax(np.abs(frame[["value", "threshold", "smallest"]].to_numpy(float)))
    ends = np.abs(frame[["low", "high"]].dropna().to_numpy(float))
    reach = 1.1 * max(inside, np.quantile(ends, 0.8) if ends.size else 0.0)
    return -reach, reach


def _forest_panel(
    axes: Axes, rows: pd.DataFrame, *, lines: list[_Line], notes: dict[Any, str]
) -> None:
    axes.axvline(0, color=_GREY, linewidth=0.8, zorder=1)
    for line in lines:
        of_claim = rows[rows["claim"] == line.claim]
        if line.condition:
            _forest_row(axes, of_claim[of_claim["condition"] == line.condition], line=line)
            continue
        axes.axhspan(line.top, line.top + line.height, color="white", zorder=1.5)
        axes.axhline(line.top, color=_GREY, linewidth=0.6, zorder=2)
        _write(axes, line.middle, notes.get((rows["experiment"].iloc[0], line.claim), ""))
    axes.tick_params(labelsize=8, left=False)
    axes.set_title(rows["experiment"].iloc[0], fontsize=10)
    axes.set_xlabel("difference [IoU points]", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _forest_row(axes: Axes, rows: pd.DataFrame, *, line: _Line) -> None:
    for row in rows.head(1).to_dict("records"):
        smallest, third = row["smallest"], line.height / 3
        axes.barh(line.middle, 2 * smallest, line.height, left=-smallest, color=_BAND, zorder=0)
        y = [line.middle - third, line.middle + third]
        axes.plot([row["threshold"]] * 2, y, color="black", linewidth=1.6, zorder=2)
    if rows["value"].isna().all():
        _write(axes, line.middle, "not tested", color=_GREY)
        return
    offsets = np.linspace(-0.055, 0.055, len(rows)) if len(rows) > 1 else [0.0]
    for row, offset in zip(rows.to_dict("records"), offsets, strict=True):
        if pd.isna(row["value"]):
            text = f"{_READINGS[row['reading']][1]} not tested"
            _write(axes, line.middle + offset, text, color=_GREY)
        else:
            _forest_interval(axes, row, y=line.middle + offset)


def _write(axes: Axes, y: float, text: str, *, color: str = "black") -> None:
    """Text at the left end of a line."""
    place = axes.get_yaxis_transform()
    axes.text(0.01, y, text, transform=place, color=color, fontsize=6.5, va="center")


def _forest_interval(axes: Axes, row: dict[Hashable, Any], *, y: float) -> None:
    reach = axes.get_xlim()[1]
    _, _, color, fill = _READINGS[row["reading"]]
    low, high = np.clip([row["low"], row["high"]], -reach, reach)
    axes.plot([low, high], [y, y], color=color, linewidth=1.1, zorder=3)
    axes.plot(row["value"], y, "o", color=color, fillstyle=fill, markersize=4.5, zorder=4)
    for end, arrow in ((row["low"], "<"), (row["high"], ">")):
        if abs(end) > reach:
            axes.plot(np.sign(end) * reach, y, arrow, color=color, markersize=4, clip_on=False)


def _forest_legend(readings: list[str]) -> list[Line2D | Patch]:
    marks = [
        Line2D([], [], color=color, marker="o", fillstyle=fill, label=label)
        for label, _, color, fill in (_READINGS[reading] for reading in readings)
    ]
    threshold = Line2D([], [], color="black", marker="|", linestyle="", mew=1.6, label="threshold")
    return [*marks, threshold, Patch(color=_BAND, label="negligible")]
