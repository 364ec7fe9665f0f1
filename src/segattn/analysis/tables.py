"""Tidy tables of a comparison, one row per number.

IoU and recall are in percent and their differences in points; NaN means that there is nothing to
measure.
"""

from functools import partial
from typing import Any

import pandas as pd

from segattn.analysis.comparison import Comparison
from segattn.analysis.stats import (
    Contrast,
    Estimate,
    bin_iou,
    bin_recall,
    group_iou,
    interval,
    miou,
    paired_difference,
)
from segattn.metrics import GROUPS

NOT_SEPARATED = "not separated"


def measures(comparison: Comparison) -> dict[str, Contrast]:
    """The scores that heads are compared by: mIoU and the bin IoU of each size group."""
    bins = {
        group: partial(bin_iou, group=group, classes=comparison.published_classes(group))
        for group in GROUPS
    }
    return {"mIoU": miou, **bins}


def scores(comparison: Comparison) -> pd.DataFrame:
    """Tidy scores: head, measure, value, low, high, se, df, seeds, images."""
    return pd.DataFrame(
        {"head": head, "measure": name, **_percent(interval(sample, contrast))}
        for head, sample in comparison.samples.items()
        for name, contrast in measures(comparison).items()
    ).drop(columns="p")


def costs(comparison: Comparison) -> pd.DataFrame:
    """Cost per head, mean over its runs: head, seeds, parameters, ..., test_seconds."""
    rows = []
    for head, runs in comparison.runs.items():
        cost = pd.DataFrame([run.result["cost"] for run in runs if run.result])
        rows.append({"head": head, "seeds": len(runs), **cost.astype(float).mean().to_dict()})
    return pd.DataFrame(rows)


def differences(comparison: Comparison) -> pd.DataFrame:
    """Each head minus its reference, per measure, with a reading in words.

    Returns:
        Tidy frame: head, reference, measure, value, low, high, se, df, p, seeds, images, reading.
        p-values are two-sided and not adjusted for the number of comparisons.
    """
    samples = comparison.samples
    rows: list[dict[str, Any]] = []
    for name, contrast in measures(comparison).items():
        for head, reference in comparison.references.items():
            estimate = paired_difference(samples[head], samples[reference], contrast)
            names = {"head": head, "reference": reference, "measure": name}
            rows.append({**names, **_percent(estimate), "reading": reading(estimate)})
    columns = ["head", "reference", "measure", *_percent_columns(), "reading"]
    return pd.DataFrame(rows, columns=columns)


def reading(estimate: Estimate) -> str:
    """A difference in words: where the interval lies relative to 0, and whether that is firm."""
    if estimate.seeds == 0:
        return "no common seed"
    if pd.isna(estimate.value):
        return "too few objects"
    if estimate.low <= 0 <= estimate.high:
        return NOT_SEPARATED
    word = "better" if estimate.value > 0 else "worse"
    return word if estimate.seeds > 1 else f"{word} (one seed)"


def class_scores(comparison: Comparison) -> pd.DataFrame:
    """Tidy IoU per class: head, class, value, low, high, se, df, seeds, images."""
    return pd.DataFrame(
        {
            "head": head,
            "class": name,
            **_percent(interval(sample, partial(group_iou, classes=[label]))),
        }
        for head, sample in comparison.samples.items()
        for label, name in enumerate(comparison.classes)
    ).drop(columns="p")


def class_groups(comparison: Comparison) -> pd.DataFrame:
    """Scores of the class groups of the data set: head, classes, measure, value, low, high, ...

    Measures: IoU and recall over all sizes, and recall of large and of thin objects over those
    classes of the group with enough such objects.
    """
    groups = comparison.facts["data"]["groups"]
    return pd.DataFrame(
        (
            {"head": head, "classes": name, "measure": measure, **_percent(interval(s, contrast))}
            for name, members in groups.items()
            for head, s in comparison.samples.items()
            for measure, contrast in _group_measures(comparison, members).items()
        ),
        columns=["head", "classes", "measure", *_percent_columns()],
    ).drop(columns="p")


def _group_measures(comparison: Comparison, members: list[str]) -> dict[str, Contrast]:
    labels = [comparison.classes.index(name) for name in members]
    measured: dict[str, Contrast] = {
        "IoU": partial(group_iou, classes=labels),
        "recall": partial(bin_recall, classes=labels),
    }
    for group in ("large", "thin"):
        enough = [label for label in labels if label in comparison.published_classes(group)]
        measured[f"recall {group}"] = partial(bin_recall, group=group, classes=enough)
    return measured


def _percent(estimate: Estimate) -> dict[str, Any]:
    values = {key: 100 * getattr(estimate, key) for key in ("value", "low", "high", "se")}
    rest = {key: getattr(estimate, key) for key in ("df", "p", "seeds", "images")}
    return {**values, **rest}


def _percent_columns() -> list[str]:
    return ["value", "low", "high", "se", "df", "p", "seeds", "images"]
