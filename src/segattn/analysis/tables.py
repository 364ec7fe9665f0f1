"""Tidy tables of a comparison, one row per number.

IoU and recall are in percent and their differences in points; NaN means that there is nothing to
measure.
"""

from functools import partial
from typing import Any

import pandas as pd

from segattn.analysis.comparison import Comparison
from segattn.analysis.measures import measures
from segattn.analysis.stats import (
    Contrast,
    Estimate,
    bin_recall,
    group_iou,
    interval,
    paired_difference,
)

NOT_SEPARATED = "not separated"
ESTIMATE = ("value", "low", "high", "se", "df", "p", "seeds", "images")
"""The columns of an estimate in every tidy table; values in percent or points."""


def scores(comparison: Comparison) -> pd.DataFrame:
    """Tidy scores: head, measure, value, low, high, se, df, seeds, images."""
    return pd.DataFrame(
        {"head": head, "measure": name, **estimate_columns(interval(sample, contrast))}
        for head, sample in comparison.samples.items()
        for name, contrast in measures(comparison).items()
    ).drop(columns="p")


def oracle(comparison: Comparison) -> pd.DataFrame:
    """Scores of a perfect head as `scores` has them; its column head holds the stride as text."""
    columns = ["head", "measure", *ESTIMATE]
    return pd.DataFrame(
        (
            {"head": str(stride), "measure": name, **estimate_columns(interval(sample, contrast))}
            for stride, sample in comparison.oracle.items()
            for name, contrast in measures(comparison).items()
        ),
        columns=columns,
    ).drop(columns="p")


def costs(comparison: Comparison) -> pd.DataFrame:
    """Cost per head, mean over its runs: head, seeds, parameters, ..., test_seconds.

    images_per_second_min and _max are those of its slowest and fastest run: a machine that is
    shared can make them differ by more than heads do.
    """
    rows = []
    for head, runs in comparison.runs.items():
        cost = pd.DataFrame([run.result["cost"] for run in runs if run.result]).astype(float)
        means = cost.mean()
        for end in ("min", "max"):
            means[f"images_per_second_{end}"] = cost["images_per_second"].agg(end)
        rows.append({"head": head, "seeds": len(runs), **means.to_dict()})
    return pd.DataFrame(rows)


def block_shares(comparison: Comparison) -> pd.DataFrame:
    """Share of each block's attention, mean over the runs of a head: head, block, share [%].

    The norm of gamma * attention over that of the block's input, mean over the test images; runs of
    older versions have none.
    """
    rows = [
        {"head": head, "block": block, "share": 100 * share}
        for head, runs in comparison.runs.items()
        for run in runs
        for block, share in (run.result or {})["scores"].get("block_share", {}).items()
    ]
    frame = pd.DataFrame(rows, columns=["head", "block", "share"])
    return frame.groupby(["head", "block"], sort=False, as_index=False).mean()


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
            rows.append({**names, **estimate_columns(estimate), "reading": reading(estimate)})
    columns = ["head", "reference", "measure", *ESTIMATE, "reading"]
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
            **estimate_columns(interval(sample, partial(group_iou, classes=[label]))),
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
            {
                "head": head,
                "classes": name,
                "measure": measure,
                **estimate_columns(interval(s, contrast)),
            }
            for name, members in groups.items()
            for head, s in comparison.samples.items()
            for measure, contrast in _group_measures(comparison, members).items()
        ),
        columns=["head", "classes", "measure", *ESTIMATE],
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


def estimate_columns(estimate: Estimate) -> dict[str, Any]:
    """An estimate as columns: value, low, high and se in percent, then df, p, seeds, images."""
    values = {key: 100 * getattr(estimate, key) for key in ("value", "low", "high", "se")}
    rest = {key: getattr(estimate, key) for key in ("df", "p", "seeds", "images")}
    return {**values, **rest}
