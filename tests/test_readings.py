"""Tables of the evidence: both readings, one class at a time, verdicts, the perfect head."""

import math
import re
from functools import partial

import pytest
from simulated_runs import edit_result, simulate

from segattn.analysis import compare, display, readings, sections, verdict_tables
from segattn.analysis.claims import parse_condition
from segattn.analysis.measures import typical_classes
from segattn.analysis.stats import bin_iou, paired_difference
from segattn.metrics import write_table
from segattn.runs import load_runs

HEADS = {"fcn": {}, "channel_nl": {}, "spatial_nl": {"lamp": 0.1}, "fla": {"bus": 0.1}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = simulate(tmp_path_factory.mktemp("runs"), heads=HEADS, seeds=range(4))
    perfect = next(iter(load_runs(folder))).objects()
    truth = perfect["kind"] == "object"
    for stride, recall in ((4, 1.0), (8, 0.9)):
        tp = (recall * perfect["area"] * truth).astype("int32")
        (folder / "oracle").mkdir(exist_ok=True)
        frame = perfect.assign(tp=tp, fp=0, fp_far=0).astype({"fp": "int32", "fp_far": "int32"})
        write_table(frame, folder / "oracle" / f"stride_{stride}.parquet")
    return folder


@pytest.fixture(scope="module")
def comparison(folder):
    return compare(load_runs(folder))


def test_classes_are_grouped_by_their_training_objects(comparison):
    groups = readings.class_sizes(comparison).set_index("group")["classes"]
    assert dict(groups) == {
        "small": "lamp",
        "medium": "(none)",
        "large": "road, bus",
        "compact": "road, bus",
        "thin": "lamp",
    }
    assert typical_classes(comparison.facts, "small_or_thin") == [2]
    without = comparison.facts | {
        "train_objects": {
            "classes": {"road": None, "bus": None} | {"lamp": {"size": 24.0, "elongation": 17.0}}
        }
    }
    assert typical_classes(without, "large") == []


def test_side_by_side_holds_both_differences(comparison):
    frame = readings.differences(comparison)
    fla = frame[(frame["head"] == "fla") & (frame["measure"] == "small")].set_index("reading")
    assert fla.loc["objects", "low"] > 0  # small buses gain
    assert abs(fla.loc["classes", "value"]) < 1  # the small class is the lamp
    shown = readings.side_by_side(comparison)
    row = shown[(shown["head"] == "fla") & (shown["group"] == "small")].iloc[0]
    assert row["objects of that size"].startswith(f"{fla.loc['objects', 'value']:+.2f} [")
    assert row["classes of that size"].startswith(f"{fla.loc['classes', 'value']:+.2f} [")
    assert len(shown) == 5 * 3


def test_within_a_class_small_and_large_objects_are_compared(comparison):
    frame = readings.within_class(comparison)
    assert set(frame["class"]) == {"bus"}  # the only class with enough objects at two sizes
    rows = frame[frame["head"] == "fla"].set_index("measure")["value"]
    samples = comparison.samples
    for size in ("small", "large"):
        score = partial(bin_iou, group=size, classes=[1])
        want = paired_difference(samples["fla"], samples["fcn"], score).value
        assert rows[size] == pytest.approx(100 * want)
    assert rows["large - small"] == pytest.approx(rows["large"] - rows["small"])
    table = readings.within_class_table(comparison)
    assert list(table["head"]) == ["channel_nl", "spatial_nl", "fla"]
    assert set(table["sizes"]) == {"small, large"}


def test_further_axes_score_the_same_objects_by_other_properties(comparison):
    table = readings.other_axes(comparison).set_index(["axis", "bin"])
    assert list(table.columns) == ["fcn", "channel_nl", "spatial_nl", "fla"]
    # lamps, 4 and 6 px wide, are the only objects below a cell of width
    lamp = table.loc[("width [cells]", "< 1"), "spatial_nl"]
    thin = display.sizes(comparison).set_index("head").loc["spatial_nl", "thin"]
    assert lamp == thin
    assert ("width [cells]", ">= 3") in table.index
    assert table.loc[("size [px], terciles", "< 18"), "fcn"].startswith("5")
    assert ("share of the image", ">= 0.03") in table.index


def test_the_perfect_head_stands_in_the_size_table(comparison):
    sizes = display.sizes(comparison)
    assert sizes["head"].iloc[-1] == "(perfect head)"
    assert sizes["small"].iloc[-1].startswith("90.0 [")
    heads = display.heads(comparison)
    assert heads[["head", "seeds"]].iloc[-1].tolist() == ["(perfect head)", "n/a"]
    assert heads["seeds"].iloc[0] == "4"
    oracle = display.oracle(comparison).set_index("stride")
    assert list(oracle.index) == ["4", "8"]
    assert oracle.loc["4", "thin"] == "100.0 [100.0, 100.0]"


def test_without_an_oracle_the_table_has_no_such_row(tmp_path):
    alone = compare(load_runs(simulate(tmp_path, heads={"fcn": {}}, seeds=(0, 1))))
    assert list(display.sizes(alone)["head"]) == ["fcn"]
    assert display.oracle(alone).empty


def test_an_oracle_of_other_images_is_refused(tmp_path):
    simulate(tmp_path, heads={"fcn": {}}, seeds=(0,))
    frame = load_runs(tmp_path)[0].objects()
    (tmp_path / "oracle").mkdir()
    path = tmp_path / "oracle" / "stride_8.parquet"
    write_table(frame.assign(area=frame["area"] + 1), path)
    with pytest.raises(ValueError, match=r"oracle.*other labels.*scripts/collect.py"):
        compare(load_runs(tmp_path))


def test_verdicts_by_both_readings(comparison):
    table = verdict_tables.verdicts(comparison).set_index("claim")
    h2 = next(row for claim, row in table.iterrows() if claim.startswith("H2"))
    assert h2["by object size"] == "SUPPORTED"
    assert h2["by class size"] == "SUPPORTED"
    assert h2["hangs on"] == "small_or_thin(spatial_nl) - small_or_thin(channel_nl) > 0"
    h3 = next(row for claim, row in table.iterrows() if claim.startswith("H3"))
    assert (h3["by object size"], h3["points"], h3["Holm p"]) == ("NOT TESTED", "n/a", "n/a")
    assert h3["hangs on"] == "lacks runs of danet"


def test_a_claim_that_is_not_tested_says_what_it_lacks(tmp_path):
    def hangs_on(**options):
        simulate(tmp_path / str(options), heads=HEADS, **options)
        table = verdict_tables.verdicts(compare(load_runs(tmp_path / str(options))))
        return table["hangs on"][1]  # H2

    assert hangs_on(seeds=(0,)) == "lacks a second common seed"
    assert hangs_on(seeds=(0, 1), num_images=9) == "lacks classes with enough objects"


def test_the_classes_that_carry_a_verdict_are_named(comparison):
    """lamp gains, and the small buses hardly change."""
    condition = parse_condition("small_or_thin(spatial_nl) - small_or_thin(channel_nl) > 0")
    shares = readings.class_shares(comparison, condition)
    assert list(shares.index) == ["bus", "lamp"]
    frame = verdict_tables.conditions(comparison).query("reading == 'objects'")
    value = frame.set_index("condition")["value"]
    assert shares.sum() == pytest.approx(value[condition.text])
    overall = parse_condition("mIoU(spatial_nl) - mIoU(channel_nl) > 0")
    assert readings.class_shares(comparison, overall).index.tolist() == comparison.classes
    (h2,) = [line for line in verdict_tables.carried_by(comparison) if line.startswith("H2")]
    found = f"{value[condition.text]:+.2f} points: lamp {shares['lamp']:+.2f}, bus"
    assert h2.startswith(f"H2, SUPPORTED, {found}")


def test_conditions_without_their_heads_take_no_room(tmp_path):
    heads = {"channel_nl": {}, "spatial_nl": {"lamp": 0.1}}
    two = compare(load_runs(simulate(tmp_path, heads=heads)))
    every = verdict_tables.conditions(two)
    shown = verdict_tables.contrasts(two)
    assert len(shown) == 5 < every["condition"].nunique()
    assert set(shown["claim"]) == {"H1", "H2"}
    page = sections.claims(two)
    assert "large(fcn)" not in page
    assert re.search(r"\d\d conditions of H1, H2, H3, H4, H5 could not be tested", page)


def test_conditions_name_their_share_of_the_reachable_gap(comparison):
    frame = verdict_tables.conditions(comparison)
    rows = frame[frame["reading"] == "objects"].set_index("condition")
    row = rows.loc["thin(spatial_nl) - thin(channel_nl) > 0"]
    fcn = 100 * bin_iou(comparison.samples["fcn"].sums, group="thin", classes=[2]).mean()
    assert row["gap_share"] == pytest.approx(row["value"] / (90 - fcn), rel=1e-3)
    assert not row["decides"]
    assert (row["seeds"], row["images"], row["blocks"]) == (4, 40, 40)
    assert math.isnan(rows.loc["mIoU(danet) - mIoU(fcn) > 0", "value"])
    shown = verdict_tables.contrasts(comparison)
    assert len(shown) == rows["value"].notna().sum()


def test_across_data_sets_counts_support_and_pools_nothing(folder, comparison, tmp_path):
    simulate(tmp_path, heads=HEADS | {"spatial_nl": {}}, seeds=range(3))
    for run in load_runs(tmp_path):
        edit_result(run.path, experiment="other")
    table = verdict_tables.across([comparison, compare(load_runs(tmp_path))])
    assert list(table.columns) == ["claim", "heads", "other", "supported"]
    assert table.loc[1, "supported"] == "1 of 2"


def test_blocks_of_frames_are_the_unit(tmp_path):
    simulate(tmp_path, heads={"fcn": {}, "fla": {}}, seeds=(0, 1))
    for run in load_runs(tmp_path):
        edit_result(run.path, blocks=[i // 10 for i in range(40)])
    comparison = compare(load_runs(tmp_path))
    assert {sample.blocks for sample in comparison.samples.values()} == {4}
