"""The scores that heads are compared by, under two readings of "per object size".

objects: the object's own size and shape decide its bin (this repository's reading).
classes: whole classes are sorted by the typical size of their objects, and scored by ordinary IoU
    (the papers' reading). The groups follow from the training labels; nobody picks them.
"""

from functools import partial
from typing import Any, Literal

import numpy as np

from segattn.analysis.comparison import Comparison, size_bins
from segattn.analysis.stats import Contrast, bin_iou, group_iou, miou
from segattn.metrics import ALL_GROUPS, GROUPS

Reading = Literal["objects", "classes"]
READINGS: tuple[Reading, Reading] = ("objects", "classes")
MEASURES = ("mIoU", *ALL_GROUPS)


def contrast(comparison: Comparison, measure: str, *, reading: Reading = "objects") -> Contrast:
    """The score named by `measure`: mIoU, or the mean IoU in a group of `ALL_GROUPS`.

    Args:
        comparison: Fixes which classes enter the mean, the same for every head.
        measure: One of `MEASURES`.
        reading: Whether objects or classes are sorted by size.
    """
    if measure == "mIoU":
        return miou
    if reading == "classes":
        return partial(group_iou, classes=typical_classes(comparison.facts, measure))
    return partial(bin_iou, group=measure, classes=comparison.published_classes(measure))


def measures(comparison: Comparison, *, reading: Reading = "objects") -> dict[str, Contrast]:
    """Scores that tables show: mIoU and the groups of `GROUPS`."""
    return {name: contrast(comparison, name, reading=reading) for name in ("mIoU", *GROUPS)}


def typical_classes(facts: dict[str, Any], group: str) -> list[int]:
    """Labels of the classes whose typical training object falls in a group of `ALL_GROUPS`.

    Typical size and elongation are medians over the pixels of the training labels; the edges are
    those of the comparison.
    """
    typical = facts["train_objects"]["classes"]
    known = [label for label, name in enumerate(facts["data"]["classes"]) if typical[name]]
    shapes = [typical[facts["data"]["classes"][label]] for label in known]
    size = np.array([shape["size"] for shape in shapes])
    elongation = np.array([shape["elongation"] for shape in shapes])
    joint = size_bins(facts).assign(size**2, size / np.sqrt(elongation))
    return [label for label, k in zip(known, joint, strict=True) if k in ALL_GROUPS[group]]
