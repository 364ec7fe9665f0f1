from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_runs import simulate

from segattn.analysis import compare, step_figures, steps
from segattn.analysis.claims import claims_path, load_claims, parse_condition
from segattn.analysis.remote import RunsError
from segattn.analysis.verdict_tables import conditions, verdicts_of
from segattn.runs import load_runs

FIXTURE = Path(__file__).parent / "fixture" / "runs"
H2 = "small_or_thin(spatial_nl) - small_or_thin(channel_nl) > 0"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    heads = {"channel_nl": {}, "spatial_nl": {"lamp": 0.1}}
    return compare(load_runs(simulate(tmp_path_factory.mktemp("runs"), heads=heads)))


def test_every_condition_is_listed_and_a_claim_named_once():
    frame, claims = steps.claims_table(), load_claims(claims_path()).claims
    texts = [c.text for claim in claims for c in (*claim.conditions, *claim.extra)]
    assert frame["condition"].tolist() == texts
    assert (frame["claim"] != "").sum() == len(claims)
    assert (frame["decides"] == "yes").sum() == sum(len(claim.conditions) for claim in claims)


def test_the_first_condition_that_the_heads_allow_is_chosen(comparison, tmp_path):
    assert steps.choose(comparison).text == "large(channel_nl) - large(spatial_nl) > 0"
    simulate(tmp_path, heads={"fcn": {}, "danet": {}}, seeds=(0, 1))
    assert steps.choose(compare(load_runs(tmp_path))).text == "mIoU(danet) - mIoU(fcn) > 0"
    alone = compare(load_runs(simulate(tmp_path / "alone", heads={"fla": {}}, seeds=(0,))))
    with pytest.raises(RunsError, match=r"which are fla\. Run `make ablation`"):
        steps.choose(alone)


def test_condition_without_enough_objects_is_passed_over():
    few_large = compare(load_runs(FIXTURE))
    assert steps.choose(few_large).text == H2


def test_objects_are_those_behind_the_first_score(comparison):
    frame = steps.object_rows(comparison, parse_condition(H2), number=3)
    table = comparison.runs["spatial_nl"][0].objects()
    lamps = table[(table["kind"] == "object") & (table["cls"] == 2)].nlargest(3, "area")
    assert frame["tp"].tolist() == [f"{tp:,}" for tp in lamps["tp"]]
    assert frame["bin"].tolist() == ["small, thin"] * 3  # not the buses, which are large
    every = steps.object_rows(
        comparison, parse_condition("mIoU(spatial_nl) - mIoU(channel_nl) > 0")
    )
    assert set(every["bin"]) == {"large, compact"}
    line = steps.objects_text(comparison, parse_condition(H2))
    assert "enter small_or_thin(spatial_nl), as spatial_nl with seed 0" in line


@pytest.mark.parametrize("text", [H2, "mIoU(spatial_nl) - mIoU(channel_nl) > 0"])
def test_the_steps_meet(comparison, text):
    condition = parse_condition(text)
    classes, seeds = steps.class_rows(comparison, condition), steps.seed_rows(comparison, condition)
    own = classes[classes["score"].str.endswith("(spatial_nl)")]["IoU [%]"].astype(float)
    first = float(seeds.filter(like="+").iloc[0, 0])
    assert own.mean() == pytest.approx(first, abs=0.1)  # step 2 to 3
    found = steps.estimate(comparison, condition)
    mean = float(seeds["difference [points]"].iloc[-1])
    assert mean == pytest.approx(100 * found.value, abs=0.006)  # step 3 to 4
    shown = steps.estimate_rows(comparison, condition).set_index("step")["points"]
    assert shown["95% interval"] == f"[{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def test_the_last_step_is_the_verdict_of_the_report(comparison):
    tidy = conditions(comparison).query("reading == 'objects'").set_index("condition")
    found = steps.evidence(comparison, parse_condition(H2))
    assert found.p == tidy.loc[H2, "p"]
    shown = steps.decision_rows(comparison, parse_condition(H2))["answer"].tolist()
    assert shown[:3] == ["yes", "no", "yes"]
    assert tidy.loc[H2, "verdict"].startswith("SUPPORTED")
    questions = steps.decision_rows(comparison, parse_condition(H2.replace("> 0", "> -1")))
    assert "below -1 point?" in questions["question"][1]
    assert "within 1 point of 0?" in questions["question"][4]
    rules = steps.rule_rows(comparison, parse_condition(H2))
    assert rules["same sign"].tolist() == ["yes"] * 6
    assert rules["rule"].tolist()[3:] == ["IoU without false alarms", "recall", "mean over objects"]


def test_holm_is_that_of_the_verdicts(comparison):
    frame = steps.holm_rows(comparison)
    ps = [verdict.p for verdict in verdicts_of(comparison, "objects")]
    missing = [p == "n/a" for p in frame["Holm p"]]
    assert missing == [bool(np.isnan(p)) for p in ps]
    assert frame["largest p"].tolist()[2] == "n/a"  # H3 needs danet


def test_missing_heads_and_seeds_are_named(comparison, tmp_path):
    with pytest.raises(RunsError, match=r"no finished run has the head 'fla'; .* channel_nl, sp"):
        steps.seed_rows(comparison, parse_condition("mIoU(fla) - mIoU(channel_nl) > 0"))
    simulate(tmp_path, heads={"fcn": {}}, seeds=(0,))
    simulate(tmp_path, heads={"fla": {}}, seeds=(1,))
    with pytest.raises(RunsError, match="share no seed"):
        steps.seed_rows(compare(load_runs(tmp_path)), parse_condition("mIoU(fla) - mIoU(fcn) > 0"))


def test_the_figure_shows_seeds_interval_and_threshold(comparison):
    condition = parse_condition("small(spatial_nl) - small(channel_nl) > -1")
    (axes,) = step_figures.spread(comparison, condition).axes
    lines = {line.get_label(): np.asarray(line.get_xdata()) for line in axes.get_lines()}
    found = steps.estimate(comparison, condition)
    assert lines["threshold"].tolist() == [-1, -1]
    assert lines["95% interval"] == pytest.approx([100 * found.low, 100 * found.high])
    assert lines["one seed"].mean() == pytest.approx(100 * found.value)
    heights = sum(patch.get_height() for patch in axes.patches[1:])
    assert heights == comparison.samples["channel_nl"].replicates.shape[1]


def test_tables_hold_text_alone(comparison):
    condition = parse_condition(H2)
    for make in (steps.object_rows, steps.class_rows, steps.seed_rows, steps.decision_rows):
        frame = make(comparison, condition)
        assert isinstance(frame, pd.DataFrame)
        assert frame.map(lambda cell: isinstance(cell, str)).all(axis=None), make
