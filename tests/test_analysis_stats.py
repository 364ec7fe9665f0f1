from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from segattn.analysis.stats import (
    REPLICATES,
    bin_iou,
    bin_recall,
    class_iou,
    interval,
    miou,
    paired_difference,
    resample,
)
from segattn.metrics import Counts

CLASSES = 3


def random_counts(seed=0, *, seeds=3, images=20, gain=0.0, seed_noise=0.05):
    """Counts of a head; the images are equally hard for every head with the same `images`."""
    rng = np.random.default_rng((1, seed))
    shape = (seeds, images, CLASSES, 6)
    hard = np.random.default_rng(7).normal(0, 0.1, shape[1:])
    area = np.broadcast_to(np.random.default_rng(8).integers(50, 500, shape[1:]), shape)
    recall = 0.6 + gain + hard + rng.normal(0, seed_noise, (seeds, 1, CLASSES, 6))
    tp = (area * np.clip(recall, 0, 1)).astype(np.int64)
    fp, far = rng.integers(0, 20, shape), rng.integers(0, 5, shape)
    return np.stack([tp, area, fp, far], axis=-1)


def test_scores_equal_those_of_the_metric():
    sums = random_counts().sum(axis=(0, 1))
    tp, area, fp, far = (torch.from_numpy(sums[..., k].copy()) for k in range(4))
    zero = torch.zeros_like(tp)
    scores = Counts(
        tp=tp, area=area, fp=fp, fp_far=far, n_obj=zero, sum_iou=zero, sum_rec=zero
    ).scores()
    assert miou(sums.astype(float)) == pytest.approx(float(scores["miou"]), abs=1e-12)
    np.testing.assert_allclose(class_iou(sums.astype(float)), scores["class_iou"])


def test_bin_scores_by_hand():
    sums = np.zeros((2, 6, 4))
    sums[0, 0] = (30, 50, 5, 5)  # small compact
    sums[0, 1] = (10, 10, 0, 30)  # small thin
    sums[0, 5] = (1, 100, 0, 0)  # large thin, must not enter "small"
    sums[1, 0] = (20, 20, 20, 0)
    assert bin_iou(sums, group="small", classes=[0]) == pytest.approx(40 / 100)
    assert bin_iou(sums, group="small", classes=[0, 1]) == pytest.approx((0.4 + 0.5) / 2)
    assert bin_recall(sums, group="small", classes=[0]) == pytest.approx(40 / 60)
    assert bin_recall(sums, classes=[0]) == pytest.approx(41 / 160)


def test_a_class_without_ground_truth_leaves_the_mean_of_its_bin():
    sums = np.zeros((2, 6, 4))
    sums[0, 0] = (30, 50, 0, 10)
    sums[1, 0] = (0, 0, 0, 70)  # false alarms only
    assert bin_iou(sums, group="small", classes=[0, 1]) == pytest.approx(0.5)
    assert np.isnan(bin_iou(sums, group="large", classes=[0, 1]))
    assert np.isnan(bin_iou(sums, group="small", classes=[]))


def test_standard_error_against_loops():
    z = [random_counts(head, seeds=2, images=6, gain=gain) for head, gain in ((1, 0.05), (2, 0))]
    classes = [0, 2]
    contrast = partial(bin_iou, group="small", classes=classes)
    got = paired_difference(*(resample(head, seeds=[0, 1]) for head in z), contrast)

    def difference(seed, weights):
        scores = []
        for head in z:
            small = head[seed, :, :, 0] + head[seed, :, :, 1]
            sums = sum(weight * image for weight, image in zip(weights, small, strict=True))
            scores.append(np.mean([sums[c, 0] / sums[c, 1:].sum() for c in classes]))
        return scores[0] - scores[1]

    per_seed = [difference(seed, np.ones(6)) for seed in (0, 1)]
    weights = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=REPLICATES)
    boot = [(difference(0, row) + difference(1, row)) / 2 for row in weights]
    seed_var, image_var = np.var(per_seed, ddof=1) / 2, np.var(boot, ddof=1)
    se = np.sqrt(seed_var + image_var)
    df = se**4 / (seed_var**2 / (2 - 1) + image_var**2 / (6 - 1))
    half = stats.t.ppf(0.975, df) * se
    assert got.value == pytest.approx(np.mean(per_seed))
    assert (got.se, got.df) == pytest.approx((se, df))
    assert (got.low, got.high) == pytest.approx((got.value - half, got.value + half))
    assert got.p == pytest.approx(2 * stats.t.sf(abs(got.value) / se, df))


def test_image_part_equals_the_textbook_variance_of_a_mean():
    # equal areas and no false positives make the IoU a plain mean over images
    z = np.zeros((1, 200, 1, 6, 4), dtype=np.int64)
    tp = np.random.default_rng(3).integers(20, 90, 200)
    z[0, :, 0, 0] = np.stack([tp, np.full(200, 100), 0 * tp, 0 * tp], axis=-1)
    got = interval(resample(z, seeds=[0]), miou)
    assert got.se == pytest.approx(np.std(tp / 100, ddof=1) / np.sqrt(200), rel=0.05)
    assert (got.seeds, got.images) == (1, 200)
    assert got.df == pytest.approx(199)
    assert np.isnan(got.p)


def test_pairing_cancels_what_the_heads_share():
    a, b = (
        resample(random_counts(s, gain=g, seed_noise=0.001), seeds=range(3))
        for s, g in ((1, 0.05), (2, 0.0))
    )
    alone = interval(a, miou).se
    paired = paired_difference(a, b, miou)
    assert paired.se < 0.5 * alone
    assert paired.low > 0


def test_only_common_seeds_are_paired():
    a, b = random_counts(1), random_counts(2)
    got = paired_difference(resample(a, seeds=[0, 1, 2]), resample(b, seeds=[2, 0, 7]), miou)
    want = paired_difference(
        resample(a[[0, 2]], seeds=[0, 2]), resample(b[[1, 0]], seeds=[0, 2]), miou
    )
    assert got == want
    assert got.seeds == 2


def test_heads_without_a_common_seed_have_no_difference():
    z = random_counts()
    got = paired_difference(resample(z, seeds=[0, 1, 2]), resample(z, seeds=[3, 4, 5]), miou)
    assert got.seeds == 0
    assert np.isnan([got.value, got.low, got.high, got.p]).all()


def test_equal_predictions_differ_by_nothing():
    head = resample(random_counts(), seeds=range(3))
    got = paired_difference(head, head, miou)
    assert (got.value, got.low, got.high, got.p) == (0, 0, 0, 1)


def test_wrong_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="at least 2 test images, got 1"):
        resample(random_counts(images=1), seeds=range(3))
    with pytest.raises(ValueError, match="20 and 21 images"):
        paired_difference(
            resample(random_counts(), seeds=range(3)),
            resample(random_counts(images=21), seeds=range(3)),
            miou,
        )


def test_intervals_cover_at_their_nominal_rate():
    repetitions, covered = 300, 0
    for repetition in range(repetitions):
        rng = np.random.default_rng((5, repetition))
        hard = rng.normal(0, 0.1, 100)
        heads = []
        for _ in range(2):
            recall = 0.6 + hard + rng.normal(0, 0.02, (8, 1)) + rng.normal(0, 0.1, (1, 100))
            z = np.zeros((8, 100, 1, 6, 4), dtype=np.int64)
            z[..., 0, 0, 0] = (1000 * recall).clip(0, 1000)
            z[..., 0, 0, 1] = 1000
            heads.append(resample(z, seeds=range(8), replicates=500))
        got = paired_difference(*heads, miou)
        covered += got.low <= 0 <= got.high
    assert 0.92 <= covered / repetitions <= 0.985
