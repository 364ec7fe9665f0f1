"""The noise of training in heads x seeds: how large it is, how alike, and in how many states.

H heads, N runs, M scores, P pairs of heads; leading axes "..." are simulated comparisons.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

DRAWS = 2000
"""Number of simulated comparisons of equal heads."""

_LEVENE = 0.05  # p-value below which heads differ in the noise of their seeds
_GAP_LEVEL = 0.99  # share of simulated comparisons whose gaps are smaller than one that counts
_GAP_DRAWS = 500

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class Noise:
    """A two-way layout of heads and seeds, in which runs may be missing.

    Args:
        values: [N, M], the scores of all runs.
        heads: The rows of each head's runs.
        seeds: [N], seeds of the runs.

    Attributes:
        pooled: [M], whether heads have the same noise, as far as Levene's test can see.
        scale: [N, M], standard deviation over seeds of the run's head.
    """

    def __init__(self, values: Array, heads: Sequence[Rows], seeds: Rows) -> None:
        self._heads, number = heads, len(values)
        design = np.zeros((number, len(heads)))
        for head, rows in enumerate(heads):
            design[rows, head] = 1
        design = np.hstack([design, seeds[:, None] == np.unique(seeds)])
        self._residual = np.eye(number) - design @ np.linalg.pinv(design)
        self._freedom = max(number - int(np.linalg.matrix_rank(design)), 1)
        residuals = self._residual @ values
        self.pooled = np.ones(values.shape[1], bool)
        far = [np.abs(residuals[rows] - residuals[rows].mean(0)) for rows in heads if len(rows) > 2]
        if len(far) > 2:  # the residuals of two heads differ in their signs alone
            with np.errstate(all="ignore"):
                self.pooled = ~(stats.f_oneway(*far, axis=0).pvalue < _LEVENE)
        self.scale = np.empty_like(values)
        for rows in heads:
            own = (residuals[rows] ** 2).sum(0) / max(np.diag(self._residual)[rows].sum(), 1e-9)
            self.scale[rows] = np.sqrt(np.where(self.pooled, self._variance(values), own))
        shape = residuals / np.where(self.scale > 0, self.scale, 1)
        products = shape.T @ shape + 1e-9 * np.eye(values.shape[1])
        length = np.sqrt(np.diag(products))
        correlation = products / np.outer(length, length) + 1e-6 * np.eye(len(length))
        self._root = np.linalg.cholesky(correlation)

    def _variance(self, values: Array) -> Array:
        """Residual variance over all heads, [..., M]."""
        return ((self._residual @ values) ** 2).sum(-2) / self._freedom

    def draw(self, rng: np.random.Generator) -> Array:
        """Equal heads with unit variance and the correlation of the scores, [DRAWS, N, M]."""
        size = (DRAWS, len(self._residual), len(self._root))
        return rng.standard_normal(size) @ self._root.T

    def differences(self, values: Array, pairs: Sequence[tuple[Rows, Rows]]) -> tuple[Array, Array]:
        """Mean difference of each pair of heads, and its variance over seeds, [..., P, M].

        Args:
            values: [..., N, M], the runs or simulated ones.
            pairs: The rows of the common seeds, of one head and of the other.
        """
        weights = np.zeros((len(pairs), len(self._residual)))
        for pair, (one, other) in enumerate(pairs):
            weights[pair, one], weights[pair, other] = 1 / len(one), -1 / len(other)
        variance = np.repeat(2 * self._variance(values)[..., None, :], len(pairs), axis=-2)
        if not self.pooled.all():
            own = ~self.pooled
            for pair, (one, other) in enumerate(pairs):
                difference = values[..., one, :][..., own] - values[..., other, :][..., own]
                variance[..., pair, own] = difference.var(-2, ddof=1)
        return weights @ values, variance / np.array([len(one) for one, _ in pairs])[:, None]

    def states(self, values: Array, equal: Array, least: Array) -> dict[tuple[int, int], int]:
        """Heads whose seeds fall into two states: the number of runs in the upper one.

        The largest gap between the ordered seeds of a head is divided by the spread on both sides
        of it, measured in this head or in all heads, whichever is larger. It counts where the ratio
        is larger than any in 99 % of comparisons of heads with one state, and the gap is larger
        than `least`.

        Args:
            values: [N, M], the scores of all runs.
            equal: Heads with one state, from `draw`.
            least: [M].

        Returns:
            Numbers of the head and of the score, with the number of runs.
        """
        if max(map(len, self._heads)) < 3:
            return {}
        gaps, above, ratios = self._gaps(values)
        largest = self._gaps(equal[:_GAP_DRAWS])[2].max((-2, -1))
        threshold = np.quantile(largest, _GAP_LEVEL)
        found = np.argwhere((ratios > threshold) & (gaps > least))
        return {(int(head), int(score)): int(above[head, score]) for head, score in found}

    def _gaps(self, values: Array) -> tuple[Array, Array, Array]:
        """Largest gap of each head, runs above it, and gap over spread, [..., H, M]."""
        gaps, above, squares, numbers = [], [], [], [len(rows) for rows in self._heads]
        for rows in self._heads:
            ordered, number = np.sort(values[..., rows, :], axis=-2), len(rows)
            steps = np.diff(ordered, axis=-2, append=ordered[..., -1:, :])
            below = steps.argmax(-2) + 1
            low = np.arange(number)[:, None] < below[..., None, :]
            lower = (ordered * low).sum(-2) / below
            upper = (ordered * ~low).sum(-2) / np.maximum(number - below, 1)
            inner = np.where(low, lower[..., None, :], upper[..., None, :])
            squares.append(((ordered - inner) ** 2).sum(-2))
            gaps.append(steps.max(-2) if number > 2 else 0 * steps.max(-2))
            above.append(number - below)
        own = np.stack(squares, -2) / np.maximum(np.array(numbers) - 2, 1)[:, None]
        pooled = np.sum(squares, 0)[..., None, :] / np.maximum(np.array(numbers) - 2, 0).sum()
        with np.errstate(all="ignore"):
            ratios = np.stack(gaps, -2) / np.sqrt(np.maximum(own, pooled))
        return np.stack(gaps, -2), np.stack(above, -2), ratios
