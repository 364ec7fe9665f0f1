import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from simulated_runs import MEASURES, edit_result, simulate, write_unfinished

from segattn.analysis import compare, figures, report, tables, text
from segattn.base.runs import load_runs

HEADS = {
    "fcn": {},
    "channel_nl": {},
    "spatial_nl": {"bus": 0.1},
    "danet": {"bus": 0.1},
    "cs_nl": {},
    "fla": {"lamp": 0.1},
}
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "heads"
    return simulate(folder, heads=HEADS, noise=0.002)


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(load_runs(runs))


@pytest.fixture(scope="module")
def out(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    report.write_report(runs, out)
    return out


def test_gains_are_paired_and_those_of_equal_heads_are_not_told_apart(comparison):
    frame = tables.gains(comparison).set_index(["head", "score"])
    assert frame.loc[("spatial_nl", "iou_group/large"), "gain"] == pytest.approx(8.3, abs=1)
    assert frame.loc[("spatial_nl", "iou_group/large"), "told_apart"]
    assert frame.loc[("fla", "iou_shape/thin"), "told_apart"]
    assert not frame.loc["channel_nl", "told_apart"].any()
    assert frame.loc["fcn", ["gain", "low", "high"]].isna().all().all()


def test_the_answer_is_said_in_one_sentence_a_head(comparison):
    said = dict(zip(comparison.heads[1:], text.findings(comparison), strict=True))
    assert "helps thin (+9." in said["fla"]
    assert "Spatial attention (spatial_nl) helps large (+" in said["spatial_nl"]
    alone = "no difference from no attention (fcn) was detected on objects of any size"
    assert alone in said["channel_nl"]
    assert said["channel_nl"].endswith("Its attention is off: 0.2 %.")


def test_claims_in_the_page_are_those_of_the_table(comparison, out):
    page = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    assert "). <b>Yes.</b>" in page
    page = re.sub("</?b>", "", page)
    claims = pd.read_csv(out / "claims.csv")
    assert set(claims["reading"]) == {"group", "object"}
    for sentence in claims["sentence"]:
        assert sentence in page
    answers = claims.set_index(["reading", "claim", "measure"])["answer"]
    assert answers["group", "H1", "large"] == "no"
    assert answers["object", "H5", "thin"] == "yes"
    assert answers["group", "H2", "small"] == "not tested"


def test_the_page_is_small_and_needs_no_network(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert len(page) < 2_000_000
    assert page.count("<h2>") == 5
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\(", page)
    assert set(re.findall(r'src="(.{5})', page)) == {"data:"}
    made = {path.name for path in out.iterdir()}
    assert made >= {"gains.csv", "claims.csv", "runs.csv", "size_curve.csv", "picture.png"}


def test_the_page_escapes_what_it_prints(tmp_path):
    data = {"title": f"scenes & {HOSTILE}"}
    runs = simulate(tmp_path / "runs", heads={"fcn": {}, "<b>": {}}, data=data, seeds=(0, 1))
    write_unfinished(runs / "fla-9", state="failed")
    (path,) = report.write_report(runs, tmp_path / "out")
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;b&gt;" in page
    assert "Not finished: fla-9." in page


def test_the_terminal_shows_the_picture_as_a_table(comparison):
    console = Console(width=100, force_terminal=True, color_system="standard")
    with console.capture() as seen:
        console.print(report.summary_table(comparison))
    shown = seen.get()
    assert "\x1b[32m+9." in shown  # green: told apart
    assert "\x1b[90m" in shown  # grey: not


def test_the_picture_holds_the_numbers_of_the_table(comparison):
    drawn = {t.get_text() for t in figures.gain_picture(comparison).axes[0].texts}
    frame = tables.gains(comparison)
    for row in frame[frame["head"] != "fcn"].itertuples():
        assert f"{row.gain:+.1f}" in drawn
    assert "off (0.2%)" in drawn
    assert {"classes by size", "objects by size"} <= drawn


def test_two_seeds_show_values_and_no_verdicts(tmp_path):
    runs = compare(load_runs(simulate(tmp_path / "r", heads=HEADS, seeds=(0, 1))))
    assert not tables.gains(runs)["told_apart"].any()
    assert all("3 seeds are needed" in said for said in text.findings(runs))
    assert set(tables.claim_table(runs)["answer"]) == {"not tested"}


@pytest.mark.parametrize(
    ("heads", "reference"),
    [
        (("channel_nl", "fla"), "channel attention (channel_nl)"),
        (("fla", "spatial_nl", "theirs"), "spatial attention (spatial_nl)"),
        (("theirs", "zz"), "theirs"),
        (("fcn", "fla"), "no attention (fcn)"),
    ],
)
def test_every_text_names_the_reference(tmp_path, capsys, heads, reference):
    """Sentences, terminal, page and picture, also where there is no fcn."""
    folder = simulate(tmp_path / "r", heads={head: {} for head in heads}, noise=0.002)
    (path,) = report.write_report(folder, tmp_path / "out")
    page = html.unescape(path.read_text(encoding="utf-8"))
    shown = capsys.readouterr().out + re.sub('data:[^"]*', "", page)
    assert f"no difference from {reference}" in " ".join(shown.split())
    assert ("no attention" in shown) == ("fcn" in heads)
    found = compare(load_runs(folder))
    name = found.reference
    said = f"There is no fcn here: heads are compared with {name}."
    assert (said in page) == (said in found.notes) == ("fcn" not in heads)
    legend = " ".join(t.get_text() for t in figures.gain_picture(found).texts)
    assert f"Row {name}:" in legend


def test_heads_without_a_common_seed_have_a_report(tmp_path, capsys):
    folder = simulate(tmp_path / "r", heads={"fcn": {}, "fla": {"bus": 0.1}}, seeds=(0, 1))
    simulate(folder, heads={"danet": {}}, seeds=(7, 9))
    report.write_report(folder, tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "(danet): no seed; 3 seeds are needed to say more, 0 in common with fcn." in said
    frame = pd.read_csv(tmp_path / "out" / "gains.csv").set_index("head")
    assert frame.loc["danet", ["value", "gain"]].isna().all().all()
    won = pd.read_csv(tmp_path / "out" / "won_lost.csv")
    assert set(won["head"]) == {"fla"}


def test_value_and_gain_are_of_the_common_seeds(tmp_path):
    folder = simulate(tmp_path / "r", heads={"fcn": {}}, seeds=(0, 1, 2))
    simulate(folder, heads={"fla": {"bus": 0.1}}, seeds=(1, 2, 30))
    found = compare(load_runs(folder))
    row = tables.gains(found).set_index(["head", "score"]).loc[("fla", "miou")]
    scores = {h: dict(zip(s.seeds, s.values["miou"], strict=True)) for h, s in found.scores.items()}
    value = 50 * (scores["fla"][1] + scores["fla"][2])
    assert row["value"] == pytest.approx(value)
    assert row["gain"] == pytest.approx(value - 50 * (scores["fcn"][1] + scores["fcn"][2]))
    assert [a.path.name for a, _ in found.paired_runs("fla")] == ["fla-1", "fla-2"]


def test_a_choice_on_the_test_images_is_said(tmp_path, capsys):
    folder = simulate(tmp_path / "r", heads={"fcn": {}, "danet": {}, "fla": {}})
    training = {"max_epochs": 5, "batch_size": 8, "steps": 50, "chosen_on_test": True}
    for name in ("fcn-1", "fla-0"):
        edit_result(folder / name, training=training)
    (path,) = report.write_report(folder, tmp_path / "out")
    said = "Best epoch chosen on the test images: fcn, fla."
    assert said in path.read_text(encoding="utf-8").split("<h2>")[0]
    assert said in capsys.readouterr().out
    found = compare(load_runs(folder))
    assert said in "".join(t.get_text() for t in figures.gain_picture(found).texts)
    assert said not in compare(load_runs(folder, heads=["danet"])).notes


def test_one_head_alone_has_a_report(tmp_path):
    runs = simulate(tmp_path / "r", heads={"fla": {}})
    (path,) = report.write_report(runs, tmp_path / "out")
    assert "There is one head" in path.read_text(encoding="utf-8")


def test_several_experiments_have_a_page_each(tmp_path):
    for name in ("a", "b"):
        simulate(tmp_path / "runs" / name, heads={"fcn": {}, "fla": {}}, seeds=(0,))
    paths = report.write_report(tmp_path / "runs", tmp_path / "out")
    assert [path.parent.name for path in paths] == ["a", "b"]


def test_the_curve_finds_the_size_that_gains(comparison):
    curve = tables.size_curve(comparison)
    lamps = curve[(curve["classes"] == "lamp") & (curve["head"] == "fla")]
    assert (lamps["gain"] > 5).all()
    assert set(curve["classes"]) == {
        "bus",
        "lamp",
        "bus, lamp",
    }  # road is no thing that a bin scores
    assert (curve["low"] ** 2 >= 8).all()


def test_objects_won_and_lost_are_counted_by_bin(comparison):
    frame = tables.won_lost(comparison, "fla", threshold=0.03).set_index("objects of")
    assert frame.loc["thin", ["number", "won", "lost"]].tolist() == [80, 100, 0]
    assert frame.loc["large", "won"] == 0


def test_other_edges_need_no_new_test(comparison):
    moved = replace(MEASURES, size_edges=(10, 15))
    scores = comparison.rescore(moved)
    assert scores["fla"].values["miou"] == pytest.approx(comparison.scores["fla"].values["miou"])
    large = "iou_size/large"
    assert not np.allclose(scores["fla"].values[large], comparison.scores["fla"].values[large])


def test_variants_of_a_head_are_told_apart(tmp_path):
    folder = simulate(tmp_path / "r", heads={"fla": {}}, seeds=(0, 1))
    other = simulate(tmp_path / "s", heads={"fla": {}}, seeds=(0,)) / "fla-0"
    edit_result(other, head={"name": "fla", "channels": 64, "published_batch_mixing": True})
    found = compare([*load_runs(folder), *load_runs(other.parent)])
    assert found.heads == ["fla", "fla published_batch_mixing=true"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "sliding"}, "different protocol cannot be compared: fcn-0 and fcn-1"),
        ({"metric": {}}, "different metric"),
        ({"seed": 0}, "both head 'fcn' with seed 0"),
        ({"schema": 2}, r"has schema 2.*Run it again, or read it with the version that wrote it\."),
    ],
)
def test_runs_that_cannot_be_compared_say_why(tmp_path, change, message):
    folder = simulate(tmp_path / "r", heads={"fcn": {}}, seeds=(0, 1))
    edit_result(folder / "fcn-1", **change)
    with pytest.raises(ValueError, match=message):
        compare(load_runs(folder))


def test_other_labels_are_noticed(tmp_path):
    folder = simulate(tmp_path / "r", heads={"fcn": {}}, seeds=(0, 1))
    run = load_runs(folder)[1]
    frame = run.objects()
    frame.loc[0, "area"] += 1
    from segattn.metrics import write_table

    write_table(frame, run.objects_path)
    with pytest.raises(ValueError, match="tested on other labels"):
        compare(load_runs(folder))


def test_nothing_finished_says_what_to_run(tmp_path):
    write_unfinished(tmp_path / "a", state="running")
    with pytest.raises(ValueError, match="none of 1 runs is finished"):
        report.write_report(tmp_path, tmp_path / "out")


def test_predictions_of_others_stand_beside_ours(tmp_path):
    folder = simulate(tmp_path / "r", heads={"fcn": {}, "theirs": {"bus": 0.1}})
    for path in folder.glob("theirs-*"):
        edit_result(path, protocol=None, cost={}, encoder=None, training={})
    found = compare(load_runs(folder))
    assert "Predictions of other code, by its own protocol: theirs." in found.notes
    assert list(tables.costs(found).index) == ["fcn"]
    assert text.findings(found)[-1].startswith("theirs helps ")
    (path,) = report.write_report(folder, tmp_path / "out")
    assert Path(path).is_file()
