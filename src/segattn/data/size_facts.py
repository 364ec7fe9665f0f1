"""Facts of the training labels: edges of size, groups by size, and the classes of each bin.

They are counted once for a data set, and kept in the user's cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segattn.base.files import cached
from segattn.data.source import Source, Split
from segattn.metrics import BINS, SIZES, Measures, find_objects

MAX_IMAGES = 500  # evenly spaced; minutes instead of an hour at 2 Mpx
_MIN_OBJECTS = 50
_MIN_AREA = 16  # px; smaller ones are specks of the labelling
_VERSION = 1  # raise it whenever the same labels give other facts


def measures_of(data: Callable[[Split], Source], *, radius: float) -> Measures:
    """What is measured on a data set, with bins of classes that are fixed before any test.

    Args:
        data: Gives a split. The training split is read where the data set does not state its facts.
        radius: px, see `Measures`.
    """
    source = data("test")
    known = {
        "size_edges": source.size_edges,
        "class_groups": source.class_groups,
        "size_classes": source.size_classes,
    }
    if None in known.values():
        found = size_facts(data("train"))
        known = {key: found[key] if value is None else value for key, value in known.items()}
    rest: Any = known
    return Measures(source.classes, with_ids=source.with_ids, radius=radius, **rest)


def size_facts(source: Source) -> dict[str, Any]:
    """Return `size_edges`, `class_groups` and `size_classes`, as far as the labels decide them.

    Args:
        source: The training split; of more than 500 images, 500 are looked at.
    """
    asked = [_VERSION, source.title, source.classes, source.things, source.with_ids]
    asked += [source.size_edges, source.class_groups, source.stamp()]
    return dict(cached("sizes", asked, lambda: _count(source)))


@dataclass(frozen=True)
class _Objects:
    """K objects of things: class, area in px^2 and width in px."""

    cls: NDArray[np.int64]
    area: NDArray[np.int64]
    width: NDArray[np.float32]


def _count(source: Source) -> dict[str, Any]:
    objects = _objects(source)
    size = np.sqrt(objects.area)
    edges: Any = source.size_edges or _terciles(size)
    rules = Measures(source.classes, size_edges=edges)
    thin = rules.thin(objects.area, objects.width)
    in_bin = [rules.size(objects.area) == number for number in range(len(SIZES))]
    bins: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    for name in source.things:
        of_class = objects.cls == source.classes.index(name)
        for bin_, inside in zip(BINS, [*in_bin, thin], strict=True):
            if (of_class & inside).sum() >= _MIN_OBJECTS:
                bins.setdefault(bin_, []).append(name)
        if of_class.any():
            middle = SIZES[int(rules.size(np.median(size[of_class]) ** 2))]
            group = "thin" if np.median(thin[of_class]) == 1 else middle
            if group != "medium":
                groups.setdefault(group, []).append(name)
    return {
        "size_edges": list(edges),
        "class_groups": source.class_groups if source.class_groups is not None else groups,
        "size_classes": bins,
    }


def _objects(source: Source) -> _Objects:
    """The single objects of things in the training labels."""
    parts = []
    indices = np.linspace(0, len(source.names) - 1, min(len(source.names), MAX_IMAGES))
    for index in np.unique(indices.round().astype(int)).tolist():
        sample = source.load(index)
        found = find_objects(sample.label, sample.instances)
        crowd = np.isin(source.classes, source.with_ids)[found.cls] & ~found.has_id
        thing = np.isin(source.classes, source.things)[found.cls]
        kept = (found.area >= _MIN_AREA) & ~crowd & thing
        parts.append((found.cls[kept], found.area[kept], found.width[kept]))
    return _Objects(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _terciles(size: NDArray[np.float64]) -> tuple[float, float]:
    """Sizes below which a third and two thirds of the objects are, in tenths of a px."""
    low, high = np.quantile(size, [1 / 3, 2 / 3]).round(1).tolist() if len(size) else (32.0, 96.0)
    return (low, high) if low < high else (low, low + 0.1)
