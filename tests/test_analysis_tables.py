import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_runs import edit_result, simulate, write_run, write_unfinished

from segattn.analysis import catalogue, compare, display, html, tables, text
from segattn.analysis.measures import measures
from segattn.metrics import write_table
from segattn.runs import Run, load_runs

HEADS = {"fla": {"lamp": 0.1}, "fcn": {}, "danet": {"road": -0.1}, "cs_nl": {}}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = simulate(tmp_path_factory.mktemp("runs"), heads=HEADS)
    write_unfinished(folder / "fla-9", state="failed", error="out of memory")
    return compare(load_runs(folder))


def iou(objects):
    return objects["tp"].sum() / (
        objects.loc[objects["kind"] == "object", "area"].sum()
        + objects["fp"].sum()
        + objects["fp_far"].sum()
    )


def value(frame, **where):
    for column, wanted in where.items():
        frame = frame[frame[column] == wanted]
    assert len(frame) == 1
    return frame.iloc[0]


def test_heads_are_ordered_with_fcn_as_reference(comparison):
    assert comparison.heads == ["fcn", "danet", "cs_nl", "fla"]
    assert comparison.references == {"danet": "fcn", "cs_nl": "fcn", "fla": "fcn"}
    assert [run.path.name for run in comparison.runs["fla"]] == ["fla-0", "fla-1", "fla-2"]


def test_share_of_the_attention_stands_beside_the_head_and_less_than_a_percent_is_told(tmp_path):
    simulate(tmp_path, heads={"fcn": {}, "fla": {}, "danet": {}}, seeds=(0, 1))
    for seed, share in ((0, 0.002), (1, 0.004)):
        danet = {"block.spatial": 0.1, "block.channel": share}
        edit_result(tmp_path / f"danet-{seed}", scores={"block_share": danet})
        edit_result(tmp_path / f"fla-{seed}", scores={"block_share": {"block": 0.25}})
    comparison = compare(load_runs(tmp_path))
    shown = display.heads(comparison).set_index("head")["block share"]
    assert shown["danet"] == "block.spatial 10.0%, block.channel 0.3%"
    assert shown["fla"] == "25.0%"
    assert shown["fcn"] == "n/a"
    (sentence,) = [line for line in text.findings(comparison) if "switched off" in line]
    assert sentence == (
        "Training has switched off attention of danet: block.channel adds 0.3% to its input "
        "(norms, mean over the test images)."
    )


def test_planted_effects_are_read(comparison):
    frame = tables.differences(comparison)
    readings = frame.set_index(["head", "measure"])["reading"]
    assert readings["fla", "thin"] == "better"
    assert readings["fla", "large"] == "not separated"
    assert readings["danet", "large"] == "worse"
    assert readings["fla", "medium"] == "too few objects"
    assert (readings["cs_nl"].drop("medium") == "not separated").all()
    # lamps are the only thin objects: 0.1 more recall over 1.1 times the area
    assert value(frame, head="fla", measure="thin")["value"] == pytest.approx(9.1, abs=1.5)


def test_scores_equal_a_recomputation_from_the_object_tables(comparison):
    frame = tables.scores(comparison)
    for head, runs in comparison.runs.items():
        objects = [run.objects() for run in runs]
        by_class = [[iou(o[o["cls"] == c]) for c in range(3)] for o in objects]
        got = value(frame, head=head, measure="mIoU")
        assert got["value"] == pytest.approx(100 * np.mean(by_class))
        # areas below (4 * 8)^2 are small; buses and lamps have them
        small = [o[o["area"] < 32**2] for o in objects]
        by_class = [[iou(o[o["cls"] == c]) for c in (1, 2)] for o in small]
        got = value(frame, head=head, measure="small")
        assert got["value"] == pytest.approx(100 * np.mean(by_class))


def test_class_and_group_scores_equal_a_recomputation(comparison):
    runs = comparison.runs["fla"]
    lamps = [o[o["cls"] == 2] for o in (run.objects() for run in runs)]
    got = value(tables.class_scores(comparison), **{"head": "fla", "class": "lamp"})
    assert got["value"] == pytest.approx(100 * np.mean([iou(o) for o in lamps]))
    groups = tables.class_groups(comparison)
    recall = 100 * np.mean([o["tp"].sum() / o["area"].sum() for o in lamps])
    where = {"head": "fla", "classes": "poles"}
    assert value(groups, measure="IoU", **where)["value"] == pytest.approx(got["value"])
    assert value(groups, measure="recall", **where)["value"] == pytest.approx(recall)
    assert value(groups, measure="recall thin", **where)["value"] == pytest.approx(recall)
    assert np.isnan(value(groups, measure="recall large", **where)["value"])


def test_support_counts_objects_and_marks_thin_cells(tmp_path):
    folder = simulate(tmp_path, heads={"fcn": {}}, seeds=(0,), num_images=40)
    run = folder / "fcn-0"
    frame = Run(run).objects()
    # 25 lamps of each size are left: 50 thin ones, all of them small; one is a speck
    frame = frame[(frame["cls"] != 2) | (frame["image"] < "image_0025")]
    frame.loc[frame.index[frame["cls"] == 2][0], ["area", "width", "tp"]] = (10, 1.0, 5)
    buses_left = (frame["cls"] != 1) | (frame["image"] < "image_0029")
    frame = frame[buses_left]
    is_road = frame["cls"] == 0  # 80 of them, crowded into 9 images
    frame.loc[is_road, "image"] = [f"image_{n % 9:04d}" for n in range(is_road.sum())]
    write_table(frame, run / "objects.parquet")
    comparison = compare(load_runs(folder))
    thin = value(comparison.support, **{"class": "lamp", "group": "thin"})
    assert (thin["objects"], thin["images"], thin["published"]) == (49, 25, True)
    assert thin["pixels"] == 10 + 24 * 300 + 25 * 600
    large = value(comparison.support, **{"class": "bus", "group": "large"})
    assert (large["objects"], large["published"]) == (29, False)
    road = value(comparison.support, **{"class": "road", "group": "large"})
    assert (road["objects"], road["images"], road["published"]) == (80, 9, False)
    assert comparison.published_classes("thin") == [2]
    shown = display.support(comparison).set_index("class")
    assert shown.loc["lamp", "thin"] == "49 obj, 22.2 k px"
    assert shown.loc["bus", "large"].startswith("(29 obj")


def test_costs_are_means_over_runs(comparison):
    got = value(tables.costs(comparison), head="fla")
    assert got["images_per_second"] == pytest.approx(42.5)
    assert (got["seeds"], got["parameters"]) == (3, 12_345_678)
    assert (got["images_per_second_min"], got["images_per_second_max"]) == (41.5, 43.5)
    shown = display.heads(comparison).set_index("head")["images/s (seeds)"]
    assert shown["fla"] == "42.5 (41.5 to 43.5)"
    assert any("scripts/benchmark.py" in line for line in text.caveats(comparison))


def test_display_tables_hold_the_rounded_numbers(comparison, tmp_path):
    score = value(tables.scores(comparison), head="fla", measure="thin")
    cell = display.heads(comparison).set_index("head").loc["fla", "thin"]
    assert cell == f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"
    paths = catalogue.write_tables(comparison, tmp_path / "out")
    assert cell in (tmp_path / "out" / "heads.md").read_text()
    read = pd.read_csv(tmp_path / "out" / "heads.csv")
    pd.testing.assert_frame_equal(read, tables.scores(comparison), check_dtype=False)
    assert all(path.exists() for path in paths)


def test_markdown_cells_cannot_break_the_table():
    frame = pd.DataFrame({"a|b": ["x|y", "two\nlines"]})
    assert display.to_markdown(frame) == "| a\\|b |\n| --- |\n| x\\|y |\n| two lines |\n"


def test_findings_name_every_head_once_per_measure(comparison):
    lines = text.findings(comparison)
    assert len(lines) == 6
    thin = next(line for line in lines if line.startswith("thin"))
    assert re.match(
        r"thin against fcn: better: fla by \d\.\d\d points; not separated: danet \(", thin
    )


def test_unfinished_runs_are_listed_with_their_error(comparison):
    assert text.unfinished(comparison) == ["fla-9: failed (out of memory)"]


def test_provenance_states_how_the_numbers_were_made(comparison):
    lines = "\n".join(text.provenance(comparison, folder=comparison.runs["fcn"][0].path.parent))
    for fact in ("12 finished runs", "seeds 0, 1, 2", "40 images", "32-true", "device cpu"):
        assert fact in lines
    assert "steps 50" in lines


@pytest.mark.parametrize("place", ["checkout", "working directory", "elsewhere"])
def test_the_command_of_a_report_runs_as_printed(comparison, tmp_path, monkeypatch, place):
    """From the checkout, where scripts/ is; quoted for a shell."""
    monkeypatch.chdir(tmp_path)
    folder, shown = {
        "checkout": (Path(text.__file__).parents[3] / "results" / "one", "results/one"),
        "working directory": (tmp_path / "my runs" / "one", "'my runs/one'"),
        "elsewhere": (Path("/runs/one"), "/runs/one"),
    }[place]
    assert text.provenance(comparison, folder=folder)[-1].endswith(f"scripts/report.py {shown}")
    assert shown.strip("'") in text.source(folder)


def test_setting_that_is_off_is_not_called_unknown():
    runs = load_runs(Path(__file__).parent / "fixture" / "runs")
    lines = "\n".join(text.provenance(compare(runs), folder=Path("runs")))
    assert "weights none" in lines
    assert "unknown" not in lines


def test_text_of_a_table_stands_left_and_intervals_stay_whole_also_in_a_notebook():
    markup = html.table(pd.DataFrame({"claim": ["a claim " * 9], "points": ["-2.77 [-13.86, +8]"]}))
    first, second = re.findall(r"<td (.*?)>", markup)
    assert first == second == 'style="text-align: left; white-space: nowrap"'
    assert re.search(r'<div class="long" style="white-space: normal[^>]*>a claim', markup)


@pytest.mark.parametrize(("name", "warned"), [("scenes", True), ("camvid", False)])
def test_synthetic_data_is_called_synthetic(tmp_path, name, warned):
    simulate(tmp_path, heads={"fcn": {}}, seeds=(0,), data={"name": name})
    lines = text.caveats(compare(load_runs(tmp_path)))
    assert any("Synthetic" in line for line in lines) is warned


def test_one_seed_is_flagged(tmp_path):
    simulate(tmp_path, heads={"fcn": {}, "fla": {"lamp": 0.1}}, seeds=(4,))
    comparison = compare(load_runs(tmp_path))
    assert "2 heads, 1 seed each" in text.subject(comparison)
    row = value(tables.differences(comparison), head="fla", measure="thin")
    assert (row["reading"], row["seeds"]) == ("better (one seed)", 1)
    assert any(line.startswith("One seed only: fcn, fla") for line in comparison.notes)


def test_unequal_seeds_are_paired_where_possible_and_said(tmp_path):
    simulate(tmp_path, heads={"fcn": {}}, seeds=(0, 1, 2))
    simulate(tmp_path, heads={"fla": {}}, seeds=(1, 2, 3))
    simulate(tmp_path, heads={"danet": {}}, seeds=(8,))
    comparison = compare(load_runs(tmp_path))
    frame = tables.differences(comparison)
    assert value(frame, head="fla", measure="mIoU")["seeds"] == 2
    assert value(frame, head="danet", measure="mIoU")["reading"] == "no common seed"
    assert "fla: 1, 2, 3" in comparison.notes[0]


def test_a_differing_budget_is_said(tmp_path):
    simulate(tmp_path, heads={"fcn": {}, "fla": {}}, seeds=(0,))
    training = {"optimizer": "adamw", "max_epochs": 9, "batch_size": 8, "steps": 90}
    edit_result(tmp_path / "fla-0", training=training)
    notes = compare(load_runs(tmp_path)).notes
    assert "The training budget differs between runs: max_epochs, steps." in notes


def test_without_fcn_the_first_head_is_the_reference(tmp_path):
    simulate(tmp_path, heads={"mine": {}, "fla": {}, "danet": {}}, seeds=(0,))
    assert compare(load_runs(tmp_path)).heads == ["danet", "fla", "mine"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "other"}, "fcn-0 and fla-0 differ in 'heads' and 'other'"),
        ({"data": {"title": "x"}}, "different data .*differ in .*title"),
        ({"metric": {"stride": 4}}, "different metric .*stride"),
        ({"images": ["image_0000"]}, "a list of 40 and one of 1 names"),
        ({"encoder": {"name": "resnet50"}}, "different encoder"),
    ],
)
def test_runs_that_differ_are_refused(tmp_path, change, message):
    simulate(tmp_path, heads={"fcn": {}, "fla": {}}, seeds=(0,))
    edit_result(tmp_path / "fla-0", **change)
    with pytest.raises(ValueError, match=message):
        compare(load_runs(tmp_path))


def test_variants_of_a_head_are_compared_with_its_default(tmp_path):
    simulate(tmp_path, heads={"fcn": {}, "fla": {}}, seeds=(0, 1))
    simulate(tmp_path / "other", heads={"fla": {"lamp": 0.2}}, seeds=(0, 1))
    for seed in (0, 1):  # a run that is older than the knob has its default
        variant = {"name": "fla", "channels": 64, "published_batch_mixing": True}
        edit_result(tmp_path / f"other/fla-{seed}", head=variant)
    comparison = compare(load_runs(tmp_path))
    variant = "fla published_batch_mixing=true"
    assert comparison.heads == ["fcn", "fla", variant]
    assert comparison.references == {"fla": "fcn", variant: "fla"}
    frame = tables.differences(comparison).set_index(["measure", "head"])
    assert frame.loc[("thin", variant), "reference"] == "fla"
    assert frame.loc[("thin", variant), "reading"] == "better"
    assert f"against fla: better: {variant} by " in " ".join(text.findings(comparison))
    assert list(display.sizes(comparison)["head"]) == comparison.heads
    wide = display.differences_by_size(comparison)
    assert list(wide["head"]) == ["fla", variant]
    assert list(wide["minus"]) == ["fcn", "fla"]
    assert list(wide.columns)[2:] == list(measures(comparison))


def test_two_runs_with_one_seed_are_refused(tmp_path):
    simulate(tmp_path, heads={"fla": {}}, seeds=(0, 1))
    edit_result(tmp_path / "fla-1", seed=0)
    with pytest.raises(ValueError, match="fla-0 and fla-1 are both head 'fla' with seed 0"):
        compare(load_runs(tmp_path))


def test_other_labels_under_the_same_names_are_refused(tmp_path):
    simulate(tmp_path, heads={"fcn": {}}, seeds=(0,))
    frame = Run(tmp_path / "fcn-0").objects()
    frame.loc[0, "area"] += 1
    write_run(tmp_path / "fla-0", head="fla", seed=0, frame=frame, data={})
    with pytest.raises(ValueError, match="fla-0 was tested on other labels"):
        compare(load_runs(tmp_path))


def test_nothing_finished_names_the_command(tmp_path):
    write_unfinished(tmp_path / "fcn-0", state="running")
    with pytest.raises(ValueError, match=r"none of 1 runs is finished.*make ablation"):
        compare(load_runs(tmp_path))


def test_one_head_without_class_groups_makes_tables(tmp_path):
    simulate(tmp_path, heads={"fcn": {}}, seeds=(0,), data={"groups": {}})
    comparison = compare(load_runs(tmp_path))
    catalogue.write_tables(comparison, tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out" / "heads.csv")) == 6
    for name in ("differences", "class_groups"):
        assert pd.read_csv(tmp_path / "out" / f"{name}.csv").empty
    assert text.findings(comparison) == ["Only one head (fcn) is finished: nothing to compare."]
