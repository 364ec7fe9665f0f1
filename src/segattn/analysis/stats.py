"""Differences between heads, with the uncertainty of seeds and of test images.

S seeds, R bootstrap replicates. Scores are ratios of sums over the test set, so images are
resampled, never averaged; images that depend on each other, such as the frames of one video, are
resampled as one block.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from segattn.base.errors import UserError
from segattn.metrics import Measures, iou_scores

REPLICATES = 1000
MIN_SEEDS = 3
"""With fewer, the noise of training cannot be told: values and ranges, no verdicts."""

_LEAST_P = 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeadScores:
    """Scores of one head by name, as fractions.

    Attributes:
        seeds: The S training seeds.
        values: By score, [S].
        replicates: By score, [S, R], over resampled test sets that all heads and seeds share.
        blocks: Number of independent blocks of test images.
    """

    seeds: tuple[int, ...]
    values: dict[str, Array]
    replicates: dict[str, Array]
    blocks: int


def resample(
    counts: NDArray[np.int64],
    measures: Measures,
    *,
    seeds: Sequence[int],
    blocks: Sequence[int],
    replicates: int = REPLICATES,
) -> HeadScores:
    """Scores over the test set and over its bootstrap replicates.

    Args:
        counts: [S, N, C, 5, 3], see `segattn.metrics.image_counts`.
        measures: What to score.
        seeds: The S training seeds.
        blocks: The block of each of the N images; whole blocks are drawn.
        replicates: R.

    Raises:
        UserError: There are fewer than 2 blocks.
    """
    of_image = np.unique(np.asarray(blocks), return_inverse=True)[1]
    number = int(of_image.max()) + 1
    if number < 2:
        raise UserError("an interval needs 2 blocks of test images or more, such as 2 images")
    by_block = np.zeros((len(counts), number, *counts.shape[2:]))
    for seed, of_seed in enumerate(counts):
        np.add.at(by_block[seed], of_image, of_seed)
    rng = np.random.default_rng(0)  # one stream for all heads: their test sets stay paired
    weights = rng.multinomial(number, np.full(number, 1 / number), size=replicates)
    flat = by_block.reshape(len(counts), number, -1)
    drawn = (weights.astype(np.float64) @ flat).reshape(len(counts), replicates, *counts.shape[2:])
    return HeadScores(
        seeds=tuple(seeds),
        values=iou_scores(by_block.sum(1), measures),
        replicates=iou_scores(drawn, measures),
        blocks=number,
    )


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of scores with its uncertainty, as fractions.

    The variance is that of the mean over seeds, known with S - 1 degrees of freedom, plus that over
    resampled test sets. The critical value is the mean of those of both t distributions, weighted
    by their variances (Cochran and Cox, Experimental Designs, 1957, section 4.14). One t
    distribution with Welch's degrees of freedom gives too many false answers where few seeds happen
    to agree: in simulations up to 23% of reports instead of 5.

    Attributes:
        value: Mean over the S common seeds; NaN where a score or a common seed is missing.
        of_seeds: Variance of the mean over seeds.
        of_images: Variance over test sets.
        seeds: S.
        blocks: Independent blocks of test images.
    """

    value: float
    of_seeds: float = math.nan
    of_images: float = math.nan
    seeds: int = 0
    blocks: int = 0

    @property
    def known(self) -> bool:
        """Whether there are the scores, and seeds enough for a verdict."""
        return not math.isnan(self.value) and self.seeds >= MIN_SEEDS

    @property
    def se(self) -> float:
        """Standard error."""
        return math.sqrt(self.of_seeds + self.of_images)

    @property
    def p(self) -> float:
        """Two-sided p-value against 0; NaN where unknown."""
        if not self.known:
            return math.nan
        if self.se == 0:
            return 1.0 if self.value == 0 else 0.0
        ratio = abs(self.value) / self.se
        if self._critical(_LEAST_P) <= ratio:
            return _LEAST_P
        # on a logarithmic scale, since small values matter
        root = optimize.brentq(
            lambda x: self._critical(math.exp(x)) - ratio, math.log(_LEAST_P), 0, xtol=1e-9
        )
        return math.exp(float(root))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Lower and upper end; (NaN, NaN) where unknown."""
        if not self.known:
            return math.nan, math.nan
        half = self._critical(1 - confidence) * self.se if self.se else 0.0
        return self.value - half, self.value + half

    def _critical(self, p: float) -> float:
        """How many standard errors from 0 have the two-sided p-value `p`."""
        of_seeds, of_images = stats.t.isf(p / 2, [self.seeds - 1, self.blocks - 1])
        both = self.of_seeds * of_seeds + self.of_images * of_images
        return float(both / (self.of_seeds + self.of_images))


def estimate(heads: Mapping[str, HeadScores], terms: Sequence[tuple[float, str, str]]) -> Estimate:
    """A contrast on the seeds and test images that its heads share.

    The standard error is the root of (variance over seeds / S + variance over resampled test sets).

    Args:
        heads: Scores by head.
        terms: (weight, head, score), such as (1, "fla", "miou"), (-1, "fcn", "miou").
    """
    nothing = Estimate(math.nan)
    if any(head not in heads or score not in heads[head].values for _, head, score in terms):
        return nothing
    common = sorted(set.intersection(*(set(heads[head].seeds) for _, head, _ in terms)))
    if not common:
        return nothing
    rows = {head: [heads[head].seeds.index(seed) for seed in common] for _, head, _ in terms}
    values = sum(w * heads[h].values[s][rows[h]] for w, h, s in terms)
    drawn = sum(w * heads[h].replicates[s][rows[h]] for w, h, s in terms)
    if np.isnan(values).any():
        return nothing
    # a rare class can miss from a replicate; the spread is that of those which have it
    of_images = float(np.nanvar(np.mean(drawn, axis=0), ddof=1))
    of_seeds = float(np.var(values, ddof=1)) / len(common) if len(common) > 1 else 0.0
    blocks = heads[terms[0][1]].blocks
    # the plain bootstrap of K blocks is too narrow by (K - 1) / K
    of_images *= blocks / (blocks - 1)
    return Estimate(float(np.mean(values)), of_seeds, of_images, len(common), blocks)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's method; NaN entries are not tested and stay NaN.

    Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)[: int((~np.isnan(values)).sum())]
    scaled = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1) if len(order) else scaled
    return adjusted.tolist()
