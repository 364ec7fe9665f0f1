"""The classes that each bin of object size scores: a fact of a data set's training labels."""

from collections.abc import Callable
from typing import Any

import numpy as np

from segattn.data.source import Source, Split
from segattn.metrics import BINS, SIZES, Measures, find_objects

MAX_IMAGES = 500  # evenly spaced; minutes instead of an hour at 2 Mpx
_MIN_OBJECTS = 50
_MIN_AREA = 16  # px; smaller ones are specks of the labelling


def measures_of(data: Callable[[Split], Source], *, radius: float) -> Measures:
    """What is measured on a data set, with bins of classes that are fixed before any test.

    Args:
        data: Gives a split; that of training is read where the data set states no `size_classes`.
        radius: px, see `Measures`.
    """
    source = data("test")
    known = source.size_classes
    return Measures(
        source.classes,
        class_groups=source.class_groups,
        size_classes=find_size_classes(data("train")) if known is None else known,
        with_ids=source.with_ids,
        size_edges=source.size_edges,
        radius=radius,
    )


def find_size_classes(source: Source) -> dict[str, tuple[str, ...]]:
    """Things with 50 objects of 16 px or more in a bin, by bin; a bin without any is left out.

    Args:
        source: The training split; of more than 500 images, 500 are looked at.
    """
    rules = Measures(source.classes, size_edges=source.size_edges)
    numbers = np.zeros((len(BINS), len(source.classes)), np.int64)
    indices = np.linspace(0, len(source.names) - 1, min(len(source.names), MAX_IMAGES))
    for index in np.unique(indices.round().astype(int)).tolist():
        sample = source.load(index)
        objects = find_objects(sample.label, sample.instances)
        crowd = np.isin(source.classes, source.with_ids)[objects.cls] & ~objects.has_id
        counted = (objects.area >= _MIN_AREA) & ~crowd
        cls, area, width = objects.cls[counted], objects.area[counted], objects.width[counted]
        sized: Any = (rules.size(area), cls)
        np.add.at(numbers, sized, 1)
        np.add.at(numbers[len(SIZES)], cls[rules.thin(area, width)], 1)
    enough = {
        bin_: tuple(
            name for name in source.things if row[source.classes.index(name)] >= _MIN_OBJECTS
        )
        for bin_, row in zip(BINS, numbers, strict=True)
    }
    return {bin_: names for bin_, names in enough.items() if names}
