import numpy as np
import pytest
from scipy import stats as scipy_stats

from segattn.analysis.claims import CLAIMS, READINGS, answers, claimed_pairs
from segattn.analysis.comparison import HEADS
from segattn.analysis.stats import Difference, HeadScores, judge, resample
from segattn.metrics import Measures

SIX = ("fcn", "channel_nl", "spatial_nl", "danet", "cs_nl", "fla")
SIZES = ("iou_size/small", "iou_size/medium", "iou_size/large", "iou_shape/thin")
SCORES = ("miou", "iou_group/small", "iou_group/thin", *SIZES)
# standard deviations in points by score, over seeds and of a gain over test images, and the
# correlation of scores, as measured in results/ of 8 seeds of scenes and 5 of CamVid
NOISE = {
    "scenes": ((3.0, 0.3, 0.3, 2.1, 3.3, 7.7, 0.4), (0.2, 0.2, 0.2, 0.3, 0.4, 0.8, 0.2), 0.6),
    "camvid": ((0.5, 0.8, 1.6, 0.5, 0.9, 0.85, 0.8), (0.2, 0.3, 0.15, 0.2, 0.3, 0.6, 0.4), 0.5),
}
BLOCKS = {"scenes": 400, "camvid": 15}


def heads_of(rng, data="camvid", *, seeds, effects=None, heads=SIX, factors=None, scores=SCORES):
    """Scores as `resample` gives them, with the noise of seeds, of images, and of both at once."""
    seed_sd, image_sd, alike = NOISE[data]
    spread = 0.01 * np.array([seed_sd, image_sd])[:, [SCORES.index(score) for score in scores]]

    def noise(*shape):
        both = rng.standard_normal((*shape, 1)) * np.sqrt(alike)
        return both + rng.standard_normal((*shape, len(scores))) * np.sqrt(1 - alike)

    of_seeds = 0.5 * spread[0] * noise(seeds)  # what all heads share
    found = {}
    for head in heads:
        values = 0.5 + of_seeds + spread[0] * noise(seeds) * (factors or {}).get(head, 1.0)
        values += spread[1] / np.sqrt(2) * noise(1)
        drawn = values[:, None] + spread[1] / np.sqrt(2) * noise(200)
        for (one, score), gain in (effects or {}).items():
            if one == head and score in scores:
                values[:, scores.index(score)] += gain
                drawn[..., scores.index(score)] += gain
        columns = {score: values[:, k] for k, score in enumerate(scores)}
        replicates = {score: drawn[..., k] for k, score in enumerate(scores)}
        found[head] = HeadScores(tuple(range(seeds)), columns, replicates, BLOCKS[data])
    return found


def report_of(heads, scores=SCORES):
    """The family of a report, as `segattn.analysis.tables.family` makes it."""
    first, *others = heads
    cells = [(head, first, score) for head in others for score in scores]
    overall = [cell for cell in cells if cell[2] == "miou"]
    return judge(heads, [(0.5, overall), (0.5, [*cells, *claimed_pairs(list(heads))])])


def one(values, replicates=None, seeds=None, score="iou/bus"):
    values = np.asarray(values, float)
    drawn = np.tile(values[:, None], (1, 400)) if replicates is None else replicates
    return HeadScores(seeds or tuple(range(len(values))), {score: values}, {score: drawn}, 50)


def difference(a, b, score="iou/bus", **others):
    heads = {"a": a, "b": b, **others}
    return judge(heads, [(1.0, [("a", "b", score)])]).differences["a", "b", score]


def test_two_heads_give_the_paired_t_test():
    a, b = [0.50, 0.53, 0.52, 0.55], [0.49, 0.50, 0.51, 0.50]
    found, expected = difference(one(a), one(b)), scipy_stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue, abs=0.015)
    low, high = expected.confidence_interval()
    assert found.value == pytest.approx((low + high) / 2)
    assert found.alone == pytest.approx((high - low) / 2, rel=0.08)
    assert found.adjusted == pytest.approx(found.alone)  # a family of one


def test_the_noise_of_seeds_is_the_residual_of_heads_and_seeds():
    rng = np.random.default_rng(0)
    table = 0.5 + rng.normal(0, 0.01, (6, 4)) + rng.normal(0, 0.05, 4)
    heads = {head: one(values) for head, values in zip(SIX, table, strict=True)}
    pairs = [(head, "fcn", "iou/bus") for head in SIX[1:]]
    found = judge(heads, [(1.0, pairs)])
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    variance = (rest**2).sum() / (5 * 3)
    for pair in pairs:
        assert found.differences[pair].of_seeds == pytest.approx(2 * variance / 4)
        t = found.differences[pair].alone / np.sqrt(2 * variance / 4)
        assert t == pytest.approx(scipy_stats.t.ppf(0.975, 15), rel=0.08)
    assert found.own_noise == []
    # Dunnett's two-sided critical value of 5 comparisons with one control, 15 degrees of freedom
    critical = found.differences[pairs[0]].adjusted / np.sqrt(2 * variance / 4)
    assert critical == pytest.approx(2.82, abs=0.12)


def test_heads_whose_seeds_differ_in_noise_have_their_own():
    rng = np.random.default_rng(1)
    table = 0.5 + rng.normal(0, 0.001, (5, 8))
    table[1] += rng.normal(0, 0.05, 8)
    heads = {head: one(values) for head, values in zip(SIX, table, strict=False)}
    found = judge(heads, [(1.0, [(head, "fcn", "iou/bus") for head in list(heads)[1:]])])
    assert found.own_noise == ["iou/bus"]
    quiet = found.differences["spatial_nl", "fcn", "iou/bus"]
    assert quiet.of_seeds == pytest.approx(np.var(table[2] - table[0], ddof=1) / 8)


def test_image_noise_is_added():
    drawn = 0.5 + np.random.default_rng(0).normal(0, 0.02, 400)
    found = difference(one([0.5] * 3, np.tile(drawn, (3, 1))), one([0.4] * 3))
    assert found.of_seeds == pytest.approx(0, abs=1e-30)
    assert found.of_images == pytest.approx(drawn.var(ddof=1) * 50 / 49)
    t = scipy_stats.t.ppf(0.975, 49)
    assert found.alone == pytest.approx(t * np.sqrt(found.of_images), rel=0.1)


def test_two_seeds_give_a_value_and_no_verdict():
    found = difference(one([0.5, 0.6]), one([0.4, 0.4]))
    assert (found.value, found.seeds, found.word) == (pytest.approx(0.15), 2, "not tested")
    assert np.isnan([found.p, found.alone, found.adjusted]).all()


@pytest.mark.parametrize(
    ("seeds", "value", "number"),
    [
        ((0, 1, 2, 5), 0.2, 3),
        ((5, 0, 1, 2), 0.3, 3),
        ((0, 7, 8, 9), 0.1, 1),
        ((6, 7, 8, 9), None, 0),
    ],
)
def test_only_common_seeds_are_paired(seeds, value, number):
    """Whatever seeds a third head has."""
    for others in ({}, {"c": one([0.3, 0.4], seeds=(2, 9))}, {"c": one([0.5], seeds=(11,))}):
        found = difference(one([0.5, 0.6, 0.7, 0.8], seeds=seeds), one([0.4] * 3), **others)
        assert found.seeds == number
        assert found.value == (
            pytest.approx(value) if number else pytest.approx(np.nan, nan_ok=True)
        )


def test_the_order_of_seeds_does_not_matter():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 0.02, 4), rng.normal(0.5, 0.02, 4)
    drawn = rng.normal(0.5, 0.01, (4, 400))
    turn = [2, 0, 3, 1]
    expected = difference(one(a, drawn), one(b))
    found = difference(one(a[turn], drawn[turn], seeds=tuple(turn)), one(b))
    assert found.p == pytest.approx(expected.p, abs=0.02)
    assert (found.value, found.of_seeds) == pytest.approx((expected.value, expected.of_seeds))


def test_a_head_or_score_that_is_missing_gives_nothing():
    for score, other in (("x", "b"), ("miou", "c")):
        pair = ("a", other, score)
        found = judge({"a": one([0.5] * 3), "b": one([0.4] * 3)}, [(1.0, [pair])])
        assert found.differences[pair].word == "not tested"
        assert np.isnan(found.differences[pair].value)
    missing = one([0.5, np.nan, 0.5])
    assert np.isnan(difference(missing, one([0.4] * 3)).value)
    assert judge({}, [(1.0, [])]).differences == {}


def test_equal_and_constant_heads():
    same = difference(one([0.5] * 3), one([0.5] * 3))
    assert same.p > 0.5
    assert same.word == "no difference"
    assert difference(one([0.6] * 3), one([0.5] * 3)).word == "helps"


def test_a_part_of_the_five_percent_divides_the_p_value():
    heads = heads_of(np.random.default_rng(3), seeds=5, effects={("fla", "miou"): 0.01})
    gain, other = ("fla", "fcn", "miou"), ("fla", "fcn", "iou_size/small")
    half = judge(heads, [(0.5, [gain, gain]), (0.5, [gain, other])]).differences
    less = judge(heads, [(0.25, [gain]), (0.75, [other])]).differences
    assert less[gain].p == pytest.approx(min(1, 2 * half[gain].p))
    assert less[gain].adjusted > half[gain].adjusted > half[gain].alone
    assert less[gain].alone == half[gain].alone


@pytest.mark.parametrize(
    ("value", "alone", "adjusted", "p", "score", "word"),
    [
        (0.030, 0.015, 0.025, 0.01, "iou_size/large", "helps"),
        (-0.030, 0.015, 0.025, 0.01, "iou_size/large", "harms"),
        (0.030, 0.021, 0.028, 0.04, "iou_size/large", "not decided"),  # 0.9 points, perhaps
        (0.030, 0.021, 0.028, 0.04, "miou", "helps"),  # 0.5 points of mIoU count
        (0.030, 0.015, 0.032, 0.06, "iou_size/large", "not decided"),
        (0.002, 0.004, 0.007, 0.90, "iou_size/large", "no difference"),
        (0.002, 0.004, 0.007, 0.90, "miou", "not decided"),
        (-0.004, 0.001, 0.002, 0.01, "iou_shape/thin", "no difference"),  # real, but too small
        (0.030, np.nan, np.nan, np.nan, "miou", "not tested"),
    ],
)
def test_a_verdict_needs_the_family_and_the_smallest_effect(value, alone, adjusted, p, score, word):
    kwargs = {"alone": alone, "adjusted": adjusted, "p": p}
    assert Difference(score, value, 5, **kwargs).word == word
    split = Difference(score, value, 5, **kwargs, split=True)
    assert split.word == ("not tested" if word == "not tested" else "not decided")


def test_two_states_are_called_so():
    """Vehicles IoU of channel attention after 875 steps: three seeds had learned it."""
    heads = heads_of(np.random.default_rng(0), seeds=8)
    heads["channel_nl"].values["iou_size/small"][:] = [22, 23, 31, 22, 23, 30, 24, 31]
    heads["channel_nl"].values["iou_size/small"][:] /= 100
    found = report_of(heads)
    assert found.states == {("channel_nl", "iou_size/small"): (3, 8)}
    assert found.differences["channel_nl", "fcn", "iou_size/small"].word == "not decided"
    assert found.differences["spatial_nl", "channel_nl", "iou_size/small"].split


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


# claims


def answered(effects, *, seeds=5, heads=SIX, **noise):
    found = heads_of(np.random.default_rng(1), seeds=seeds, effects=effects, heads=heads, **noise)
    return answers(report_of(found), list(found)).set_index(["reading", "claim", "measure"])


def test_a_claim_is_tested_against_each_head_that_it_names():
    """Better than the mean of two is not better than both."""
    better = {("danet", "miou"): 0.10, ("spatial_nl", "miou"): 0.10, ("fla", "miou"): 0.10}
    found = answered(better).loc["object"]
    assert found.loc[("H3", "miou"), "answer"] == "not decided"
    assert "dual attention is " in found.loc[("H3", "miou"), "sentence"]
    assert "spatial attention, the best of the other 2 (" in found.loc[("H3", "miou"), "sentence"]
    assert abs(found.loc[("H3", "miou"), "points"]) < 2
    assert found.loc[("H4", "miou"), "answer"] == "no"
    assert found.loc[("H4", "miou"), "points"] == pytest.approx(-10, abs=1)
    assert found.loc[("H5", "miou"), "answer"] == "not decided"  # two heads are as good
    found = answered({("danet", "miou"): 0.10, ("fla", "miou"): 0.20}).loc["object"]
    assert found.loc[("H3", "miou"), "answer"] == "yes"
    assert found.loc[("H5", "miou"), "answer"] == "yes"
    assert found.loc[("H5", "miou"), "points"] == pytest.approx(10, abs=1.5)
    assert "dual attention, the best of the other 5 (" in found.loc[("H5", "miou"), "sentence"]


def test_best_overall_is_against_every_head_there_is():
    heads = ("fcn", "aspp", *SIX[1:])
    assert list(HEADS)[:3] == ["fcn", "psp", "aspp"]
    found = answered({("fla", "miou"): 0.1, ("aspp", "miou"): 0.3}, heads=heads).loc["object"]
    assert found.loc[("H5", "miou"), "answer"] == "no"
    assert (
        "worse than atrous pyramid pooling, the best of the other 6"
        in (found.loc[("H5", "miou"), "sentence"])
    )


def test_words_claims_and_numbers_are_one_verdict():
    heads = heads_of(np.random.default_rng(5), seeds=3, effects={("spatial_nl", SIZES[0]): 0.1})
    found = report_of(heads)
    rows = answers(found, SIX).set_index(["reading", "claim", "measure"])
    pair = found.differences["fla", "fcn", "iou_size/small"]
    row = rows.loc["object", "H5", "small"]
    assert row["p"] == pair.p
    assert (row["low"], row["high"]) == pytest.approx(
        (100 * (pair.value - pair.adjusted), 100 * (pair.value + pair.adjusted))
    )
    overall = rows["p"].xs("miou", level="measure")
    assert (overall["group"] == overall["object"]).all()  # mIoU is judged once
    assert rows.loc["object", "H2", "small"]["answer"] == "yes"


def test_what_cannot_be_tested_is_listed_apart():
    found = answered({}, seeds=2)
    assert set(found["answer"]) == {"not tested"}
    found = answered({})
    assert found.loc["group", "H1", "large"]["answer"] == "not tested"  # no such group
    assert found.loc["group", "H1", "large"]["sentence"] == "Large classes: not tested."
    found = answered({}, heads=SIX[1:])
    assert found.loc["object", "H5", "small"]["answer"] == "not tested"  # against fcn
    assert found.loc["object", "H5", "miou"]["answer"] != "not tested"


# simulations of whole reports; the bounds are the promised ones and three standard errors


def false_words(data, *, seeds, number, **noise):
    """Share of reports of equal heads that say helps, harms, yes, no or "k of S runs"."""
    rng, false = np.random.default_rng(seeds), 0
    for _ in range(number):
        found = report_of(heads_of(rng, data, seeds=seeds, **noise))
        words = {one.word for one in found.differences.values()}
        said = set(answers(found, SIX)["answer"]) if words & {"helps", "harms"} else set()
        false += bool(words & {"helps", "harms"} or said & {"yes", "no"} or found.states)
    return false / number


def at_most(share, number):
    return share + 3 * np.sqrt(share * (1 - share) / number)


@pytest.mark.slow
@pytest.mark.parametrize("data", NOISE)
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_reports_of_equal_heads_hold_a_false_word_in_at_most_5_percent(data, seeds):
    assert false_words(data, seeds=seeds, number=500) <= at_most(0.05, 500)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "share"), [(8, 0.08), (3, 0.12)])
def test_heads_with_unequal_noise(seeds, share):
    """Scenes after 875 steps, the worst we have seen; three seeds cannot show it to Levene."""
    factors = dict(zip(SIX, (0.25, 1.7, 0.6, 0.6, 0.5, 1.45), strict=True))
    assert false_words("scenes", seeds=seeds, number=300, factors=factors) <= at_most(share, 300)


@pytest.mark.slow
def test_two_points_of_miou_are_seen_with_three_seeds():
    rng, found, number = np.random.default_rng(0), 0, 500
    pairs = [(head, "fcn", "miou") for head in SIX[1:]]
    for _ in range(number):
        effect = {("spatial_nl", "miou"): 0.02}
        heads = heads_of(rng, seeds=3, effects=effect, scores=("miou",))
        # all other cells share the other half: they do not matter here
        found += judge(heads, [(0.5, pairs)]).differences[pairs[1]].word == "helps"
    assert found / number >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_a_head_in_two_states_is_called_so(seeds):
    rng, called = np.random.default_rng(0), 0
    for _ in range(60):
        heads = heads_of(rng, seeds=seeds)
        learned = np.arange(seeds) < 1 + seeds // 3
        heads["fla"].values["iou_size/large"][learned] += 0.4
        called += report_of(heads).states == {("fla", "iou_size/large"): (learned.sum(), seeds)}
    assert called >= 51


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("seed_sd", "image_sd"), [(2.0, 0.4), (0.4, 2.0), (1.0, 1.0)])
def test_intervals_cover(monkeypatch, seeds, seed_sd, image_sd):
    """What dominates: the noise of training, that of the test images, or neither."""
    monkeypatch.setitem(NOISE, "camvid", ((seed_sd,) * 7, (image_sd,) * 7, 0.5))
    rng, inside, all_inside, number = np.random.default_rng(seeds), 0, 0, 400
    cells = [(head, "fcn", "iou_size/small") for head in SIX[1:]]
    for _ in range(number):
        heads = heads_of(rng, seeds=seeds, scores=("iou_size/small",))
        found = judge(heads, [(1.0, cells)]).differences
        inside += abs(found[cells[0]].value) <= found[cells[0]].alone
        all_inside += all(abs(one.value) <= one.adjusted for one in found.values())
    assert inside / number >= 0.95 - 0.033
    assert all_inside / number >= 0.95 - 0.033


def test_there_are_eleven_parts_in_two_readings():
    assert sum(len(parts) for _, parts in CLAIMS.values()) * len(READINGS) == 22
