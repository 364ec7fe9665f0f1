"""Both readings of object size side by side, and one class at a time.

Sorting classes by typical size mixes size with everything else in which classes differ. Sorting
objects keeps class sets per bin; comparing small with large objects of one class keeps the class.
"""

from functools import partial

import numpy as np
import pandas as pd

from segattn.analysis import display
from segattn.analysis.claims import Condition, Term
from segattn.analysis.comparison import Comparison
from segattn.analysis.curves import axis_scores
from segattn.analysis.measures import READINGS, measures, typical_classes
from segattn.analysis.stats import Array, bin_iou, class_iou, linear_contrast, paired_difference
from segattn.analysis.tables import ESTIMATE, estimate_columns
from segattn.metrics import GROUPS, Axis

SIZES = ("small", "medium", "large")


def differences(comparison: Comparison) -> pd.DataFrame:
    """Tidy differences to the reference under both readings.

    Columns: reading, measure, head, reference, value, low, high, ... in points.
    """
    samples = comparison.samples
    rows = [
        {
            "reading": reading,
            "measure": name,
            "head": head,
            "reference": reference,
            **estimate_columns(paired_difference(samples[head], samples[reference], score)),
        }
        for reading in READINGS
        for name, score in measures(comparison, reading=reading).items()
        for head, reference in comparison.references.items()
    ]
    return pd.DataFrame(rows, columns=["reading", "measure", "head", "reference", *ESTIMATE])


def side_by_side(comparison: Comparison) -> pd.DataFrame:
    """Display table, one row per group and head: difference by object and by class size."""
    frame = differences(comparison)
    by_object, by_class = (
        frame[(frame["reading"] == reading) & (frame["measure"] != "mIoU")].reset_index(drop=True)
        for reading in READINGS
    )
    return pd.DataFrame(
        {
            "group": by_object["measure"],
            "head": by_object["head"],
            "minus": by_object["reference"],
            "objects of that size": display.ranged(by_object, display.POINTS),
            "classes of that size": display.ranged(by_class, display.POINTS),
        }
    )


def other_axes(comparison: Comparison) -> pd.DataFrame:
    """Display table, one row per bin of further axes, one column per head: IoU in percent.

    Width in cells, terciles of the training objects' size, share of the image (COCO's 32^2 and
    96^2 px of 640 x 480). A bin without a class that has enough objects is left out.
    """
    stride = comparison.facts["metric"]["stride"]
    terciles = comparison.facts["train_objects"]["size_terciles"]
    axes = {
        "width [cells]": Axis("width", (1, 3), stride=stride),
        "share of the image": Axis("fraction", (32**2 / (640 * 480), 96**2 / (640 * 480))),
    }
    if terciles and terciles[0] < terciles[1]:  # equal where most objects are of one size
        axes["size [px], terciles"] = Axis("size", terciles, stride=1)
    parts = []
    for name, axis in axes.items():
        frame = axis_scores(comparison, axis)
        scores = frame[["value", "low95", "high95"]].set_axis(["value", "low", "high"], axis=1)
        cells = frame.assign(cell=display.ranged(scores, display.PERCENT))
        wide = cells.pivot(index="bin", columns="head", values="cell")
        wide = wide.reindex(columns=comparison.heads)  # empty where no bin has enough objects
        wide.insert(0, "bin", [axis.labels[k] for k in wide.index])
        wide.insert(0, "axis", name)
        parts.append(wide)
    return pd.concat(parts, ignore_index=True).rename_axis(columns=None)


def class_sizes(comparison: Comparison) -> pd.DataFrame:
    """Display table: the classes of each group by typical size of their training objects."""
    names = comparison.classes
    groups = {group: typical_classes(comparison.facts, group) for group in GROUPS}
    return pd.DataFrame(
        {"group": group, "classes": ", ".join(names[label] for label in members) or "(none)"}
        for group, members in groups.items()
    )


def class_shares(comparison: Comparison, condition: Condition) -> pd.Series:
    """What every class adds to a contrast by object size: class to points, which sum to its value.

    Args:
        comparison: Has the heads of the condition, with a common seed.
        condition: Of a claim.
    """
    seeds = set.intersection(*(set(comparison.samples[head].seeds) for head in condition.heads))
    terms = [term.sign * _class_means(comparison, term, seeds=seeds) for term in condition.terms]
    enters = ~np.isnan(terms).all(axis=0)
    names = np.array(comparison.classes)
    return pd.Series(100 * np.nansum(terms, axis=0)[enters], index=names[enters])


def _class_means(comparison: Comparison, term: Term, *, seeds: set[int]) -> Array:
    """The part of a score that comes from each class [C], NaN where a class does not enter it."""
    sample = comparison.samples[term.head]
    sums = sample.sums[[seed in seeds for seed in sample.seeds]]
    if term.measure == "mIoU":
        iou = class_iou(sums)
    else:
        iou = np.full((len(sums), len(comparison.classes)), np.nan)
        for label in comparison.published_classes(term.measure):
            iou[:, label] = bin_iou(sums, group=term.measure, classes=[label])
    parts = iou / (~np.isnan(iou)).sum(axis=1, keepdims=True)
    return np.where(np.isnan(parts).all(axis=0), np.nan, np.nan_to_num(parts).mean(axis=0))


def within_class(comparison: Comparison) -> pd.DataFrame:
    """Tidy: the gain of each head on small and on large objects of the same class.

    A class takes part with the smallest and the largest size at which it has enough objects.
    Columns: class, small, large (names of these sizes), head, reference, measure ("small", "large"
    or "large - small"), value, low, high, ... in points; the last measure is the interaction.
    """
    rows = []
    for label, name in enumerate(comparison.classes):
        published = [size for size in SIZES if label in comparison.published_classes(size)]
        if len(published) < 2:
            continue
        small, large = published[0], published[-1]
        for head, reference in comparison.references.items():
            who = {"class": name, "small": small, "large": large}
            who |= {"head": head, "reference": reference}
            rows += [
                {**who, "measure": measure, **values}
                for measure, values in _gains(comparison, head, reference, label, (small, large))
            ]
    return pd.DataFrame(rows)


def _gains(
    comparison: Comparison, head: str, reference: str, label: int, sizes: tuple[str, str]
) -> list[tuple[str, dict[str, float]]]:
    a, b = comparison.samples[head], comparison.samples[reference]
    small, large = (partial(bin_iou, group=size, classes=[label]) for size in sizes)
    gains = {
        "small": [(1.0, a, small), (-1.0, b, small)],
        "large": [(1.0, a, large), (-1.0, b, large)],
    }
    gains["large - small"] = [*gains["large"], (-1.0, a, small), (1.0, b, small)]
    return [(name, estimate_columns(linear_contrast(terms))) for name, terms in gains.items()]


def within_class_table(comparison: Comparison) -> pd.DataFrame:
    """Display table, one row per class and head: gain on its small and on its large objects."""
    frame = within_class(comparison)
    if frame.empty:
        return pd.DataFrame(columns=["class", "head", "minus", "sizes"])
    columns = ["small", "large", "large - small"]
    cells = frame.assign(cell=display.ranged(frame, display.POINTS))
    keys = ["class", "small", "large", "head", "reference"]
    wide = cells.pivot(index=keys, columns="measure", values="cell")
    wide = wide.loc[frame[keys].drop_duplicates().apply(tuple, axis=1).to_list(), columns]
    shown = wide.set_axis(["on the smaller", "on the larger", "larger minus smaller"], axis=1)
    shown = shown.reset_index()
    shown["sizes"] = shown.pop("small") + ", " + shown.pop("large")
    return shown.rename(columns={"reference": "minus"})
