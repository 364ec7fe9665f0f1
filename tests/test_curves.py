"""The curve agrees with the tables and with loops, and only well supported cells enter it."""

import math

import numpy as np
import pytest
import simulated_runs
from simulated_runs import CLASSES, edit_result, simulate

from segattn.analysis import compare, tables
from segattn.analysis.curves import class_note, size_curve
from segattn.metrics import write_table
from segattn.runs import load_runs

# side of the objects of each class in cells, one object per image and side; stride 8
SIDES = {"road": (1.6, 2.3, 3.2, 4.6), "bus": (2.3, 3.2, 4.6, 19.0), "lamp": (1.6, 19.0)}
ROUND = {"rel": 1e-12}


def sized_runs(folder, sides=SIDES, *, heads=("fcn", "danet", "fla"), seeds=(0, 1, 2)):
    """Finished runs whose objects have the given sides."""
    shapes = {
        CLASSES.index(name): [(round((8 * side) ** 2), 4.0 * side) for side in cells]
        for name, cells in sides.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated_runs, "OBJECTS", shapes)
        simulate(folder, heads={head: {} for head in heads}, seeds=tuple(seeds))
    return folder


def edit_tables(folder, edit):
    """Replace the object table of every run by `edit(head, table)`."""
    for run in load_runs(folder):
        head = run.path.name.split("-")[0]
        write_table(edit(head, run.objects()), run.objects_path)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = sized_runs(tmp_path_factory.mktemp("runs"))
    for run in folder.iterdir():  # pairs of images, so that an interval without blocks would differ
        edit_result(run, blocks=[k // 2 for k in range(40)])
    return compare(load_runs(folder))


def point(curve, *, head, size):
    here = (curve["low"] <= size) & (size < curve["high"])
    (row,) = curve[(curve["head"] == head) & here].to_dict("records")
    return row


def test_one_point_equals_a_loop_over_the_rows_of_the_tables(comparison):
    row = point(size_curve(comparison), head="fla", size=2.3)
    assert (row["names"], row["classes"], row["objects"]) == ("road, bus", 2, 80)
    assert row["low"] < 2.3 < row["high"] == pytest.approx(row["low"] * math.sqrt(2))
    assert row["centre"] == pytest.approx(row["low"] * 2**0.25)

    def score(run):
        table, by_class = run.objects(), []
        for label in (0, 1):
            tp = union = 0
            for entry in table.to_dict("records"):
                size = math.sqrt(entry["area"]) / 8
                if entry["cls"] == label and row["low"] <= size < row["high"]:
                    is_object = entry["kind"] == "object"
                    tp += entry["tp"]
                    union += entry["area"] * is_object + entry["fp"] + entry["fp_far"]
            by_class.append(tp / union)
        return 100 * sum(by_class) / 2

    fla, fcn = (np.mean([score(run) for run in comparison.runs[h]]) for h in ("fla", "fcn"))
    assert row["value"] == pytest.approx(fla, **ROUND)
    assert row["difference"] == pytest.approx(fla - fcn, **ROUND)


def test_a_bin_that_is_a_whole_size_group_agrees_with_the_tables_in_its_intervals(comparison):
    curve = size_curve(comparison)
    scores, differences = (
        frame[frame["measure"] == "large"].set_index("head")[["value", "low", "high"]]
        for frame in (tables.scores(comparison), tables.differences(comparison))
    )
    for head in comparison.heads:
        row = point(curve, head=head, size=19.0)
        value = [row[name] for name in ("value", "low95", "high95")]
        assert value == pytest.approx(scores.loc[head].to_list(), **ROUND)
        gain = [row[f"difference{end}"] for end in ("", "_low95", "_high95")]
        if head == "fcn":
            assert np.isnan(gain).all()
        else:
            assert gain == pytest.approx(differences.loc[head].to_list(), **ROUND)


def test_an_effect_planted_at_one_size_shows_there_and_nowhere_else(tmp_path):
    def worsen(head, table):
        at_size = (np.sqrt(table["area"]) / 8).between(3, 3.5) & (table["kind"] == "object")
        lost = (0.1 * table["area"] * at_size * (head == "fla")).astype("int32")
        return table.assign(tp=table["tp"] - lost)

    edit_tables(sized_runs(tmp_path), worsen)
    curve = size_curve(compare(load_runs(tmp_path)))
    fla = curve[curve["head"] == "fla"]
    hit = (fla["low"] < 3.2) & (fla["high"] > 3.2)
    assert fla.loc[hit, "difference_high95"].item() < -8
    assert (fla.loc[~hit, "difference"].abs() < 1).all()
    assert (curve.loc[curve["head"] == "danet", "difference"].abs() < 1).all()


@pytest.mark.parametrize(
    ("kept", "enters"),
    [
        (lambda t: t["image"] >= "image_0010", True),  # 30 objects in 30 images
        (lambda t: t["image"] >= "image_0011", False),  # 29 objects
    ],
)
def test_a_cell_enters_only_with_enough_objects(tmp_path, kept, enters):
    def thin_out(_, table):
        bus = (table["cls"] == 1) & (table["area"] == round(18.4**2))
        return table[~bus | kept(table)]

    edit_tables(sized_runs(tmp_path, seeds=(0,)), thin_out)
    row = point(size_curve(compare(load_runs(tmp_path))), head="fcn", size=2.3)
    assert row["names"] == ("road, bus" if enters else "road")


@pytest.mark.parametrize(("images", "enters"), [(10, True), (9, False)])
def test_a_cell_enters_only_from_enough_images(tmp_path, images, enters):
    def crowd(_, table):
        """All 80 objects of one size into few images."""
        moved = table["image"].str[-2:].astype(int) % images
        few = moved.map("image_{:04d}".format)
        return table.assign(image=table["image"].mask(table["area"] == round(12.8**2), few))

    edit_tables(sized_runs(tmp_path, seeds=(0,)), crowd)
    curve = size_curve(compare(load_runs(tmp_path)))
    assert (curve["low"] < 1.6).any() == enters  # else the bin is left out


def test_specks_do_not_make_a_cell(tmp_path):
    sides = SIDES | {"lamp": (0.48,)}  # 15 px, below the minimum area of 16
    curve = size_curve(
        compare(load_runs(sized_runs(tmp_path, sides, seeds=(0,)))), stride_cells=(0.1, 32)
    )
    assert (curve["low"] > 0.6).all()
    assert not curve["names"].str.contains("lamp").any()


def test_common_takes_the_longest_run_of_bins_with_two_classes_in_all(comparison):
    curve = size_curve(comparison, classes="common")
    fcn = curve[curve["head"] == "fcn"]
    assert list(fcn["names"]) == ["road, bus"] * 3  # 1.6 has no bus, 19 is no neighbour
    assert list(np.diff(fcn["bin"])) == [1, 1]
    assert set(curve["class_set"]) == {"common"}
    everything = size_curve(comparison)
    same = everything[everything["names"] == "road, bus"]
    assert list(same["value"]) == list(curve["value"])
    assert "same classes at every size: road, bus" in class_note(curve, wanted="common")


@pytest.mark.parametrize(
    ("lamp", "road", "low"),
    [
        ((9.5, 13.0), (), 8.0),  # more classes
        ((), (), math.sqrt(2)),  # smaller objects
        ((9.5, 13.0), (3.2,), math.sqrt(2)),  # more bins
    ],
)
def test_common_takes_more_bins_then_more_classes_then_smaller_objects(tmp_path, lamp, road, low):
    both = (1.6, 2.3, 9.5, 13.0)
    sides = {"road": (*both, *road), "bus": (*both, *road), "lamp": lamp}
    runs = load_runs(sized_runs(tmp_path, sides, heads=("fcn",), seeds=(0,)))
    curve = size_curve(compare(runs), classes="common")
    assert len(curve) == 2 + len(road)
    assert curve["low"].min() == pytest.approx(low)


def test_without_common_classes_all_is_used_and_the_note_says_so(tmp_path):
    sides = {"road": (1.6, 2.3), "bus": (4.6, 9.5), "lamp": (4.6,)}
    single = compare(load_runs(sized_runs(tmp_path, sides, heads=("fcn", "fla"), seeds=(0,))))
    common = size_curve(single, classes="common")
    assert set(common["class_set"]) == {"all"}
    assert common.equals(size_curve(single))
    assert "no two classes share" in class_note(common, wanted="common")
    assert "no two classes" not in class_note(common, wanted="all")


def test_the_bins_at_the_ends_are_open(comparison):
    curve = size_curve(comparison, stride_cells=(2, 8))
    ends = curve[curve["head"] == "fcn"].iloc[[0, -1]]
    assert list(ends["low"]) == [0, 8]
    assert list(ends["high"]) == [2, math.inf]
    assert list(ends["centre"]) == pytest.approx([2 / 2**0.25, 8 * 2**0.25])
    assert "all above 8 cells" in class_note(curve, wanted="all")


def test_differences_use_the_common_seeds(tmp_path):
    sized_runs(tmp_path, heads=("fcn",))
    sized_runs(tmp_path, heads=("fla",), seeds=(1, 2, 3))
    runs = load_runs(tmp_path)
    row = point(size_curve(compare(runs)), head="fla", size=3.2)
    assert row["seeds"] == 3
    common = [size_curve(compare([r for r in runs if r.path.name[-1] == s])) for s in "12"]
    gains = [point(curve, head="fla", size=3.2)["difference"] for curve in common]
    assert row["difference"] == pytest.approx(np.mean(gains))


def test_too_few_objects_anywhere_make_an_empty_curve(tmp_path):
    sized_runs(tmp_path, heads=("fcn",), seeds=(0,))
    edit_tables(tmp_path, lambda _, table: table[table["image"] < "image_0020"])
    few = size_curve(compare(load_runs(tmp_path)))
    assert few.empty
    assert "value" in few
    assert "No class" in class_note(few, wanted="all")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"classes": "some"}, "unknown classes 'some'"), ({"stride_cells": (4, 2)}, "low and high")],
)
def test_unknown_options_are_refused(comparison, options, message):
    with pytest.raises(ValueError, match=message):
        size_curve(comparison, **options)
