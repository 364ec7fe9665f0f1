"""Objects of a label map: what they are, how big and how thin.

H, W = height and width of the image; K = its objects.
"""

from dataclasses import dataclass

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray


# not frozen: Lightning refuses a batch with a frozen dataclass when it moves it
@dataclass
class Objects:
    """The objects of one label map; they partition its valid pixels.

    Attributes:
        ids: int32 [H, W], object of each pixel: 0..K-1, or -1 where the label is void.
        cls: int64 [K], class.
        area: int64 [K], visible pixels, at least 1.
        width: float32 [K], px, of the widest place: a bar's width, a disc's diameter. The frame
            counts as outline.
        has_id: bool [K], taken from an instance id rather than from connectivity.
    """

    ids: NDArray[np.int32]
    cls: NDArray[np.int64]
    area: NDArray[np.int64]
    width: NDArray[np.float32]
    has_id: NDArray[np.bool_]


def find_objects(
    labels: NDArray[np.integer],
    instances: NDArray[np.integer] | None = None,
    *,
    ignore_index: int | None = 255,
) -> Objects:
    """Split the valid pixels of a label map into objects.

    A pixel with an instance id belongs to the object (class, id); every other valid pixel to an
    8-connected component of its class. (4-connectivity would break slanted poles.)

    Args:
        labels: [H, W], class of each pixel, any integer dtype.
        instances: [H, W], 0 = no id, any integer dtype; None without ids.
        ignore_index: Label of void pixels; None if every pixel is valid, as in a prediction.

    Raises:
        ValueError: If a map is not an array of integers, the shapes differ or are not [H, W], or a
            valid label or an id is out of range.
    """
    _check_maps(labels, instances, ignore_index)
    ids, cls, num_components = _partition(labels, instances, ignore_index)
    num_objects = len(cls)
    return Objects(
        ids=ids,
        cls=cls,
        area=np.bincount(ids.ravel() + 1, minlength=num_objects + 1)[1:],
        width=_widths(ids, num_objects),
        has_id=np.arange(num_objects) >= num_components,
    )


def _check_maps(
    labels: NDArray[np.integer], instances: NDArray[np.integer] | None, ignore_index: int | None
) -> None:
    maps = [labels] if instances is None else [labels, instances]
    kinds = {getattr(array.dtype, "kind", "torch") for array in maps}
    if labels.ndim != 2 or maps[-1].shape != labels.shape or not kinds <= {"i", "u"}:
        raise ValueError(
            "labels and instances must be numpy arrays of integers and share one shape [H, W], got "
            + " and ".join(f"{array.dtype} {list(array.shape)}" for array in maps)
        )
    valid = labels if ignore_index is None else labels[labels != ignore_index]
    if valid.size and (valid.min() < 0 or valid.max() >= 2**31 - 1):  # components are int32
        raise ValueError(
            f"labels must be 0 or more and below 2^31 - 1, got {valid.min()} to {valid.max()}; "
            f"void pixels must hold ignore_index={ignore_index}"
        )
    if instances is not None and instances.size and instances.min() < 0:
        raise ValueError(f"instance ids must be 0 (no id) or more, got {instances.min()}")


def _partition(
    labels: NDArray[np.integer], instances: NDArray[np.integer] | None, ignore_index: int | None
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Ids, classes and the number of components, which are numbered before the instances."""
    source = labels.astype(np.int32) + 1
    if ignore_index is not None:
        source[labels == ignore_index] = 0
    if instances is not None:
        has_id = (instances > 0) & (source > 0)
        source[has_id] = 0
    components, num_components = cc3d.connected_components(source, connectivity=8, return_N=True)
    ids = components.astype(np.int32) - 1
    num_objects = num_components
    if instances is not None:
        found, number = np.unique(instances[has_id], return_inverse=True)  # ids may have 64 bits
        pairs = labels[has_id].astype(np.int64) * len(found) + number
        pairs_found, inverse = np.unique(pairs, return_inverse=True)
        ids[has_id] = num_components + inverse
        num_objects += len(pairs_found)
    # Void pixels (-1) write to the spare last entry.
    cls = np.zeros(num_objects + 1, dtype=np.int64)
    cls[ids.ravel()] = labels.ravel()
    return ids, cls[:-1], num_components


def _widths(ids: NDArray[np.int32], num_objects: int) -> NDArray[np.float32]:
    """The distance of the innermost pixel plus that of the innermost 2 x 2 pixels: no rounding.

    Across a bar of 2k + 1 px the distances are 1, ..., k, k + 1, k, ..., 1, and across one of 2k px
    1, ..., k, k, ..., 1: the sum is its width in both cases.
    """
    distance = edt.edt((ids + 1).astype(np.uint32), black_border=True, parallel=1)
    inner = np.zeros((2, num_objects + 1))  # void pixels (-1) write to the last entry
    np.maximum.at(inner[0], ids.ravel(), distance.ravel())
    corners = [np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[:-1, 1:], np.s_[1:, 1:]]
    of_one = np.logical_and.reduce([ids[c] == ids[corners[0]] for c in corners])
    lowest = np.minimum.reduce([distance[c] for c in corners])
    np.maximum.at(inner[1], ids[corners[0]][of_one], lowest[of_one])
    return inner.sum(0)[:-1].astype(np.float32)
