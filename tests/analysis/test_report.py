import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from simulated_runs import MEASURES, edit_result, simulate, write_unfinished

from segattn.analysis import compare, details, figures, report, tables, text
from segattn.analysis.stats import Difference, Family
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


def test_gains_are_paired_and_those_of_equal_heads_are_no_difference(comparison):
    frame = tables.gains(comparison).set_index(["head", "score"])
    row = frame.loc[("spatial_nl", "iou_group/large")]
    assert row["gain"] == pytest.approx(8.3, abs=1)
    assert row["share"] == pytest.approx(100 * row["gain"] / (100 - row["value"] + row["gain"]))
    assert row["verdict"] == frame.loc[("fla", "iou_shape/thin"), "verdict"] == "helps"
    assert set(frame.loc["channel_nl", "verdict"]) == {"no difference"}
    assert frame.loc["fcn", ["gain", "low", "high", "p"]].isna().all().all()
    assert (
        (frame["adjusted_high"] - frame["adjusted_low"] >= frame["high"] - frame["low"])
        .loc["fla"]
        .all()
    )


def test_the_answer_is_said_in_one_sentence_a_head(comparison):
    said = dict(zip(comparison.heads[1:], text.findings(comparison), strict=True))
    start = "Spatial attention (spatial_nl) against no attention (fcn) at 50 steps: helps large (+"
    assert said["spatial_nl"].startswith(start)
    assert "helps thin (+9." in said["fla"]
    assert ": no difference on " in said["channel_nl"]
    assert said["channel_nl"].endswith(", no difference. Its attention is off: 0.2 %.")


def test_claims_in_the_page_are_those_of_the_table(comparison, out):
    page = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    assert "). <b>Yes.</b>" in page
    assert "). <b>No difference.</b>" in page
    page = re.sub("</?b>", "", page)
    claims = pd.read_csv(out / "claims.csv")
    assert set(claims["reading"]) == {"group", "object"}
    for row in claims.itertuples():
        assert (row.sentence in page) == (row.answer != "not tested")
    answers = claims.set_index(["reading", "claim", "measure"])["answer"]
    assert answers["group", "H1", "large"] == "no"
    assert answers["object", "H5", "thin"] == "yes"
    assert answers["group", "H2", "small"] == "not tested"
    assert "Not tested: H2 (small classes), H5 (small classes); these runs lack " in page


def test_the_page_is_small_and_needs_no_network(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert len(page) < 2_000_000
    assert page.count("<h2>") == 6
    first = page.index("Scenes are synthetic, a test of mechanism")
    assert first < page.index("<img")
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\(", page)
    assert set(re.findall(r'src="(.{5})', page)) == {"data:"}
    assert matplotlib.pyplot.get_fignums() == []  # figures touch no global state
    made = {path.name for path in out.iterdir()}
    tables_made = ("gains", "class_gains", "claims", "power", "runs", "same_classes", "learning")
    assert made >= {*(f"{name}.csv" for name in tables_made), "neighbours.csv", "picture.png"}


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
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as seen:
        for table in report.summary_tables(comparison):
            console.print(table)
    shown = seen.get()
    assert all(name in shown for name in ("overall", "small", "large", "thin"))  # none is cut
    assert "\x1b[32m+9." in shown  # green: helps
    assert "= -0." in shown  # no difference


def test_the_picture_holds_the_numbers_of_the_table(comparison):
    drawn = {t.get_text() for t in figures.gain_picture(comparison).axes[0].texts}
    frame = tables.gains(comparison)
    for row in frame[frame["head"] != "fcn"].itertuples():
        assert f"{'= ' if row.verdict == 'no difference' else ''}{row.gain:+.1f}" in drawn
    assert "off (0.2%)" in drawn
    assert {"groups of classes", "objects by size"} <= drawn


def test_two_seeds_show_values_and_no_verdicts(tmp_path):
    runs = compare(load_runs(simulate(tmp_path / "r", heads=HEADS, seeds=(0, 1))))
    assert set(tables.gains(runs)["verdict"]) == {"", "not tested"}
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
    assert f" against {reference} at 50 steps: " in " ".join(shown.split())
    assert ("no attention" in shown) == ("fcn" in heads)
    found = compare(load_runs(folder))
    name = found.reference
    said = f"Without fcn, heads are compared with {name}."
    assert (said in page) == (said in found.notes) == ("fcn" not in heads)
    legend = " ".join(t.get_text() for t in figures.gain_picture(found).texts)
    assert f"Row {name}:" in legend


def test_heads_without_a_common_seed_have_a_report(tmp_path, capsys):
    folder = simulate(tmp_path / "r", heads={"fcn": {}, "fla": {"bus": 0.1}}, seeds=(0, 1))
    simulate(folder, heads={"danet": {}}, seeds=(7, 9))
    report.write_report(folder, tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "at 50 steps: 3 seeds are needed to say more, 0 in common with fcn." in said
    frame = pd.read_csv(tmp_path / "out" / "gains.csv").set_index("head")
    assert frame.loc["danet", ["value", "gain"]].isna().all().all()
    assert set(frame.loc["danet", "verdict"]) == {"not tested"}


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
    assert path.is_file()


def test_several_experiments_have_a_page_each(tmp_path):
    for name in ("a", "b"):
        simulate(tmp_path / "runs" / name, heads={"fcn": {}, "fla": {}}, seeds=(0,))
    paths = report.write_report(tmp_path / "runs", tmp_path / "out")
    assert [path.parent.name for path in paths] == ["a", "b"]


def test_a_class_with_few_test_objects_is_left_out_by_name(tmp_path):
    """Of 19 buses in each size none counts, of 20 each; the scores of result.json stay."""
    heads = {"fcn": {}, "fla": {"bus": 0.1}}
    enough = compare(load_runs(simulate(tmp_path / "a", heads=heads, num_images=20)))
    assert enough.judged is enough
    few = compare(load_runs(simulate(tmp_path / "b", heads=heads, num_images=19)))
    assert few.judged.judged is few.judged
    assert few.judged.measures.size_classes == {"small": ["lamp"], "thin": ["lamp"]}
    note = "Left out, with fewer than 20 test objects: small bus (19); large bus (19)."
    assert few.judged.notes == [*few.notes, note]
    assert few.scores["fla"].values["iou_size/large"].size == 3
    frame = tables.gains(few).set_index(["head", "score"])
    assert "iou_size/large" not in frame.loc["fla"].index
    lamps = few.rescore(replace(few.measures, size_classes={"small": ["lamp"]}))["fla"]
    value = 100 * lamps.values["iou_size/small"].mean()
    assert frame.loc[("fla", "iou_size/small"), "value"] == pytest.approx(value)
    (page,) = report.write_report(tmp_path / "b", tmp_path / "out")
    assert note in page.read_text(encoding="utf-8").split("<h2>")[0]


def test_sizes_are_compared_over_the_same_classes(comparison):
    """The bus is small and large; the lamp is small alone."""
    names, frame = details.same_classes(comparison)
    assert names == ["bus"]
    wide = frame.set_index(["head", "size"])
    gain = wide.loc["spatial_nl", "gain"]
    assert gain["small"] == pytest.approx(gain["large"], abs=1.5)
    reference = wide.loc[("fcn", "large"), "value"]
    assert wide.loc[("spatial_nl", "large"), "share"] == pytest.approx(
        100 * gain["large"] / (100 - reference)
    )


def test_curves_follow_the_validations(tmp_path):
    runs = simulate(tmp_path / "r", heads={"fcn": {}, "fla": {}}, seeds=(0, 1))
    for head, gain in (("fcn", 0.0), ("fla", 0.1)):
        for seed in (0, 1):
            rows = [
                {"epoch": k, "step": 25 * k, "val/miou": 0.3 + 0.1 * seed + gain * k}
                for k in (1, 2)
            ]
            rows += [{"epoch": 3, "step": 75, "val/miou": 0.9}] if seed else []
            lines = "".join(f"{json.dumps(row)}\n" for row in rows)
            (runs / f"{head}-{seed}" / "metrics.jsonl").write_text(lines)
    found = compare(load_runs(runs))
    frame = details.learning(found)
    assert frame[["head", "score", "step"]].to_numpy().tolist() == [
        ["fla", "miou", 25],
        ["fla", "miou", 50],
    ]
    assert frame["gain"].tolist() == pytest.approx([10, 20])
    assert "<img" in report.learning_body(found)
    for path in runs.glob("*/metrics.jsonl"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    assert "One validation at the end" in report.learning_body(compare(load_runs(runs)))


def test_what_could_be_seen(tmp_path):
    """The effect that is seen in 80 %, and the seeds that see 2 points; none without images."""
    runs = simulate(tmp_path / "r", heads={head: {} for head in HEADS}, noise=0.2, seeds=range(4))
    found = compare(load_runs(runs))
    frame = tables.power(found).set_index("score")
    cell = tables.gains(found).set_index(["head", "score"])
    half = (cell["adjusted_high"] - cell["adjusted_low"]).loc[:, "miou"].dropna() / 2
    assert half.min() < frame.loc["miou", "points"] < 1.6 * half.max()
    assert (frame["seeds"].dropna() >= 3).all()
    one = Difference("miou", 0.0, 5, 1e-5, 1e-4, 0.02, 0.03, 1.0)  # 1 point of error by images
    family = Family({("a", "fcn", name): replace(one, score=name) for name in frame.index}, {}, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "family", lambda _: family)
        assert tables.power(found)["seeds"].isna().all()
        assert "Seeds to see 2 points: none. More test images would be needed for mIoU, " in (
            text.seen(found)
        )


def test_the_picture_says_what_it_shows(comparison):
    shown = "\n".join(t.get_text() for t in figures.gain_picture(comparison).texts)
    assert "gain over it in points at 50 steps, 3 seeds." in shown
    assert "Gains seen with 80 % power, in points: mIoU" in shown.replace("\n", " ")
    panels = figures.seeds_picture(comparison).axes
    assert len(panels) == len(tables.score_names(comparison.measures))
    dots = [line.get_xdata() for line in panels[0].lines if line.get_marker() == "o"]
    expected = [100 * scores.values["miou"] for scores in comparison.scores.values()]
    np.testing.assert_allclose(dots, expected)


def test_two_states_are_shown_instead_of_a_mean(tmp_path, capsys):
    heads = {head: {} for head in HEADS}
    folder = simulate(tmp_path / "r", heads=heads, noise=0.002, seeds=range(4))
    for seed in (1, 3):
        shutil.rmtree(folder / f"fla-{seed}")
    simulate(folder, heads={"fla": {"bus": 0.3}}, noise=0.002, seeds=(1, 3))
    found = compare(load_runs(folder))
    row = tables.gains(found).set_index(["head", "score"]).loc[("fla", "iou_size/large")]
    assert (row["verdict"], row["runs"]) == ("two states", "2 of 4")
    said = text.findings(found)[-1]
    assert "learned large objects in 2 of 4 runs" in said
    assert "large (+" not in said
    assert said.endswith("learned in 2 of 4 runs.")
    assert "2/4" in {t.get_text() for t in figures.gain_picture(found).axes[0].texts}
    answers = tables.claim_table(found).set_index(["reading", "claim", "measure"])["answer"]
    assert answers["object", "H5", "large"] == "not decided"
    report.print_summary(found)
    assert "2/4" in capsys.readouterr().out


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
    assert text.findings(found)[-1].startswith(
        "theirs against no attention (fcn) at 50 steps: helps "
    )
    (path,) = report.write_report(folder, tmp_path / "out")
    assert Path(path).is_file()
