"""What is measured on a data set: its classes, their groups, and the bins of object size."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZES = ("small", "medium", "large")
BINS = (*SIZES, "thin")
"""The bins of single objects: every object has one size, and is thin or not besides."""


@dataclass(frozen=True)
class Measures:
    """Names and rules of the scores, as plain values, so that a result can hold them.

    Attributes:
        classes: C class names; the index is the label.
        class_groups: Classes whose mean IoU is `iou_group/<name>`, by group name.
        size_classes: Classes whose objects `iou_size/<bin>` and `iou_shape/thin` score, by bin. A
            fixed set for each bin: a score must not depend on which test images there are.
        with_ids: Classes whose single objects have instance ids; one of them without an id is a
            crowd that nobody could tell apart, which counts for its class and in no bin.
        size_edges: px; an object is small below the first edge on sqrt(area) and large from the
            second. The defaults are COCO's 32^2 and 96^2 px (Lin et al. 2014,
            https://arxiv.org/abs/1405.0312).
        elongation: An object is thin from this area / width^2 on, which is a / b for a bar of a x b
            px, 1 for a square and 0.8 for a disc.
        radius: px; a false positive this near an object of its class belongs to the nearest one.

    Raises:
        ValueError: A class that is not in `classes` or stands twice, an unknown bin, or a number
            out of range.
    """

    classes: Sequence[str]
    class_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    size_classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    with_ids: Sequence[str] = ()
    size_edges: Sequence[float] = (32.0, 96.0)
    elongation: float = 5.0
    radius: float = 16.0

    def __post_init__(self) -> None:
        groups = (*self.class_groups.items(), *self.size_classes.items())
        for group, names in (("classes", self.classes), *groups, ("with_ids", self.with_ids)):
            if unknown := sorted(set(names) - set(self.classes)):
                raise ValueError(f"{group} holds {unknown}, which are not classes of the data set")
            if len(set(names)) < len(names):
                raise ValueError(f"{group} names a class twice: {list(names)}")
        if wrong := sorted(set(self.size_classes) - set(BINS)):
            raise ValueError(f"size_classes has {wrong}; the bins are {', '.join(BINS)}")
        low, high = self.size_edges if len(self.size_edges) == 2 else (0.0, 0.0)
        if not (0 < low < high and self.elongation > 0 and self.radius >= 0):  # also for NaN
            raise ValueError(
                "size_edges must be two increasing positive numbers, elongation positive and "
                f"radius 0 or more, got {self.size_edges}, {self.elongation} and {self.radius}"
            )

    def size(self, area: ArrayLike) -> NDArray[np.int64]:
        """0, 1 or 2, index of `SIZES`, for areas in px^2."""
        return np.digitize(np.sqrt(np.asarray(area, np.float64)), self.size_edges).astype(np.int64)

    def thin(self, area: ArrayLike, width: ArrayLike) -> NDArray[np.bool_]:
        """Whether objects of these areas in px^2 and widths in px are thin."""
        width = np.asarray(width, np.float64)
        return np.asarray(area, np.float64) >= self.elongation * width**2

    def labels(self, names: Sequence[str]) -> list[int]:
        """Labels of classes by name."""
        return [list(self.classes).index(name) for name in names]

    def plain(self) -> dict[str, Any]:
        """Return lists and dictionaries, for JSON; `Measures(**plain)` measures the same."""
        return dict(json.loads(json.dumps(asdict(self))))
