"""Does a contrast keep its sign when false positives are attributed otherwise?

S seeds, C classes, B = 6 joint bins. No rule of attribution is true; a difference between heads
that one rule shows and another does not is a fact about the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from segattn.analysis.comparison import size_bins
from segattn.analysis.stats import AREA, FP, FP_FAR, TP, Array
from segattn.metrics import ALL_GROUPS, REACHES, Bins, Reach, image_counts

ORPHAN_SHARE = 0.05

# reach of the attribution, and which false positives are charged
_PIXEL_RULES: dict[str, tuple[Reach, list[int]]] = {
    "iou": ("", [FP, FP_FAR]),
    "iou, half radius": ("_half", [FP, FP_FAR]),
    "iou, double radius": ("_double", [FP, FP_FAR]),
    "iou_near": ("", [FP]),
    "recall": ("", []),
}
RULES = {
    "iou": "IoU",
    "iou, half radius": "half the radius",
    "iou, double radius": "double the radius",
    "iou_near": "IoU without false alarms",
    "recall": "recall",
    "obj_iou": "mean over objects",
}
"""Every rule in words, for tables."""


@dataclass(frozen=True)
class Attribution:
    """Counts of one head under each rule.

    Attributes:
        sums: Reach to counts [S, C, B, 4] over the test set.
        objects: [S, C, B, 2], number of objects and sum of their IoU; objects below the minimum
            area left out.
    """

    sums: dict[Reach, Array]
    objects: Array

    def score(self, rule: str, *, group: str, classes: Sequence[int]) -> Array:
        """Mean over `classes` of the score in a group of `ALL_GROUPS` by a rule of `RULES`: [S]."""
        members = list(ALL_GROUPS[group])
        if rule == "obj_iou":
            cell = self.objects[:, list(classes)][:, :, members].sum(2)
            return (cell[..., 1] / cell[..., 0]).mean(1)
        reach, charged = _PIXEL_RULES[rule]
        cell = self.sums[reach][:, list(classes)][:, :, members].sum(2)
        union = cell[..., AREA] + cell[..., charged].sum(-1)
        return (cell[..., TP] / union).mean(1)

    def orphans(self, *, group: str) -> float:
        """Largest share of a class's false positives that a group holds without ground truth.

        They enter no mean of a bin, so a head could hide errors there.
        """
        sums = self.sums[""].sum(0)
        false = sums[..., FP] + sums[..., FP_FAR]
        members = list(ALL_GROUPS[group])
        lost = np.where(sums[:, members, AREA].sum(1) == 0, false[:, members].sum(1), 0)
        share = np.divide(lost, false.sum(1), out=np.zeros(len(lost)), where=lost > 0)
        return float(share.max())


def attribute(tables: Sequence[pd.DataFrame], *, facts: dict[str, Any]) -> Attribution:
    """Count the object tables of a head's seeds under every rule.

    Args:
        tables: One per seed.
        facts: Of the comparison.
    """
    bins, num_classes = size_bins(facts), len(facts["data"]["classes"])
    sums = {
        reach: np.stack(
            [
                image_counts(
                    table, images=facts["images"], num_classes=num_classes, bins=bins, reach=reach
                )
                .sum(0)
                .astype(np.float64)
                for table in tables
            ]
        )
        for reach in REACHES
    }
    min_area = facts["metric"]["min_area"]
    objects = [_objects(table, num_classes, bins, min_area) for table in tables]
    return Attribution(sums, np.stack(objects))


def _objects(table: pd.DataFrame, num_classes: int, bins: Bins, min_area: int) -> Array:
    """[C, B, 2]: number of objects and sum of tp / (area + fp)."""
    counted = table[(table["kind"] == "object") & (table["area"] >= min_area)]
    cell = counted["cls"].to_numpy(np.int64) * bins.num_bins + bins.of(counted)
    iou = (counted["tp"] / (counted["area"] + counted["fp"])).to_numpy(np.float64)
    length = num_classes * bins.num_bins
    number = np.bincount(cell, minlength=length).astype(np.float64)
    total = np.bincount(cell, weights=iou, minlength=length)
    return np.stack([number, total], axis=1).reshape(num_classes, bins.num_bins, 2)
