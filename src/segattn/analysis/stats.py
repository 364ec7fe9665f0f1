"""Scores of a head and paired differences between heads, with seed and image uncertainty.

Axes: S seeds, N images, R bootstrap replicates, C classes, B = 6 joint bins (size x thinness).
The last axis of every count array is (tp, area, fp, fp_far), in pixels. IoU and recall are
fractions in [0, 1]; a score without ground truth is NaN.

All scores are ratios of sums over the test set, so images are resampled, never averaged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segattn.metrics import GROUPS

TP, AREA, FP, FP_FAR = range(4)
REPLICATES = 2000
CONFIDENCE = 0.95

Array = NDArray[np.float64]
Contrast = Callable[[Array], Array]
"""Maps counts [..., C, B, 4] to a score [...]; the leading axes are seeds or replicates."""


@dataclass(frozen=True)
class Estimate:
    """A score or a difference of scores with its interval.

    Attributes:
        value: Mean over seeds, as a fraction.
        low: Lower end of the 95% t interval.
        high: Upper end.
        se: Standard error; NaN where the score is absent.
        df: Welch-Satterthwaite degrees of freedom.
        p: Two-sided p-value against 0; NaN for the score of one head.
        seeds: Number of seeds. With 1 the interval holds image noise only.
        images: Number of test images.
    """

    value: float
    low: float
    high: float
    se: float
    df: float
    p: float
    seeds: int
    images: int


@dataclass(frozen=True)
class Sample:
    """The counts of one head, summed over the test images and over resampled test sets.

    Attributes:
        seeds: The S training seeds.
        images: Number of test images N.
        sums: [S, C, B, 4].
        replicates: [S, R, C, B, 4].
    """

    seeds: tuple[int, ...]
    images: int
    sums: Array
    replicates: Array


def resample(z: NDArray[np.int64], *, seeds: Sequence[int], replicates: int = REPLICATES) -> Sample:
    """Sum per-image counts over the test set and over its bootstrap replicates.

    The weights depend on N and `replicates` alone: every head and every seed sees the same
    resampled test sets, so differences between heads are paired.

    Args:
        z: Counts [S, N, C, B, 4] int64; images in the same order for every head.
        seeds: The S training seeds.
        replicates: Number of resampled test sets R.

    Raises:
        ValueError: Fewer than 2 images.
    """
    num_seeds, num_images, *cell = z.shape
    if num_images < 2:
        raise ValueError(f"an interval needs at least 2 test images, got {num_images}")
    rng = np.random.default_rng(0)
    weights = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=replicates)
    flat = z.reshape(num_seeds, num_images, -1).astype(np.float64)
    sums = (weights.astype(np.float64) @ flat).reshape(num_seeds, replicates, *cell)
    return Sample(tuple(seeds), num_images, flat.sum(axis=1).reshape(num_seeds, *cell), sums)


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
        group: A key of `segattn.metrics.GROUPS`, for example "small".
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
    per_seed, replicates = contrast(sample.sums), contrast(sample.replicates)
    return _estimate(per_seed, replicates, images=sample.images, test=False)


def paired_difference(a: Sample, b: Sample, contrast: Contrast) -> Estimate:
    """Head `a` minus head `b` on the seeds and images both have.

    SE^2 = var_seed / S + var_image, where var_seed is the variance of the difference over seeds
    and var_image its variance over resampled test sets; df by Welch-Satterthwaite
    (Satterthwaite, An approximate distribution of estimates of variance components, 1946).

    Returns:
        The difference; NaN with `seeds` 0 where the heads share no seed.

    Raises:
        ValueError: The heads were tested on different numbers of images.
    """
    if a.images != b.images:
        raise ValueError(f"heads tested on {a.images} and {b.images} images cannot be paired")
    common = sorted(set(a.seeds) & set(b.seeds))
    rows_a, rows_b = ([s.seeds.index(seed) for seed in common] for s in (a, b))
    per_seed = contrast(a.sums[rows_a]) - contrast(b.sums[rows_b])
    replicates = contrast(a.replicates[rows_a]) - contrast(b.replicates[rows_b])
    return _estimate(per_seed, replicates, images=a.images, test=True)


def _estimate(per_seed: Array, replicates: Array, *, images: int, test: bool) -> Estimate:
    """Combine the seed part [S] and the image part [S, R] into one t interval."""
    seeds = len(per_seed)
    if seeds == 0 or np.isnan(per_seed).any():
        nan = float("nan")
        return Estimate(nan, nan, nan, nan, nan, nan, seeds, images)
    value = float(per_seed.mean())
    # a rare class can miss from a replicate; the spread is that of the replicates which have it
    image_var = float(np.nanvar(replicates.mean(axis=0), ddof=1))
    seed_var = float(per_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    se = float(np.sqrt(seed_var + image_var))
    spread = seed_var**2 / max(seeds - 1, 1) + image_var**2 / (images - 1)
    df = se**4 / spread if spread > 0 else float("inf")
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * se
    p = _p_value(value, se, df) if test else float("nan")
    return Estimate(value, value - half, value + half, se, df, p, seeds, images)


def _p_value(value: float, se: float, df: float) -> float:
    if se == 0:  # the same predictions for every seed, or the same change in every image
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / se, df))


def _cells(sums: Array, *, group: str | None, classes: Sequence[int]) -> Array:
    """Counts [..., len(classes), 4] of a size group, all sizes for None."""
    chosen = sums[..., list(classes), :, :]
    return (chosen if group is None else chosen[..., list(GROUPS[group]), :]).sum(axis=-2)


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
