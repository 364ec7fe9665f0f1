import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from segattn.analysis.claims import CLAIMS, READINGS, answers, score_name
from segattn.analysis.comparison import HEAD_ORDER
from segattn.analysis.stats import HeadScores, estimate, holm, resample
from segattn.metrics import Measures

SCORES = sorted(
    {score_name(c.measure, r) for _, all_ in CLAIMS.values() for c in all_ for r in READINGS}
)


def heads_of(rng, *, seeds, seed_sd, image_sd, effects=None, replicates=200):
    """Scores as `resample` would give them: seeds differ by seed_sd, test sets by image_sd."""
    heads = {}
    for head in HEAD_ORDER:
        values, drawn = {}, {}
        for score in SCORES:
            truth = 0.5 + (effects or {}).get((head, score), 0.0)
            luck = rng.normal(0, image_sd)  # of this test set
            values[score] = truth + luck + rng.normal(0, seed_sd, seeds)
            drawn[score] = values[score][:, None] + rng.normal(0, image_sd, replicates)
        heads[head] = HeadScores(tuple(range(seeds)), values, drawn, blocks=200)
    return heads


def one(value, replicates=None, seeds=None):
    value = np.asarray(value, float)
    drawn = np.tile(value[:, None], (1, 400)) if replicates is None else replicates
    return HeadScores(seeds or tuple(range(len(value))), {"miou": value}, {"miou": drawn}, 50)


def difference(a, b):
    return estimate({"a": a, "b": b}, [(1, "a", "miou"), (-1, "b", "miou")])


def test_seed_noise_gives_the_paired_t_test():
    a, b = [0.50, 0.53, 0.52, 0.55], [0.49, 0.50, 0.51, 0.50]
    found, expected = difference(one(a), one(b)), ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6)


def test_image_noise_is_added():
    rng = np.random.default_rng(0)
    drawn = 0.5 + rng.normal(0, 0.02, (3, 400)).mean(0, keepdims=True).repeat(3, 0)
    found = difference(one([0.5] * 3, drawn), one([0.4] * 3))
    assert found.se == pytest.approx(drawn[0].std(ddof=1) * np.sqrt(50 / 49), rel=1e-6)
    assert found.interval()[1] == pytest.approx(found.value + found.se * t.ppf(0.975, 49))
    assert found.p == pytest.approx(2 * t.sf(found.value / found.se, 49), rel=1e-4)


def test_two_seeds_give_a_value_and_no_verdict():
    found = difference(one([0.5, 0.6]), one([0.4, 0.4]))
    assert found.value == pytest.approx(0.15)
    assert np.isnan([found.p, *found.interval()]).all()
    assert not found.known


def test_only_common_seeds_are_paired():
    found = difference(one([0.5, 0.6, 0.7, 0.9], seeds=(0, 1, 2, 5)), one([0.4] * 3))
    assert (found.seeds, round(found.value, 6)) == (3, 0.2)


def test_a_head_or_score_that_is_missing_gives_nothing():
    assert np.isnan(estimate({"a": one([0.5] * 3)}, [(1, "a", "x")]).value)
    assert np.isnan(estimate({}, [(1, "a", "miou")]).value)


def test_holm_is_that_of_the_paper():
    assert holm([0.01, 0.04, 0.03, np.nan, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, np.nan, 0.02], nan_ok=True
    )
    assert holm([]) == []


def test_resampled_test_sets_are_those_of_whole_blocks():
    measures = Measures(("a",))
    counts = np.ones((1, 6, 1, 5, 3), np.int64)
    counts[0, 3:, ..., 0] = 3
    by_two = resample(counts, measures, seeds=[0], blocks=[0, 0, 0, 1, 1, 1])
    assert by_two.values["miou"] == pytest.approx([12 / 12])
    assert len(np.unique(by_two.replicates["miou"].round(6))) == 3  # both blocks, or one twice
    with pytest.raises(ValueError, match="2 blocks"):
        resample(counts, measures, seeds=[0], blocks=[0] * 6)


def test_heads_see_the_same_resampled_test_sets():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (2, 30, 1, 5, 3))
    a, b = (resample(counts, Measures(("a",)), seeds=[0, 1], blocks=range(30)) for _ in range(2))
    assert np.array_equal(a.replicates["miou"], b.replicates["miou"])


def test_every_contrast_is_answered_in_one_sentence():
    effects = {("spatial_nl", "iou_size/large"): 0.2, ("fla", "miou"): 0.1}
    heads = heads_of(
        np.random.default_rng(1), seeds=3, seed_sd=1e-3, image_sd=1e-4, effects=effects
    )
    by_claim = {}
    for answer in answers(heads, "object"):
        by_claim.setdefault(answer.claim, []).append(answer)
    assert [len(found) for found in by_claim.values()] == [1, 2, 2, 2, 4]
    first = by_claim["H1"][0]
    assert first.word == "no"
    assert first.sentence.startswith("Large objects: channel attention is 20.")
    assert "points worse than spatial attention (" in first.sentence
    assert first.sentence.endswith("). No.")
    assert by_claim["H5"][0].word == "yes"
    assert by_claim["H2"][0].word == "equal"


def test_few_seeds_and_missing_sizes_are_said():
    heads = heads_of(np.random.default_rng(1), seeds=2, seed_sd=0.01, image_sd=0.01)
    assert {a.word for a in answers(heads, "object")} == {"not tested"}
    assert "3 seeds are needed" in answers(heads, "object")[0].sentence
    for scores in heads.values():
        del scores.values["iou_group/large"]
    told = answers(heads, "group")[0].sentence
    assert told == "Large classes: not tested, this data set or these runs do not have it."


# what dominates: the noise of training, that of the test images, or neither
REGIMES = [(0.02, 0.004), (0.004, 0.02), (0.01, 0.01)]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("seed_sd", "image_sd"), REGIMES)
def test_intervals_cover(seeds, seed_sd, image_sd):
    """The 95% t interval of a difference, which two seeds do not show, in 2000 experiments."""
    rng, inside = np.random.default_rng(seeds), 0
    for _ in range(2000):
        luck = rng.normal(0, image_sd)
        value = luck + rng.normal(0, seed_sd, seeds)
        drawn = value[:, None] + rng.normal(0, image_sd, 400)
        found = difference(one(value, drawn), one([0.0] * seeds))
        # of two seeds reports show no interval; the rule is the same
        inside += abs(found.value) <= found._critical(0.05) * found.se
    assert inside / 2000 > 0.94


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("seed_sd", "image_sd"), REGIMES)
def test_equal_heads_give_few_false_answers(seeds, seed_sd, image_sd):
    """A yes or a no of any kind in at most 5% of 600 reports; within three standard errors."""
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(600):
        heads = heads_of(rng, seeds=seeds, seed_sd=seed_sd, image_sd=image_sd)
        false += any(a.word in ("yes", "no") for a in answers(heads, "object"))
    assert false / 600 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


@pytest.mark.slow
@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.01, 0.004), (0.004, 0.01)])
def test_a_planted_effect_is_found(seed_sd, image_sd):
    rng, found = np.random.default_rng(3), 0
    for _ in range(100):
        heads = heads_of(
            rng,
            seeds=5,
            seed_sd=seed_sd,
            image_sd=image_sd,
            effects={("spatial_nl", "iou_size/small"): 0.15},
        )
        said = {(a.claim, a.contrast.measure): a.word for a in answers(heads, "object")}
        found += said["H2", "small"] == "yes"
    assert found >= 80
