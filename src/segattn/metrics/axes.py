"""Bins of one property of an object, computed from the object table after the test.

The joint bins of `SizeBins` are fixed while a test runs. An axis is chosen afterwards: other edges,
a finer curve or another property need no second test.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from segattn.metrics.objects import SizeBins

Quantity = Literal["size", "width", "elongation", "fraction"]

_VALUES: dict[str, Callable[[pd.DataFrame, int], NDArray[np.float64]]] = {
    "size": lambda frame, stride: np.sqrt(_column(frame, "area")) / stride,
    "width": lambda frame, stride: _column(frame, "width") / stride,
    "elongation": lambda frame, stride: _column(frame, "area") / _column(frame, "width") ** 2,
    "fraction": lambda frame, stride: _column(frame, "area") / _column(frame, "frame_area"),
}


@dataclass(frozen=True)
class Axis:
    """B bins of one property, ordered from small to large values.

    With the edges of `SizeBins` the size and the elongation sort every object as it does.

    Attributes:
        quantity: "size", sqrt(area) in cells of the feature grid; "width" in cells; "elongation",
            area / width^2, 1 for a square; "fraction", area / area of the image, 0..1.
        edges: B - 1 lower edges of all bins but the first, in the unit of the quantity. An object
            on an edge is in the upper bin. Lists are accepted.
        stride: px per cell of size and width; 1 for edges in px. The others do not depend on it.

    Raises:
        ValueError: If the quantity is unknown, or the edges are not positive and increasing.
    """

    quantity: Quantity
    edges: tuple[float, ...]
    stride: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(float(edge) for edge in self.edges))
        if self.quantity not in _VALUES:
            raise ValueError(f"quantity must be one of {list(_VALUES)}, got {self.quantity!r}")
        if not self.edges or not all(low < high for low, high in pairwise((0.0, *self.edges))):
            raise ValueError(
                f"edges must be one or more increasing positive numbers, got {self.edges}; "
                "quantile edges repeat where many objects are equal, so take fewer bins"
            )
        if not self.stride > 0:
            raise ValueError(f"stride must be positive, got {self.stride}; 1 gives edges in px")

    @property
    def num_bins(self) -> int:
        """Number of bins B."""
        return len(self.edges) + 1

    @property
    def labels(self) -> list[str]:
        """Readable range of each bin, such as "< 4", "4 to 12" and ">= 12"."""
        text = [f"{edge:.4g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(text)]
        return [f"< {text[0]}", *between, f">= {text[-1]}"]

    def values(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """The quantity of each row of an object table, float64 [rows]."""
        return _VALUES[self.quantity](frame, self.stride)

    def of(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Bin of each row of an object table, int64 [rows], 0..B-1."""
        if self.quantity == "elongation":
            # A rounded quotient can fall on the other side of the edge than the rule of SizeBins.
            thin = [SizeBins(elongation=edge).of(frame) % 2 for edge in self.edges]
            return np.sum(thin, axis=0, dtype=np.int64)
        return np.digitize(self.values(frame), self.edges).astype(np.int64)


def half_octaves(low: float, high: float) -> tuple[float, ...]:
    """Edges low * 2^(k/2), k = 0, 1, ..., up to `high`, which is one of them if it fits.

    Raises:
        ValueError: If not 0 < low <= high.
    """
    if not 0 < low <= high:
        raise ValueError(f"low and high must be 0 < low <= high, got {low} and {high}")
    # The tolerance keeps a `high` that was rounded.
    steps = math.floor(2 * math.log2(high / low) + 1e-6)
    return tuple(low * 2 ** (k / 2) for k in range(steps + 1))


def quantile_edges(values: ArrayLike, *, num_bins: int = 3) -> tuple[float, ...]:
    """Edges that give each bin the same share of the objects, for example terciles.

    Take the values from the training split; edges from the test split fit what they sort.

    Args:
        values: [K], one per object, any real dtype.
        num_bins: B, at least 2.

    Returns:
        B - 1 numbers that do not decrease. They repeat where too many objects are equal; `Axis`
        refuses such edges.

    Raises:
        ValueError: If there is no value or fewer than 2 bins.
    """
    if num_bins < 2:
        raise ValueError(f"num_bins must be 2 or more, got {num_bins}")
    quantiles = np.quantile(_some(values), np.arange(1, num_bins) / num_bins)
    return tuple(quantiles.tolist())


def weighted_median(values: ArrayLike, weights: ArrayLike) -> float:
    """Smallest value that, with all below it, has at least half of the weight.

    With areas as weights it is a median over pixels, which specks cannot decide.

    Args:
        values: [K], any real dtype.
        weights: [K], 0 or more, not all 0.

    Raises:
        ValueError: If there is no value, the lengths differ or no weight is positive.
    """
    values, weights = _some(values), np.asarray(weights, dtype=np.float64)
    if weights.shape != values.shape or weights.min() < 0 or weights.sum() == 0:
        raise ValueError(
            "weights must be one per value, 0 or more and not all 0, got "
            f"{weights.size} from {weights.min(initial=0)} to {weights.max(initial=0)} "
            f"for {values.size} values"
        )
    return float(np.quantile(values, 0.5, weights=weights, method="inverted_cdf"))


def _column(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return frame[name].to_numpy(np.float64)


def _some(values: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("values must hold one or more objects, got none; lower min_area")
    return values
