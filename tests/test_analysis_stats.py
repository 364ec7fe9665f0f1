from dataclasses import replace
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
    linear_contrast,
    miou,
    paired_difference,
    resample,
)
from segattn.metrics import Counts

CLASSES = 3
SMALL = partial(bin_iou, group="small", classes=[0, 1])
LARGE = partial(bin_iou, group="large", classes=[0, 1])


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
    assert (got.se_seed**2, got.se_images**2) == pytest.approx((seed_var, image_var))
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


def test_an_interaction_of_heads_and_sizes_is_one_contrast():
    a, b = (resample(random_counts(k), seeds=range(3)) for k in (1, 2))
    got = linear_contrast([(1, a, LARGE), (-1, b, LARGE), (1, b, SMALL), (-1, a, SMALL)])
    want = paired_difference(a, b, lambda sums: LARGE(sums) - SMALL(sums))
    for key in ("value", "low", "high", "se", "se_seed", "se_images", "df", "p"):
        assert getattr(got, key) == pytest.approx(getattr(want, key))


def test_a_linear_contrast_is_linear_in_its_weights():
    a, b, c = (resample(random_counts(k), seeds=range(3)) for k in (1, 2, 3))
    got = linear_contrast([(1, a, miou), (-0.5, b, miou), (-0.5, c, miou)])
    a_score, b_score, c_score = (miou(sample.sums).mean() for sample in (a, b, c))
    assert got.value == pytest.approx(a_score - (b_score + c_score) / 2)
    twice = linear_contrast([(2, a, miou), (-1, b, miou), (-1, c, miou)])
    assert (twice.value, twice.se, twice.p) == pytest.approx((2 * got.value, 2 * got.se, got.p))


def test_a_linear_contrast_uses_the_seeds_of_all_terms():
    z = random_counts(1)
    terms = [(1.0, resample(z, seeds=s), miou) for s in ([0, 1, 2], [2, 1, 7], [1, 8, 9])]
    assert linear_contrast(terms[:2]).seeds == 2
    assert linear_contrast(terms).seeds == 1
    nothing = linear_contrast([*terms, (1.0, resample(z, seeds=[0, 8, 9]), miou)])
    assert nothing.seeds == 0
    assert np.isnan([nothing.value, nothing.se, nothing.df, nothing.p]).all()


def test_images_without_blocks_are_blocks_of_their_own():
    z = random_counts()
    alone, named = resample(z, seeds=range(3)), resample(z, seeds=range(3), blocks=range(40, 60))
    weights = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=REPLICATES)
    want = np.einsum("rn,sncbk->srcbk", weights, z, optimize=True)
    np.testing.assert_array_equal(alone.replicates, want)
    np.testing.assert_array_equal(named.replicates, want)
    assert interval(alone, miou) == interval(named, miou)


def test_blocks_are_drawn_whole():
    z = random_counts(images=6)
    blocks = [7, 3, 7, 7, 5, 3]  # 3, 5 and 7 have 2, 1 and 3 images
    got = resample(z, seeds=range(3), blocks=blocks, replicates=50)
    drawn = np.random.default_rng(0).multinomial(3, np.full(3, 1 / 3), size=50)
    of_block = np.stack([z[:, np.equal(blocks, block)].sum(axis=1) for block in (3, 5, 7)])
    np.testing.assert_array_equal(
        got.replicates, np.einsum("rk,kscbq->srcbq", drawn, of_block, optimize=True)
    )
    assert (got.images, got.blocks) == (6, 3)
    one_seed = interval(resample(z[:1], seeds=[0], blocks=blocks), miou)
    assert one_seed.df == pytest.approx(2)


def test_copies_of_an_image_in_one_block_are_no_evidence():
    heads = [random_counts(k) for k in (1, 2)]
    once = paired_difference(*(resample(z, seeds=range(3)) for z in heads), miou)
    copies = [np.repeat(z, 5, axis=1) for z in heads]
    blocks = np.repeat(np.arange(20), 5).tolist()
    got = paired_difference(*(resample(z, seeds=range(3), blocks=blocks) for z in copies), miou)
    assert got == replace(once, images=100)
    unaware = paired_difference(*(resample(z, seeds=range(3)) for z in copies), miou)
    assert unaware.se_images < 0.6 * got.se_images


def test_bounds_and_one_sided_p_are_those_of_the_t_interval():
    got = paired_difference(*(resample(random_counts(k), seeds=range(3)) for k in (1, 2)), miou)
    assert got.bounds(0.95) == (got.low, got.high)
    low, high = got.bounds(0.9)
    assert got.low < low < got.value < high < got.high
    assert got.p_above(low) == pytest.approx(0.05)
    assert got.p_above(high) == pytest.approx(0.95)
    assert 2 * min(got.p_above(0), 1 - got.p_above(0)) == pytest.approx(got.p)
    with pytest.raises(ValueError, match="between 0 and 1, got 90"):
        got.bounds(90)


def test_one_sided_p_without_noise_is_certain():
    head = resample(random_counts(), seeds=range(3))
    got = paired_difference(head, head, miou)
    assert [got.p_above(threshold) for threshold in (-0.01, 0, 0.01)] == [0, 1, 1]


def test_images_and_blocks_that_give_no_interval_are_refused():
    z = random_counts()
    with pytest.raises(ValueError, match="at least 2 test images, got 1"):
        resample(random_counts(images=1), seeds=range(3))
    with pytest.raises(ValueError, match=r"at least 2 blocks of test images.* got 1"):
        resample(z, seeds=range(3), blocks=[4] * 20)
    with pytest.raises(ValueError, match="each of the 20 images, got 2"):
        resample(z, seeds=range(3), blocks=[0, 1])
    head, longer = (resample(random_counts(images=n), seeds=range(3)) for n in (20, 21))
    with pytest.raises(ValueError, match="20 and 21 images"):
        paired_difference(head, longer, miou)
    two_frames = resample(z, seeds=range(3), blocks=sorted([*range(10)] * 2))
    with pytest.raises(ValueError, match="20 and 10 blocks"):
        paired_difference(head, two_frames, miou)


# standard deviation of the IoU over seeds and, where heads differ, over images; numbers of seeds
REGIMES = {
    "seed noise only": (0.02, 0.0, (3, 5)),
    "seeds dominate": (0.02, 0.1, (3, 5, 10)),
    "both": (0.01, 0.1, (3, 5, 10)),
}


def equal_heads(rng, *, repetitions, seeds, seed_sd, image_sd, images=200, replicates=400):
    """Samples of two heads without a true difference, one pair per repetition."""
    cell = (1, 1, 4)
    area = rng.integers(2000, 18000, (repetitions, 1, images))
    hard = rng.normal(0.6, 0.1, (repetitions, 1, images))
    noise = ((image_sd, (1, images)), (seed_sd, (seeds, 1)), (0.02, (seeds, images)))
    heads = []
    for _ in range(2):
        recall = hard + sum(rng.normal(0, sd, (repetitions, *shape)) for sd, shape in noise)
        z = np.zeros((repetitions, seeds, images, *cell), dtype=np.int64)
        z[..., 0, 0, 0], z[..., 0, 0, 1] = area * recall.clip(0, 1), area
        # one matrix product for all repetitions, which share the weights but nothing else
        rows = z.reshape(-1, images, *cell)
        drawn = resample(rows, seeds=range(len(rows)), replicates=replicates)
        split = [np.split(array, repetitions) for array in (drawn.sums, drawn.replicates)]
        own = replace(drawn, seeds=tuple(range(seeds)))
        heads.append([replace(own, sums=a, replicates=b) for a, b in zip(*split, strict=True)])
    return zip(*heads, strict=True)


def coverage(regime, *, seeds, repetitions):
    """Share of the 95% intervals over 0: of the estimate, of its image part, of its seed part."""
    seed_sd, image_sd, _ = REGIMES[regime]
    hits = []
    for chunk in range(0, repetitions, 200):
        rng = np.random.default_rng((6, seeds, chunk))
        pairs = equal_heads(rng, repetitions=200, seeds=seeds, seed_sd=seed_sd, image_sd=image_sd)
        for got in (paired_difference(a, b, miou) for a, b in pairs):
            images = got.se_images * stats.t.ppf(0.975, got.blocks - 1)
            over_seeds = got.se_seed * stats.t.ppf(0.975, seeds - 1)
            halves = [abs(got.value) <= half for half in (images, over_seeds)]
            hits.append([got.low <= 0 <= got.high, *halves])
    return np.mean(hits, axis=0)


def test_intervals_cover_where_seeds_and_images_count():
    # 2 standard errors of a share of 0.93 in 400 repetitions: 0.026
    whole, _, over_seeds = coverage("both", seeds=5, repetitions=400)
    assert 0.93 - 0.026 <= whole <= 0.98 + 0.026
    assert over_seeds < 0.93 - 0.026


@pytest.mark.slow
def test_intervals_cover_in_every_regime_and_neither_half_does():
    cells = [(name, seeds) for name, (*_, counts) in REGIMES.items() for seeds in counts]
    shares = np.array([coverage(name, seeds=s, repetitions=2000) for name, s in cells])
    # 2 standard errors of a share p in n repetitions, 2 sqrt(p (1 - p) / n): 0.011 and 0.006
    low, high = 0.93 - 0.011, 0.98 + 0.006
    whole, images, over_seeds = shares.T
    assert low <= whole.min() <= whole.max() <= high, (cells, shares)
    assert max(images.min(), over_seeds.min()) < low, (cells, shares)
