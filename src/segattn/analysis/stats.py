"""Differences between heads, judged together.

H heads, S seeds, M scores, P pairs of heads, R bootstrap replicates. Scores are ratios of sums over
the test set, so images are resampled, never averaged. Images that depend on each other, such as the
frames of one video, are resampled as one block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segattn.analysis.noise import DRAWS, Noise
from segattn.base.errors import UserError
from segattn.metrics import Measures, iou_scores

REPLICATES = 1000
ALPHA = 0.05
MIN_SEEDS = 3
"""Fewer common seeds say nothing about the noise of training: values, no verdicts."""

_GAP = 5  # least gap between two states of a head, in smallest effects

Array = NDArray[np.float64]
Pair = tuple[str, str, str]
"""A head, the head that it is compared with, and a score."""


def smallest_effect(score: str) -> float:
    """The smallest effect of interest, as a fraction: 0.5 points of mIoU, 1 point of others."""
    return 0.005 if score == "miou" else 0.01


@dataclass(frozen=True)
class HeadScores:
    """Scores of one head by name, as fractions.

    Attributes:
        seeds: The S training seeds.
        values: Arrays [S] by score.
        replicates: Arrays [S, R] by score, over resampled test sets that all heads and seeds share.
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
    """Return the scores over the test set and over its bootstrap replicates.

    Args:
        counts: [S, images, C, 5, 3], see `segattn.metrics.image_counts`.
        measures: What to score.
        seeds: The S training seeds.
        blocks: The block of each image; whole blocks are drawn.
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
class Difference:
    """The score of one head minus that of another head, as fractions.

    Attributes:
        score: Its name.
        value: Mean over the common seeds; NaN where a score or a common seed is missing.
        seeds: Number of common seeds.
        of_seeds: Variance of `value` over seeds.
        of_images: Variance of `value` over resampled test sets.
        alone: Half of the 95 % interval of this difference by itself.
        adjusted: Half of its interval in a family whose intervals all hold with 95 %.
        p: Two-sided p-value against 0, adjusted over the family; NaN where it is not tested.
        split: Whether the seeds of one of the two heads fall into two states.
    """

    score: str
    value: float = np.nan
    seeds: int = 0
    of_seeds: float = np.nan
    of_images: float = np.nan
    alone: float = np.nan
    adjusted: float = np.nan
    p: float = np.nan
    split: bool = False

    @property
    def word(self) -> str:
        """The verdict: helps, harms, no difference, not decided or not tested."""
        if np.isnan(self.p):
            return "not tested"
        smallest, size = smallest_effect(self.score), abs(self.value)
        if not self.split and self.p < ALPHA and size - self.alone > smallest:
            return "helps" if self.value > 0 else "harms"
        within = not self.split and size + self.adjusted < smallest
        return "no difference" if within else "not decided"


@dataclass(frozen=True)
class Family:
    """Differences that are judged together.

    Attributes:
        differences: The differences by pair.
        states: Heads and scores whose seeds fall into two states, with the number of seeds in the
            upper one and the number of all.
        own_noise: Scores in which heads differ in the noise of their seeds.
    """

    differences: dict[Pair, Difference]
    states: dict[tuple[str, str], tuple[int, int]]
    own_noise: list[str]


def judge(
    heads: Mapping[str, HeadScores], shares: Sequence[tuple[float, Sequence[Pair]]]
) -> Family:
    """Compare pairs of heads on their common seeds and on the same test images.

    The variance of a difference is that over seeds plus that over resampled test sets. The variance
    over seeds is the residual of a two-way layout, heads x seeds, so that all heads contribute;
    where Levene's test finds that heads differ in it, a pair has the variance of its own
    differences.
    Tables of equal heads are simulated with these variances and the correlation of the scores, and
    judged in the same way: an adjusted p-value is the share of tables in which any difference of
    the family is more standard errors from 0 (Westfall and Young, Resampling-Based Multiple
    Testing, 1993).

    Args:
        heads: Scores by head.
        shares: Parts of the family, each with the part of `ALPHA` that is spent on it; these sum to
            1. A pair counts in the first part that holds it.
    """
    wanted = dict.fromkeys(pair for _, pairs in shares for pair in pairs)
    found = {pair: _value(heads, pair) for pair in wanted}
    known = [pair for pair in wanted if found[pair].seeds >= MIN_SEEDS]
    scores = [s for s in dict.fromkeys(pair[2] for pair in known) if _complete(heads, s)]
    versus = list(dict.fromkeys(pair[:2] for pair in known if pair[2] in scores))
    if not versus:
        return Family(found, {}, [])
    table, names = _Table(heads, versus, scores), list(heads)
    states = {
        (names[head], scores[score]): (upper, len(heads[names[head]].seeds))
        for (head, score), upper in table.states.items()
    }
    place = {p: (versus.index(p[:2]), scores.index(p[2])) for p in known if p[2] in scores}
    for share, pairs in shares:
        members = {pair: place.pop(pair) for pair in dict.fromkeys(pairs) if pair in place}
        largest = np.zeros(DRAWS)
        for row, column in members.values():
            largest = np.maximum(largest, table.null[:, row, column])
        critical = np.quantile(largest, 1 - ALPHA * share)
        for pair, at in members.items():
            beyond = int((largest >= table.ratio[at]).sum())
            found[pair] = replace(
                found[pair],
                of_seeds=float(table.of_seeds[at]),
                of_images=float(table.of_images[at]),
                alone=float(table.alone[at] * table.error[at]),
                adjusted=float(critical * table.error[at]),
                p=min(1.0, (1 + beyond) / (1 + DRAWS) / share),
                split=any((head, pair[2]) in states for head in pair[:2]),
            )
    own = [score for score, pooled in zip(scores, table.pooled, strict=True) if not pooled]
    return Family(found, states, own)


class _Table:
    """Differences of pairs of heads, [P, M], and of simulated equal heads, [DRAWS, P, M].

    `error` is the standard error, `ratio` the difference over it, `null` the ratios of equal heads,
    and `alone` the ratio that 5 % of these exceed in one difference.
    """

    def __init__(
        self,
        heads: Mapping[str, HeadScores],
        versus: Sequence[tuple[str, str]],
        scores: Sequence[str],
    ) -> None:
        rows, start = {}, 0
        for name, of_head in heads.items():
            rows[name] = np.arange(start, start := start + len(of_head.seeds))
        seeds = np.concatenate([of_head.seeds for of_head in heads.values()])
        values = _stack([of_head.values for of_head in heads.values()], scores)
        replicates = _stack([of_head.replicates for of_head in heads.values()], scores)
        pairs = []
        for one, other in versus:
            same = np.intersect1d(heads[one].seeds, heads[other].seeds, return_indices=True)
            pairs.append((rows[one][same[1]], rows[other][same[2]]))
        noise, rng = Noise(values, list(rows.values()), seeds), np.random.default_rng(0)
        value, self.of_seeds = noise.differences(values, pairs)
        images = np.stack([(replicates[a] - replicates[b]).mean(0) for a, b in pairs])
        # the plain bootstrap of K blocks is too narrow by (K - 1) / K
        freedom = next(iter(heads.values())).blocks - 1
        images = (images - np.nanmean(images, -1, keepdims=True)) * np.sqrt(1 + 1 / freedom)
        # a rare class can be missing from a replicate; such replicates do not count
        self.of_images = np.nanvar(images, -1, ddof=1)
        self.error = np.sqrt(self.of_seeds + self.of_images)
        self.ratio = _ratio(value, self.error)

        equal = noise.draw(rng)
        value, of_seeds = noise.differences(equal * noise.scale, pairs)
        drawn = rng.integers(images.shape[-1], size=DRAWS)
        value += np.nan_to_num(images)[..., drawn].transpose(2, 0, 1)
        doubt = rng.chisquare(freedom, (DRAWS, 1, 1)) / freedom
        self.null = _ratio(value, np.sqrt(of_seeds + self.of_images * doubt))
        self.alone = np.quantile(self.null, 1 - ALPHA, axis=0)
        least = _GAP * np.array([smallest_effect(score) for score in scores])
        self.states, self.pooled = noise.states(values, equal, least), noise.pooled


def _value(heads: Mapping[str, HeadScores], pair: Pair) -> Difference:
    """The mean difference of a pair over its common seeds."""
    one, other, score = pair
    if any(score not in heads[head].values if head in heads else True for head in pair[:2]):
        return Difference(score)
    _, a, b = np.intersect1d(heads[one].seeds, heads[other].seeds, return_indices=True)
    both = heads[one].values[score][a] - heads[other].values[score][b]
    return Difference(score, float(both.mean()), len(both)) if len(both) else Difference(score)


def _stack(parts: Sequence[dict[str, Array]], scores: Sequence[str]) -> Array:
    """All runs by score, [N, M] or [N, M, R]."""
    return np.concatenate([np.stack([part[s] for s in scores], 1) for part in parts])


def _complete(heads: Mapping[str, HeadScores], score: str) -> bool:
    return all(np.isfinite(of_head.values.get(score, np.nan)).all() for of_head in heads.values())


def _ratio(difference: Array, error: Array) -> Array:
    """Standard errors from 0; an error below 1e-9 is one of rounding."""
    return np.abs(difference) / np.maximum(error, 1e-9)
