"""IoU against object size in half-octave bins.

The tables sort objects into three sizes; their edges are a choice. A curve shows where between
them a head gains, and whether a finding hangs on an edge. Axes as in `segattn.analysis.stats`,
but the B bins are those of the curve.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segattn.analysis.comparison import MIN_IMAGES, MIN_OBJECTS, Comparison
from segattn.analysis.stats import (
    AREA,
    FP,
    FP_FAR,
    TP,
    Array,
    Estimate,
    Sample,
    interval,
    paired_difference,
    resample,
)
from segattn.arguments import check_choice
from segattn.metrics import Axis, half_octaves, image_counts

ClassSet = Literal["all", "common"]
CLASS_SETS: tuple[ClassSet, ...] = ("all", "common")
MIN_COMMON = 2
"""Fewer classes, or fewer bins, make no mean that could be compared across bins."""

_COLUMNS = (
    *("head", "reference", "class_set", "bin", "label", "low", "high", "centre"),
    *("value", "low95", "high95", "difference", "difference_low95", "difference_high95"),
    *("seeds", "classes", "names", "objects"),
)


@dataclass(frozen=True)
class _Support:
    """Which cells enter, and the number of their objects: enters bool [C, B], objects [C, B]."""

    class_set: ClassSet
    enters: NDArray[np.bool_]
    objects: NDArray[np.int64]

    @property
    def bins(self) -> list[int]:
        """Bins with at least one class."""
        return [int(k) for k in np.flatnonzero(self.enters.any(axis=0))]


def size_curve(
    comparison: Comparison,
    *,
    stride_cells: tuple[float, float] = (0.5, 32.0),
    classes: ClassSet = "all",
) -> pd.DataFrame:
    """Mean IoU of every head, and its difference to its reference, per half octave of size.

    A cell (class, bin) enters with at least `MIN_OBJECTS` objects of the minimum area in at least
    `MIN_IMAGES` images. The ground truth decides, so all heads have the same cells. A bin without
    such a class is left out.

    Under "all" each bin has its own classes, so the curve mixes size with class: only heads within
    a bin can be compared. "common" keeps the same classes in every bin: those of the longest run of
    neighbouring bins that has at least two bins and two classes in common; of equally long runs the
    one with the most classes, then the one of the smallest objects. Without such a run "all" is
    used.

    Args:
        comparison: Its object tables are read again, one head at a time.
        stride_cells: Lowest and highest edge in cells of the feature grid. The bins below and above
            have no other end.
        classes: See above.

    Returns:
        One row per head and bin: head, reference (empty for the first head), class_set (the one
        used), bin (its number; a jump is a bin left out), label, low, high (edges in cells, 0 and
        inf at the ends), centre (geometric; of an open bin as if it were half an octave wide),
        value, low95, high95 (percent), difference, difference_low95, difference_high95 (points; NaN
        for the first head), seeds (of the head), classes (how many), names (of the classes),
        objects (of the ground truth).

    Raises:
        ValueError: `classes` is unknown, or not 0 < lowest <= highest edge.
    """
    edges = half_octaves(*stride_cells)
    axis = Axis("size", edges, stride=comparison.facts["metric"]["stride"])
    return axis_scores(comparison, axis, classes=classes)


def axis_scores(comparison: Comparison, axis: Axis, *, classes: ClassSet = "all") -> pd.DataFrame:
    """`size_curve` for any axis; low, high and centre are in the unit of its edges."""
    check_choice("classes", classes, CLASS_SETS)
    support = _support(comparison, axis)
    if classes == "common":
        support = _common(support)
    heads = comparison.heads if support.bins else []
    samples = {head: _scores(comparison, head, axis=axis, support=support) for head in heads}
    return pd.DataFrame(_rows(comparison, samples, axis=axis, support=support), columns=_COLUMNS)


def class_note(frame: pd.DataFrame, *, wanted: ClassSet) -> str:
    """What a reader of a curve has to know about its classes and its last bin, in words.

    Args:
        frame: From `size_curve`.
        wanted: The class set that was asked for.
    """
    if frame.empty:
        return "No class has enough objects of any size"
    text = "Each point has the classes with enough objects of its size: compare heads, not sizes"
    if (frame["class_set"] == "common").all():
        text = f"Mean over the same classes at every size: {frame['names'].iloc[0]}"
    elif wanted == "common":
        text += "; no two classes share two neighbouring sizes"
    last = frame.iloc[-1]
    return (
        f"{text}; last point: all above {last['low']:g} cells" if np.isinf(last["high"]) else text
    )


def _support(comparison: Comparison, axis: Axis) -> _Support:
    facts = comparison.facts
    table = comparison.runs[comparison.heads[0]][0].objects()
    counted = table[(table["kind"] == "object") & (table["area"] >= facts["metric"]["min_area"])]
    rows = counted[["cls", "image"]].assign(bin=axis.of(counted))
    objects, images = (_tally(r, comparison, axis) for r in (rows, rows.drop_duplicates()))
    return _Support("all", (objects >= MIN_OBJECTS) & (images >= MIN_IMAGES), objects)


def _tally(rows: pd.DataFrame, comparison: Comparison, axis: Axis) -> NDArray[np.int64]:
    """Number of rows per class and bin: [C, B]."""
    number = np.zeros((len(comparison.classes), axis.num_bins), dtype=np.int64)
    np.add.at(number, (rows["cls"].to_numpy(), rows["bin"].to_numpy()), 1)
    return number


def _common(support: _Support) -> _Support:
    best, kept = (0, 0), None
    for start, stop in combinations(range(support.enters.shape[1] + 1), 2):
        shared = support.enters[:, start:stop].all(axis=1)
        size = (stop - start, int(shared.sum()))
        # only a greater run replaces the best one: the first holds the smallest objects
        if min(size) >= MIN_COMMON and size > best:
            best, kept = size, (shared, slice(start, stop))
    if kept is None:
        return support
    enters = np.zeros_like(support.enters)
    enters[kept[0], kept[1]] = True
    return _Support("common", enters, support.objects)


def _scores(comparison: Comparison, head: str, *, axis: Axis, support: _Support) -> Sample:
    """The head's sample with IoU [..., B] in place of counts, which would fill the memory."""
    facts = comparison.facts
    labels = [int(label) for label in np.flatnonzero(support.enters.any(axis=1))]

    def counts(table: pd.DataFrame) -> NDArray[np.int64]:
        found = image_counts(
            table, images=facts["images"], num_classes=len(comparison.classes), bins=axis
        )
        return found[:, labels][:, :, support.bins]

    z = np.stack([counts(run.objects()) for run in comparison.runs[head]])
    sample = resample(z, seeds=comparison.samples[head].seeds, blocks=facts["blocks"])
    enters = support.enters[labels][:, support.bins]
    return replace(
        sample,
        sums=_bin_iou(sample.sums, enters),
        # seed by seed, as the steps in between are as large as the counts
        replicates=np.stack([_bin_iou(seed, enters) for seed in sample.replicates]),
    )


def _bin_iou(counts: Array, enters: NDArray[np.bool_]) -> Array:
    """Mean IoU over the classes that enter: counts [..., C, B, 4] to [..., B].

    A class that is missing from a resampled test set leaves the mean, as in `stats.bin_iou`.
    """
    area = counts[..., AREA]
    present = enters & (area > 0)
    union = np.where(present, area + counts[..., FP] + counts[..., FP_FAR], 1)
    total = np.where(present, counts[..., TP] / union, 0).sum(axis=-2)
    number = present.sum(axis=-2)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def _rows(
    comparison: Comparison, samples: dict[str, Sample], *, axis: Axis, support: _Support
) -> Iterator[dict[str, Any]]:
    for head, sample in samples.items():
        reference = comparison.references.get(head, "")
        for place, k in enumerate(support.bins):
            score = itemgetter((..., place))
            gain = paired_difference(sample, samples[reference], score) if reference else None
            yield {
                "head": head,
                "reference": reference,
                "class_set": support.class_set,
                **_bin_columns(axis, k),
                **_percent("value", "", interval(sample, score)),
                **_percent("difference", "difference_", gain),
                "seeds": len(sample.seeds),
                **_class_columns(comparison, support, k),
            }


def _bin_columns(axis: Axis, k: int) -> dict[str, Any]:
    low, high = ((0.0, *axis.edges)[k], (*axis.edges, math.inf)[k])
    quarter = 2**0.25
    centre = low * quarter if low > 0 else high / quarter
    return {"bin": k, "label": axis.labels[k], "low": low, "high": high, "centre": centre}


def _percent(name: str, prefix: str, estimate: Estimate | None) -> dict[str, float]:
    names = (name, f"{prefix}low95", f"{prefix}high95")
    if estimate is None:
        return dict.fromkeys(names, math.nan)
    values = (estimate.value, estimate.low, estimate.high)
    return {column: 100 * value for column, value in zip(names, values, strict=True)}


def _class_columns(comparison: Comparison, support: _Support, k: int) -> dict[str, Any]:
    labels = np.flatnonzero(support.enters[:, k])
    return {
        "classes": len(labels),
        "names": ", ".join(comparison.classes[label] for label in labels),
        "objects": int(support.objects[labels, k].sum()),
    }
