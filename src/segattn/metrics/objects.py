"""Objects of a label map: what they are, how big and how thin.

H, W = image height and width; N = images; K = objects (of one image, or of the whole batch).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import cc3d
import edt
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

GROUPS: dict[str, tuple[int, ...]] = {
    "small": (0, 1),
    "medium": (2, 3),
    "large": (4, 5),
    "compact": (0, 2, 4),
    "thin": (1, 3, 5),
}
"""The joint bins of `SizeBins` that each reported group sums."""

ALL_GROUPS = GROUPS | {"small_or_thin": (0, 1, 3, 5)}
"""`GROUPS` and the union that a claim names."""


@dataclass(frozen=True)
class Objects:
    """The objects of one label map; they partition its valid pixels.

    Attributes:
        ids: int32 [H, W], object of each pixel: 0..K-1, or -1 where the label is void.
        cls: int64 [K], class.
        area: int64 [K], visible pixels, at least 1.
        width: float32 [K], px: twice the largest distance to the object's outline, minus one. This
            is the width of a bar and the diameter of a disc, one less where they are even; the
            frame counts as outline.
        border: bool [K], touches the frame, so a part may be cut off.
        from_instance: bool [K], taken from an instance id rather than from connectivity.
    """

    ids: NDArray[np.int32]
    cls: NDArray[np.int64]
    area: NDArray[np.int64]
    width: NDArray[np.float32]
    border: NDArray[np.bool_]
    from_instance: NDArray[np.bool_]


@dataclass(frozen=True)
class SizeBins:
    """Six joint bins, `2 * size + thin`, for the size and the shape of an object.

    Size is the side of the square of equal area, in cells of the feature grid, because the grid
    sets what a head can resolve. With the defaults the edges are the 32^2 and 96^2 px of COCO (Lin
    et al. 2014, https://arxiv.org/abs/1405.0312). An object is thin if area / width^2, which is
    a / b for a bar of a x b, 1 for a square and 0.8 for a disc, reaches `elongation`.

    Attributes:
        stride: px per cell. It belongs to the comparison: the same for all heads in it.
        size_edges: cells; lower edges of medium and of large. Lists are accepted.
        elongation: lower edge of thin.

    Raises:
        ValueError: If a value is not positive or the edges do not increase.
    """

    stride: int = 8
    size_edges: tuple[float, float] = (4.0, 12.0)
    elongation: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_edges", tuple(float(edge) for edge in self.size_edges))
        if len(self.size_edges) != 2 or not 0 < self.size_edges[0] < self.size_edges[1]:
            raise ValueError(
                f"size_edges must be two increasing positive numbers, got {self.size_edges}; "
                "the COCO sizes at stride 8 are (4, 12)"
            )
        if not (self.stride > 0 and self.elongation > 0):
            raise ValueError(
                "stride and elongation must be positive, "
                f"got stride={self.stride} and elongation={self.elongation}"
            )

    @property
    def num_bins(self) -> int:
        """Number of joint bins."""
        return 2 * (len(self.size_edges) + 1)

    def of(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Joint bin of each row of an object table, int64 [rows]."""
        return self.assign(frame["area"].to_numpy(), frame["width"].to_numpy())

    def assign(self, area: ArrayLike, width: ArrayLike) -> NDArray[np.int64]:
        """Joint bin of each object, int64 [K], from areas in px^2 and widths in px, both [K]."""
        area, width = np.asarray(area, dtype=np.float64), np.asarray(width, dtype=np.float64)
        size = np.digitize(np.sqrt(area) / self.stride, self.size_edges)
        thin = area >= self.elongation * width**2
        return size.astype(np.int64) * 2 + thin


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
        border=_touches_frame(ids, num_objects),
        from_instance=np.arange(num_objects) >= num_components,
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
    distance = edt.edt((ids + 1).astype(np.uint32), black_border=True, parallel=1)
    radius = np.zeros(num_objects + 1, dtype=np.float32)
    np.maximum.at(radius, ids.ravel(), distance.ravel())
    return 2 * radius[:-1] - 1


def _touches_frame(ids: NDArray[np.int32], num_objects: int) -> NDArray[np.bool_]:
    border = np.zeros(num_objects + 1, dtype=np.bool_)
    border[np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]])] = True
    return border[:-1]


# Not frozen: Lightning refuses a batch with a frozen dataclass when it converts its precision.
@dataclass
class BatchObjects:
    """The objects of a batch, numbered through the batch, as tensors that travel together.

    Attributes:
        ids: int64 [N, H, W], 0..K-1 over the batch, -1 = void.
        cls: int64 [K], class.
        area: int64 [K], px.
        width: float32 [K], px.
        border: bool [K], touches the frame.
        from_instance: bool [K], taken from an instance id.
        image: int64 [K], position in the batch, 0..N-1.
    """

    ids: Tensor
    cls: Tensor
    area: Tensor
    width: Tensor
    border: Tensor
    from_instance: Tensor
    image: Tensor

    def to(self, device: torch.device | str) -> "BatchObjects":
        """Copy on `device`; Lightning calls this when it moves a batch."""
        return self._map(lambda tensor: tensor.to(device))

    def pin_memory(self) -> "BatchObjects":
        """Copy in page-locked memory; DataLoader calls this when it pins a batch."""
        return self._map(Tensor.pin_memory)

    def bins(self, bins: SizeBins) -> Tensor:
        """Joint bin of each object, int64 [K], on the device of the objects."""
        joint = bins.assign(self.area.cpu().numpy(), self.width.cpu().numpy())
        return torch.from_numpy(joint).to(self.area.device)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "BatchObjects":
        return BatchObjects(**{f.name: function(getattr(self, f.name)) for f in fields(self)})


def stack_objects(objects: Sequence[Objects]) -> BatchObjects:
    """Number the objects of N images through the batch.

    Raises:
        ValueError: If there is no image or the images differ in size.
    """
    shapes = {item.ids.shape for item in objects}
    if len(shapes) != 1:
        raise ValueError(
            f"objects must come from one or more images of one size, got sizes {sorted(shapes)}; "
            "crop or pad the labels before find_objects"
        )
    counts = np.array([len(item.cls) for item in objects])
    first = np.cumsum(counts) - counts
    ids = [
        np.where(item.ids >= 0, item.ids + start, np.int64(-1))
        for item, start in zip(objects, first, strict=True)
    ]
    return BatchObjects(
        ids=torch.from_numpy(np.stack(ids)),
        cls=_join([item.cls for item in objects]),
        area=_join([item.area for item in objects]),
        width=_join([item.width for item in objects]),
        border=_join([item.border for item in objects]),
        from_instance=_join([item.from_instance for item in objects]),
        image=torch.from_numpy(np.repeat(np.arange(len(objects)), counts)),
    )


def _join(arrays: list[NDArray[np.generic]]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays))
