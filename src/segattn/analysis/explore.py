"""What if objects were sorted into sizes by other edges? Every table and figure anew.

The object tables hold sizes, not bins, so other edges need neither data nor checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from IPython.display import display as show
from matplotlib.figure import Figure

from segattn.analysis import display, figures, html, verdict_tables, won_lost
from segattn.analysis.comparison import Comparison, compare
from segattn.analysis.readings import SIZES
from segattn.metrics import half_octaves
from segattn.runs import Run

_GREY = "#777777"


@dataclass(frozen=True)
class Rebinned(Run):
    """A run read with other bins; its files stay as they are.

    Attributes:
        size_edges: Lower edges of medium and large in cells; None keeps the run's own.
        elongation: From which an object is thin; None keeps the run's own.
    """

    size_edges: tuple[float, float] | None = None
    elongation: float | None = None

    @property
    def result(self) -> dict[str, Any] | None:
        """The final result with the other bins, None while unfinished."""
        result = super().result
        chosen = {"size_edges": self.size_edges, "elongation": self.elongation}
        changed = {key: value for key, value in chosen.items() if value is not None}
        return None if result is None else {**result, "metric": {**result["metric"], **changed}}

    def objects(self) -> pd.DataFrame:
        """The object table, read once."""
        return _objects(self.path)


@lru_cache(maxsize=64)
def _objects(path: Path) -> pd.DataFrame:
    return Run(path).objects()


def rebin(
    runs: Sequence[Run],
    *,
    size_edges: tuple[float, float] | None = None,
    elongation: float | None = None,
) -> Comparison:
    """Compare runs with other bins.

    Args:
        runs: As for `compare`.
        size_edges: In cells: small < first <= medium < second <= large. None: as tested.
        elongation: Thin from area / width^2 of this on. None: as tested.

    Raises:
        ValueError: The edges do not increase, or the runs cannot be compared.
    """
    return compare([Rebinned(run.path, size_edges, elongation) for run in runs])


def show_bins(
    runs: Sequence[Run],
    *,
    size_edges: tuple[float, float] | None = None,
    elongation: float | None = None,
) -> None:
    """Display every table and figure for these bins, and sliders that move the edges.

    Without ipywidgets, and where nobody is there to move them, the display stands as it is.

    Args:
        runs: As for `compare`.
        size_edges: As in `rebin`.
        elongation: As in `rebin`.

    Raises:
        ValueError: No run is finished.
    """
    tested = _tested_bins(runs)
    size_edges = size_edges or tuple(tested["size_edges"])
    elongation = elongation or tested["elongation"]
    first = HTML(bins_view(runs, size_edges=size_edges, elongation=elongation))
    if find_spec("ipywidgets") is None:
        advice = "No sliders: pip install ipywidgets, or give show_bins other numbers."
        show(HTML(html.paragraph(advice)))
        show(first)
        return
    import ipywidgets as widgets

    layout = {"style": {"description_width": "11rem"}, "layout": {"width": "36rem"}}
    edges = widgets.FloatRangeSlider(
        value=size_edges, min=1, max=32, step=0.5, description="medium from, large from", **layout
    )
    thin = widgets.FloatSlider(
        value=elongation, min=2, max=12, step=0.5, description="thin from elongation", **layout
    )
    button = widgets.Button(description="sort anew")
    show(widgets.VBox([edges, thin, button]))
    view = show(first, display_id=True)

    def update(_: Any) -> None:
        view.update(HTML(html.paragraph("sorting the objects anew ...")))
        view.update(HTML(bins_view(runs, size_edges=edges.value, elongation=thin.value)))

    button.on_click(update)


def _tested_bins(runs: Sequence[Run]) -> dict[str, Any]:
    finished = [result for run in runs if (result := run.result)]
    if not finished:
        raise ValueError("no run is finished, so there are no objects to sort: `make ablation`")
    return dict(finished[0]["metric"])


def bins_view(runs: Sequence[Run], *, size_edges: tuple[float, float], elongation: float) -> str:
    """HTML of all that depends on the bins; a sentence where they cannot be."""
    try:
        comparison = rebin(runs, size_edges=size_edges, elongation=elongation)
    except ValueError as error:
        return html.paragraph(str(error))
    parts = [
        html.paragraph(_bins_text(comparison)),
        html.figure(size_histogram(comparison), alt="Number of objects by size"),
        html.figure(figures.size_iou(comparison), alt="IoU per size bin and head with intervals"),
        html.table(display.sizes(comparison)),
        html.table(display.differences_by_size(comparison)),
        html.table(won_lost_table(comparison)),
        html.table(display.support(comparison)),
    ]
    if verdict_tables.has_claims(comparison):
        note = "The claims were fixed for the edges that the runs were tested with. Other edges"
        parts += [
            html.paragraph(f"{note} show whether a verdict hangs on them; they are no evidence."),
            html.table(verdict_tables.verdicts(comparison)),
        ]
    return "\n".join(parts)


def _bins_text(comparison: Comparison) -> str:
    metric = comparison.facts["metric"]
    low, high = metric["size_edges"]
    stride = metric["stride"]
    return (
        f"small < {low:g} cells ({low * stride:g} px) <= medium < {high:g} cells "
        f"({high * stride:g} px) <= large; thin from elongation {metric['elongation']:g}. "
        f"A cell is {stride} px; size is the square root of the area."
    )


def size_histogram(comparison: Comparison) -> Figure:
    """Number of test objects per half octave of size, with the edges between the bins."""
    table = comparison.runs[comparison.heads[0]][0].objects()
    metric = comparison.facts["metric"]
    high_edge = metric["size_edges"][1]
    counted = table[(table["kind"] == "object") & (table["area"] >= metric["min_area"])]
    sizes = np.sqrt(counted["area"].to_numpy(float)) / metric["stride"]
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    bins = half_octaves(2.0 ** np.floor(np.log2(sizes.min())), 2 * max(sizes.max(), high_edge))
    axes.hist(sizes, bins=list(bins), color="#9db8cc", edgecolor="white")
    axes.set_xscale("log", base=2)
    axes.set_xlim(bins[0], bins[-1])
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set(xlabel="object size [cells of the feature grid]", ylabel="objects of the test set")
    low, high = axes.get_xlim()
    bounds = (low, *metric["size_edges"], high)
    for edge in metric["size_edges"]:
        axes.axvline(edge, color="black", linewidth=1, linestyle="--")
    for name, start, stop in zip(SIZES, bounds, bounds[1:], strict=False):
        text = axes.text(np.sqrt(start * stop), 1.01, name, ha="center", va="bottom", color=_GREY)
        text.set_transform(axes.get_xaxis_transform())
    figures.clean_axes(axes, grid="y")
    return figure


def edge_table(runs: Sequence[Run], *, factors: Sequence[float] = (0.5, 1.0, 2.0)) -> pd.DataFrame:
    """Display table, one row per pair of edges and head: differences in points.

    Args:
        runs: As for `compare`.
        factors: What the edges of the test are multiplied by.
    """
    tested = compare([Rebinned(run.path) for run in runs]).facts["metric"]["size_edges"]
    parts = []
    for factor in factors:
        low, high = (factor * edge for edge in tested)
        shown = display.differences_by_size(rebin(runs, size_edges=(low, high)))
        shown.insert(0, "edges [cells]", f"{low:g}, {high:g}")
        parts.append(shown.drop(columns=["mIoU", "compact", "thin"]))
    return pd.concat(parts, ignore_index=True)


def won_lost_table(comparison: Comparison) -> pd.DataFrame:
    """Display table, one row per pair of heads: objects won and lost in each size group."""
    rows = []
    for a, b in won_lost.pairs(comparison):
        frame = won_lost.won_and_lost(won_lost.object_differences(comparison, a, b))
        cells = {
            f"{size} ({objects:,})": f"{won:,} won, {lost:,} lost"
            for size, objects, won, lost in frame.iloc[:, :4].itertuples(index=False)
        }
        rows.append({"head": a, "against": b, **cells})
    return pd.DataFrame(rows, columns=None if rows else ["head", "against"])


def extremes_table(comparison: Comparison, pair: tuple[str, str]) -> pd.DataFrame:
    """Display table of the objects that one head wins and loses most clearly against another.

    Args:
        comparison: Both heads with at least one common seed.
        pair: What the first head gains is won.
    """
    frame = won_lost.extremes(won_lost.object_differences(comparison, *pair))
    classes = comparison.classes
    return pd.DataFrame(
        {
            "image": frame["image"],
            "class": [classes[label] for label in frame["cls"]],
            "area [px]": [f"{area:,}" for area in frame["area"]],
            "size": [bin_name(k) for k in frame["bin"]],
            f"IoU {pair[0]}": [f"{iou:.2f}" for iou in frame["iou_a"]],
            f"IoU {pair[1]}": [f"{iou:.2f}" for iou in frame["iou_b"]],
            "difference": [f"{gain:+.2f}" for gain in frame["difference"]],
        }
    )


def bin_name(joint: int) -> str:
    """A joint bin of `SizeBins` in words, such as "small, thin"."""
    return f"{SIZES[joint // 2]}, {('compact', 'thin')[joint % 2]}"
