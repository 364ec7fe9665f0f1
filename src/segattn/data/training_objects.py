"""How large and how thin the objects of each class are in the training labels.

It sorts classes into groups by typical size, as the papers do, and sets quantile bins: from the
training split, never from the labels that the heads are tested on.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segattn.data.source import Source
from segattn.metrics import find_objects
from segattn.metrics.axes import quantile_edges, weighted_median

MAX_IMAGES = 500  # evenly spaced; enough for medians, and minutes instead of an hour at 2 Mpx


def training_objects(source: Source, *, min_area: int) -> dict[str, Any]:
    """Geometry of the objects of a training split, as plain values for result.json.

    Args:
        source: The training split.
        min_area: px; smaller objects do not count for the quantiles.

    Returns:
        `images`: how many were looked at. `size_terciles`: two edges, px, over all objects; None
        without any.
        `classes`: by name, `objects`, `pixels`, `size` (px, sqrt of the area) and `elongation`
        (area / width^2); the last two are medians over pixels, because specks, which are many and
        small, would decide a median over objects. None for a class without an object.
    """
    count = len(source.names)
    indices = np.unique(np.linspace(0, count - 1, min(count, MAX_IMAGES)).round().astype(int))
    frame = pd.concat([_geometry(source, index) for index in indices.tolist()])
    counted = frame[frame["area"] >= min_area]
    return {
        "images": len(indices),
        "size_terciles": _terciles(np.sqrt(counted["area"].to_numpy())),
        "classes": {
            name: _typical(frame[frame["cls"] == label])
            for label, name in enumerate(source.classes)
        },
    }


def _geometry(source: Source, index: int) -> pd.DataFrame:
    sample = source.load(index)
    objects = find_objects(sample.label, sample.instances)
    return pd.DataFrame({"cls": objects.cls, "area": objects.area, "width": objects.width})


def _terciles(sizes: NDArray[np.float64]) -> list[float] | None:
    return list(quantile_edges(sizes, num_bins=3)) if sizes.size else None


def _typical(objects: pd.DataFrame) -> dict[str, Any] | None:
    if objects.empty:
        return None
    area, width = objects["area"].to_numpy(np.float64), objects["width"].to_numpy(np.float64)
    return {
        "objects": len(objects),
        "pixels": int(area.sum()),
        "size": weighted_median(np.sqrt(area), area),
        "elongation": weighted_median(area / width**2, area),
    }
