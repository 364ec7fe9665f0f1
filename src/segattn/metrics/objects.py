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
        instances: [H, W], 0 = no id, any integer dtype; None if there are no ids.
        ignore_index: Label of void pixels; None if every pixel is valid, as in a prediction.

    Raises:
        ValueError: If the shapes differ or are not [H, W], or a valid label or an id is negative.
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
    if labels.ndim != 2 or (instances is not None and instances.shape != labels.shape):
        got = None if instances is None else instances.shape
        raise ValueError(
            f"labels and instances must share one shape [H, W], got {labels.shape} and {got}"
        )
    valid = labels if ignore_index is None else labels[labels != ignore_index]
    if valid.size and valid.min() < 0:
        raise ValueError(
            f"labels must be 0 or more, got {valid.min()}; "
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
        pairs = np.stack([labels[has_id], instances[has_id]]).astype(np.int64)
        source[has_id] = 0
    components, num_components = cc3d.connected_components(source, connectivity=8, return_N=True)
    ids = components.astype(np.int32) - 1
    num_objects = num_components
    if instances is not None:
        base = instances.max(initial=0).astype(np.int64) + 1
        pairs_found, inverse = np.unique(pairs[0] * base + pairs[1], return_inverse=True)
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
