"""Scores of a head and paired differences between heads, with seed and image uncertainty.

Axes: S seeds, N images, R bootstrap replicates, C classes, B = 6 joint bins (size x thinness).
The last axis of every count array is (tp, area, fp, fp_far), in pixels. IoU and recall are
fractions in [0, 1]; a score without ground truth is NaN.

All scores are ratios of sums over the test set, so images are resampled, never averaged. Images
that depend on each other, such as the frames of one video, are resampled as one block.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segattn.metrics import ALL_GROUPS

TP, AREA, FP, FP_FAR = range(4)
REPLICATES = 2000
CONFIDENCE = 0.95

Array = NDArray[np.float64]
Contrast = Callable[[Array], Array]
"""Maps counts [..., C, B, 4] to a score [...]; the leading axes are seeds or replicates."""


@dataclass(frozen=True)
class Estimate:
    """A score or a contrast of scores with its interval.

    Attributes:
        value: Mean over seeds, as a fraction.
        low: Lower end of the 95% t interval.
        high: Upper end.
        se: Standard error; NaN where the score is absent.
        se_seed: Its part from the seeds, 0 with one seed; se^2 = se_seed^2 + se_images^2.
        se_images: Its part from the test images.
        df: Welch-Satterthwaite degrees of freedom.
        p: Two-sided p-value against 0; NaN for the score of one head.
        seeds: Number of seeds. With 1 the interval holds image noise only.
        images: Number of test images.
        blocks: Number of independent blocks of test images.
    """

    value: float
    low: float
    high: float
    se: float
    se_seed: float
    se_images: float
    df: float
    p: float
    seeds: int
    images: int
    blocks: int

    def bounds(self, confidence: float) -> tuple[float, float]:
        """The t interval at another confidence, a fraction: (low, high).

        Raises:
            ValueError: `confidence` is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; give 0.9")
        half = _half_width(self.se, df=self.df, confidence=confidence)
        return self.value - half, self.value + half

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of the hypothesis that the value is at most `threshold`."""
        if self.se == 0:
            return 0.0 if self.value > threshold else 1.0
        return float(stats.t.sf((self.value - threshold) / self.se, self.df))


@dataclass(frozen=True)
class Sample:
    """The counts of one head, summed over the test images and over resampled test sets.

    Attributes:
        seeds: The S training seeds.
        images: Number of test images N.
        blocks: Number of independent blocks of images; N where every image is one.
        sums: [S, C, B, 4].
        replicates: [S, R, C, B, 4].
    """

    seeds: tuple[int, ...]
    images: int
    blocks: int
    sums: Array
    replicates: Array


def resample(
    z: NDArray[np.int64],
    *,
    seeds: Sequence[int],
    blocks: Sequence[int] | None = None,
    replicates: int = REPLICATES,
) -> Sample:
    """Sum per-image counts over the test set and over its bootstrap replicates.

    The weights depend on the blocks and `replicates` alone: every head and every seed sees the
    same resampled test sets, so differences between heads are paired.

    Args:
        z: Counts [S, N, C, B, 4] int64; images in the same order for every head.
        seeds: The S training seeds.
        blocks: The block of each of the N images; whole blocks are drawn. None: every image is
            a block of its own. With few blocks, K, the bootstrap variance is known to be too
            small, for a mean by the factor (K - 1) / K.
        replicates: Number of resampled test sets R.

    Raises:
        ValueError: Fewer than 2 blocks, or not one block per image.
    """
    num_seeds, num_images, *cell = z.shape
    block = _block_indices(blocks, num_images=num_images)
    num_blocks = len(np.unique(block))
    if num_blocks < 2:
        what = "test images" if blocks is None else "blocks of test images, cut videos into more"
        raise ValueError(f"an interval needs at least 2 {what}, got {num_blocks}")
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=replicates)
    weights = drawn.take(block, axis=1).astype(np.float64)
    flat = z.reshape(num_seeds, num_images, -1).astype(np.float64)
    return Sample(
        seeds=tuple(seeds),
        images=num_images,
        blocks=num_blocks,
        sums=flat.sum(axis=1).reshape(num_seeds, *cell),
        replicates=(weights @ flat).reshape(num_seeds, replicates, *cell),
    )


def class_iou(sums: Array) -> Array:
    """Ordinary IoU per class: counts [..., C, B, 4] to [..., C]; NaN where nothing is counted."""
    total = sums.sum(axis=-2)
    return _ratio(total[..., TP], total[..., AREA] + total[..., FP] + total[..., FP_FAR])


def miou(sums: Array) -> Array:
    """Mean of `class_iou` over the classes: counts [..., C, B, 4] to [...]."""
    return _mean(class_iou(sums))


def group_iou(sums: Array, *, classes: Sequence[int]) -> Array:
    """Mean of `class_iou` over some classes: counts [..., C, B, 4] to [...]."""
    return _mean(class_iou(sums)[..., list(classes)])


def bin_iou(sums: Array, *, group: str, classes: Sequence[int]) -> Array:
    """Mean over `classes` of tp / (area + fp + fp_far) within a size group.

    Args:
        sums: Counts [..., C, B, 4].
        group: A key of `segattn.metrics.ALL_GROUPS`, for example "small".
        classes: The class set of the bin, fixed by the ground truth and so equal for all heads.

    Returns:
        IoU [...]; a class without ground truth in the group does not enter the mean.
    """
    cell = _cells(sums, group=group, classes=classes)
    union = cell[..., AREA] + cell[..., FP] + cell[..., FP_FAR]
    return _mean(np.where(cell[..., AREA] > 0, _ratio(cell[..., TP], union), np.nan))


def bin_recall(sums: Array, *, group: str | None = None, classes: Sequence[int]) -> Array:
    """Mean over `classes` of tp / area within a size group; `group` None takes all sizes.

    Recall charges no false positive to any bin, so it does not depend on how they are attributed.
    Shapes as in `bin_iou`.
    """
    cell = _cells(sums, group=group, classes=classes)
    return _mean(_ratio(cell[..., TP], cell[..., AREA]))


def interval(sample: Sample, contrast: Contrast) -> Estimate:
    """The score of one head with its 95% interval."""
    return _estimate(contrast(sample.sums), contrast(sample.replicates), sample=sample, test=False)


def paired_difference(a: Sample, b: Sample, contrast: Contrast) -> Estimate:
    """Head `a` minus head `b`: the `linear_contrast` with weights 1 and -1."""
    return linear_contrast([(1.0, a, contrast), (-1.0, b, contrast)])


def linear_contrast(terms: Sequence[tuple[float, Sample, Contrast]]) -> Estimate:
    """Weighted sum of scores on the seeds and images that all terms have.

    The interaction "a gains more on large objects than on small ones, compared with b" is
    `[(1, a, large), (-1, b, large), (-1, a, small), (1, b, small)]`.

    SE^2 = var_seed / S + var_image, where var_seed is the variance of the sum over seeds and
    var_image its variance over resampled test sets; df by Welch-Satterthwaite
    (Satterthwaite, An approximate distribution of estimates of variance components, 1946).

    Args:
        terms: One or more (weight, head, score).

    Returns:
        The sum; NaN with `seeds` 0 where the terms share no seed.

    Raises:
        ValueError: The heads were tested on different numbers of images or of blocks.
    """
    samples = [sample for _, sample, _ in terms]
    _check_paired(samples)
    common = sorted(set.intersection(*(set(sample.seeds) for sample in samples)))
    parts: list[tuple[Array, Array]] = []
    for weight, sample, contrast in terms:
        rows = [sample.seeds.index(seed) for seed in common]
        scores = contrast(sample.sums[rows]), contrast(sample.replicates[rows])
        parts.append((weight * scores[0], weight * scores[1]))
    per_seed, replicates = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    return _estimate(per_seed, replicates, sample=samples[0], test=True)


def welch_df(seed_var: float, *, image_var: float, seeds: int, blocks: int) -> float:
    """Degrees of freedom of the variance of a mean over seeds plus that over test sets.

    `seed_var` is 0 with one seed; the result is infinite where both variances are 0.
    """
    spread = seed_var**2 / max(seeds - 1, 1) + image_var**2 / (blocks - 1)
    return math.sqrt(seed_var + image_var) ** 4 / spread if spread > 0 else math.inf


def _block_indices(blocks: Sequence[int] | None, *, num_images: int) -> NDArray[np.intp]:
    """Blocks [N] as indices from 0."""
    if blocks is None:
        return np.arange(num_images)
    if len(blocks) != num_images:
        raise ValueError(
            f"blocks must name the block of each of the {num_images} images, got {len(blocks)}"
        )
    return np.unique(np.asarray(blocks), return_inverse=True)[1]


def _check_paired(samples: Sequence[Sample]) -> None:
    for key in ("images", "blocks"):
        first, *others = (getattr(sample, key) for sample in samples)
        for other in others:
            if other != first:
                raise ValueError(
                    f"heads tested on {first} and {other} {key} cannot be paired; "
                    "give every head the same images in the same blocks"
                )


def _estimate(per_seed: Array, replicates: Array, *, sample: Sample, test: bool) -> Estimate:
    """Combine the seed part [S] and the image part [S, R] into one t interval."""
    seeds, nan = len(per_seed), math.nan
    sizes = (seeds, sample.images, sample.blocks)
    if seeds == 0 or np.isnan(per_seed).any():
        return Estimate(nan, nan, nan, nan, nan, nan, nan, nan, *sizes)
    value = float(per_seed.mean())
    # a rare class can miss from a replicate; the spread is that of the replicates which have it
    image_var = float(np.nanvar(replicates.mean(axis=0), ddof=1))
    seed_var = float(per_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    se = math.sqrt(seed_var + image_var)
    df = welch_df(seed_var, image_var=image_var, seeds=seeds, blocks=sample.blocks)
    half = _half_width(se, df=df, confidence=CONFIDENCE)
    p = _p_value(value, se, df) if test else nan
    parts = (se, math.sqrt(seed_var), math.sqrt(image_var))
    return Estimate(value, value - half, value + half, *parts, df, p, *sizes)


def _half_width(se: float, *, df: float, confidence: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, df)) * se


def _p_value(value: float, se: float, df: float) -> float:
    if se == 0:  # the same predictions for every seed, or the same change in every image
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / se, df))


def _cells(sums: Array, *, group: str | None, classes: Sequence[int]) -> Array:
    """Counts [..., len(classes), 4] of a size group, all sizes for None."""
    chosen = sums[..., list(classes), :, :]
    return (chosen if group is None else chosen[..., list(ALL_GROUPS[group]), :]).sum(axis=-2)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(
        numerator,
        denominator,
        out=np.full(np.shape(numerator), np.nan),
        where=denominator > 0,
    )


def _mean(values: Array) -> Array:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1))
