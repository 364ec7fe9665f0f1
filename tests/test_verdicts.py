"""Planted effects are found, absent ones are not, and every verdict is reachable."""

import math

import numpy as np
import pytest
from simulated_runs import OBJECTS, simulate

from segattn.analysis import compare
from segattn.analysis.attribution import attribute
from segattn.analysis.claims import Claim, Claims, parse_condition
from segattn.analysis.verdicts import decide
from segattn.metrics import REACHES, write_table
from segattn.runs import load_runs

LAMP = "thin(fla) - thin(fcn) > 0"
BUS = "large(fla) - large(fcn) > 0"
SAFE = "thin(fla) - thin(fcn) > -1"


def claims_of(*conditions, smallest=1.0):
    claims = tuple(
        Claim(f"H{number}", "a claim", tuple(parse_condition(c) for c in parts), ())
        for number, parts in enumerate(conditions, start=1)
    )
    return Claims(claims, 0.05, {"mIoU": smallest, "sizes": smallest})


def comparison_of(folder, *, seeds=range(5), noise=0.02, heads=("fcn", "fla"), **effect):
    simulate(
        folder,
        heads={head: effect if head == "fla" else {} for head in heads},
        seeds=tuple(seeds),
        noise=noise,
    )
    return compare(load_runs(folder))


def words(comparison, *conditions, **options):
    return [v.word for v in decide(comparison, claims_of(*conditions), **options)]


def test_a_planted_effect_is_found_and_its_reverse_contradicted(tmp_path):
    comparison = comparison_of(tmp_path, lamp=0.1)
    reverse = "thin(fcn) - thin(fla) > 0"
    assert words(comparison, [LAMP], [reverse], [LAMP, reverse]) == [
        "SUPPORTED",
        "CONTRADICTED",
        "CONTRADICTED",
    ]
    (verdict, *_) = decide(comparison, claims_of([LAMP]))
    estimate = verdict.evidence[0].estimate
    assert estimate.low < 0.089 < estimate.high  # 0.1 of recall, over 1.1 x the area
    assert verdict.p == pytest.approx(min(2 * estimate.p_above(0), 1))
    assert verdict.suffixes == []


def test_no_effect_is_called_no_difference_and_never_supported(tmp_path):
    comparison = comparison_of(tmp_path)
    assert words(comparison, [LAMP], [BUS], [SAFE]) == [
        "NO DIFFERENCE",
        "NO DIFFERENCE",
        "SUPPORTED",  # not more than a point worse
    ]


def test_a_sure_but_tiny_effect_is_negligible(tmp_path):
    comparison = comparison_of(tmp_path, noise=0.001, lamp=0.005)
    assert words(comparison, [LAMP]) == ["SUPPORTED (NEGLIGIBLE)"]


def test_noise_is_inconclusive_and_says_how_many_seeds_would_settle_it(tmp_path):
    comparison = comparison_of(tmp_path, seeds=range(3))
    noisy = compare_with_seed_noise(comparison, tmp_path, scale=0.05)
    (verdict,) = decide(noisy, claims_of([LAMP]))
    assert verdict.word == "INCONCLUSIVE"
    (evidence,) = verdict.unsettled
    wanted = evidence.seeds_to_settle
    assert wanted > 3
    distance = max(abs(evidence.estimate.value), evidence.smallest)
    assert evidence.detectable > distance


def compare_with_seed_noise(comparison, folder, *, scale):
    """The same runs with recall moved up and down from seed to seed."""
    rng = np.random.default_rng(4)
    for runs in comparison.runs.values():
        for run in runs:
            frame = run.objects()
            moved = frame["tp"] + rng.normal(0, scale) * frame["area"] * (frame["kind"] == "object")
            write_table(
                frame.assign(tp=moved.clip(0, frame["area"]).astype("int32")), run.objects_path
            )
    return compare(load_runs(folder))


def test_holm_adjusts_over_the_claims(tmp_path):
    comparison = comparison_of(tmp_path, lamp=0.1)
    alone = decide(comparison, claims_of([LAMP]))[0].p
    together = decide(comparison, claims_of([LAMP], [BUS], [BUS]))
    assert together[0].p == pytest.approx(3 * alone)
    assert together[1].p == together[2].p


def test_a_claim_is_as_strong_as_its_weakest_condition(tmp_path):
    comparison = comparison_of(tmp_path, lamp=0.1)
    (verdict,) = decide(comparison, claims_of([LAMP, BUS]))
    assert verdict.p == max(e.p for e in verdict.evidence)
    assert verdict.deciding.condition.text == BUS
    assert verdict.word == "NO DIFFERENCE"


def test_what_is_missing_is_not_tested(tmp_path):
    comparison = comparison_of(tmp_path, lamp=0.1)
    absent_head = "thin(danet) - thin(fcn) > 0"
    absent_bin = "medium(fla) - medium(fcn) > 0"
    verdicts = decide(comparison, claims_of([absent_head], [absent_bin], [LAMP]))
    assert [v.word for v in verdicts] == ["NOT TESTED", "NOT TESTED", "SUPPORTED"]
    assert math.isnan(verdicts[0].p)
    # an untested claim is none of the family that Holm adjusts
    assert verdicts[2].p == decide(comparison, claims_of([LAMP]))[0].p


def test_one_seed_is_no_evidence(tmp_path):
    comparison = comparison_of(tmp_path, seeds=[0], lamp=0.3)
    assert words(comparison, [LAMP]) == ["NOT TESTED"]


def test_the_paper_s_reading_scores_whole_classes(tmp_path):
    comparison = comparison_of(tmp_path, bus=0.1)
    small = "small(fla) - small(fcn) > 0"
    # buses are small and large objects, but a large class
    assert words(comparison, [small]) == ["SUPPORTED"]
    assert words(comparison, [small], reading="classes") == ["NO DIFFERENCE"]
    by_class = decide(comparison, claims_of([BUS]), reading="classes")[0].evidence[0]
    assert by_class.estimate.value == pytest.approx(0.1 / 1.1 / 2, abs=0.01)  # bus, not road
    assert by_class.signs == {}


def edit_tables(comparison, head, change):
    for run in comparison.runs[head]:
        write_table(change(run.objects()), run.objects_path)
    return compare(load_runs(run.path.parent))


def test_a_sign_that_the_radius_decides_is_told(tmp_path):
    comparison = comparison_of(tmp_path, lamp=0.1)

    def hallucinate(frame):
        lamp = (frame["cls"] == 2) & (frame["kind"] == "object")
        return frame.assign(fp_double=frame["fp_double"].where(~lamp, 5 * frame["area"]))

    (verdict,) = decide(edit_tables(comparison, "fla", hallucinate), claims_of([LAMP]))
    assert verdict.word == "SUPPORTED"
    assert verdict.suffixes == ["ATTRIBUTION-DEPENDENT"]
    assert [rule for rule, same in verdict.evidence[0].signs.items() if not same] == [
        "iou, double radius"
    ]


def test_errors_in_a_bin_without_ground_truth_are_told(tmp_path):
    comparison = comparison_of(tmp_path, lamp=0.1)

    def add_orphans(frame):
        # a false alarm of the compact class 1 becomes a thin one, and thin has no bus
        alarm = frame["kind"] == "false_alarm"
        return frame.assign(width=frame["width"].where(~alarm, 2.0))

    (before,) = decide(comparison, claims_of([LAMP]))
    assert before.suffixes == []
    (after,) = decide(edit_tables(comparison, "fla", add_orphans), claims_of([LAMP]))
    assert after.suffixes == ["ORPHANS"]


def test_rules_of_attribution_by_hand(tmp_path):
    comparison = comparison_of(tmp_path, seeds=[0], heads=("fcn", "fla"))
    tables = [run.objects() for run in comparison.runs["fcn"]]
    for reach, factor in zip(REACHES, (1, 0.5, 2), strict=True):
        tables[0][f"fp{reach}"] = (tables[0]["fp"] * factor).astype("int32")
    found = attribute(tables, facts=comparison.facts)
    lamp = tables[0][(tables[0]["cls"] == 2) & (tables[0]["kind"] == "object")]
    tp, area, fp = (float(lamp[name].sum()) for name in ("tp", "area", "fp"))

    def score(rule):
        return found.score(rule, group="thin", classes=[2])

    assert score("iou") == pytest.approx(tp / (area + fp))
    assert score("iou_near") == pytest.approx(tp / (area + fp))
    assert score("iou, half radius") == pytest.approx(tp / (area + fp / 2), rel=1e-3)
    assert score("iou, double radius") == pytest.approx(tp / (area + 2 * fp))
    assert score("recall") == pytest.approx(tp / area)
    assert score("obj_iou") == pytest.approx((lamp["tp"] / (lamp["area"] + lamp["fp"])).mean())
    assert len(lamp) == 40 * len(OBJECTS[2])
