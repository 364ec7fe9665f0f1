import numpy as np
import pandas as pd
import pytest
from simulated_runs import edit_result, simulate

from segattn.analysis import compare, crops
from segattn.analysis.won_lost import (
    GALLERY_FILE,
    extremes,
    object_differences,
    pairs,
    won_and_lost,
)
from segattn.metrics import write_table
from segattn.runs import Run, load_runs


def simulated(folder, heads=("fcn", "danet"), seeds=(0, 1)):
    simulate(folder, heads={head: {} for head in heads}, seeds=seeds, num_images=8, noise=0)


def plant(run, *, image, number, tp):
    """Give the object `number` of an image another count of true positives."""
    table = Run(run).objects()
    rows = table.index[(table["image"] == image) & (table["kind"] == "object")]
    table.loc[rows[number], "tp"] = tp
    write_table(table, run / "objects.parquet")


def differences(folder, a="danet", b="fcn"):
    return object_differences(compare(load_runs(folder)), a, b)


def test_a_planted_gain_is_the_only_one_and_its_iou_is_the_mean_over_seeds(tmp_path):
    simulated(tmp_path)
    assert (differences(tmp_path)["difference"] == 0).all()
    plant(tmp_path / "danet-0", image="image_0005", number=3, tp=12000)
    plant(tmp_path / "danet-1", image="image_0005", number=3, tp=9000)
    (gain,) = extremes(differences(tmp_path)).to_dict("records")
    assert (gain["image"], gain["object"], gain["cls"], gain["area"]) == ("image_0005", 3, 1, 12000)
    assert gain["iou_a"] == pytest.approx((12000 + 9000) / 2 / (12000 + 1200))
    assert gain["difference"] == pytest.approx(gain["iou_a"] - gain["iou_b"])
    (loss,) = extremes(differences(tmp_path, "fcn", "danet")).to_dict("records")
    assert loss["difference"] == -gain["difference"]


def test_only_common_seeds_count(tmp_path):
    simulated(tmp_path, heads=["fcn"], seeds=(0, 1))
    simulated(tmp_path, heads=["danet"], seeds=(1, 2))
    plant(tmp_path / "danet-2", image="image_0000", number=0, tp=0)
    assert (differences(tmp_path)["difference"] == 0).all()
    plant(tmp_path / "danet-1", image="image_0000", number=0, tp=0)
    assert differences(tmp_path)["iou_a"].min() == 0


def test_heads_without_a_common_seed_make_no_pair(tmp_path):
    simulated(tmp_path, heads=["fcn"], seeds=(0,))
    simulated(tmp_path, heads=["danet"], seeds=(1,))
    comparison = compare(load_runs(tmp_path))
    assert pairs(comparison) == []
    with pytest.raises(ValueError, match=r"'danet' and 'fcn' share no seed, got \(1,\) and \(0,\)"):
        object_differences(comparison, "danet", "fcn")


def test_small_objects_are_left_out_but_numbered(tmp_path):
    simulated(tmp_path)
    metric = Run(tmp_path / "fcn-0").result["metric"] | {"min_area": 400}
    for run in load_runs(tmp_path):
        edit_result(run.path, metric=metric)
    frame = differences(tmp_path)
    numbers = frame.groupby("image")["object"].agg(list)
    assert numbers.tolist() == [[0, 1, 2, 3, 5]] * 8  # number 4 has 300 px
    assert frame["bin"].tolist() == [4, 4, 0, 4, 1] * 8


def test_every_head_meets_its_reference_and_the_two_rivals_meet_once(tmp_path):
    simulated(tmp_path, heads=["channel_nl", "spatial_nl", "fla"], seeds=(0,))
    alone = pairs(compare(load_runs(tmp_path)))
    assert sorted(map(sorted, alone)) == [["channel_nl", "fla"], ["channel_nl", "spatial_nl"]]
    simulated(tmp_path, heads=["fcn"], seeds=(0,))
    assert pairs(compare(load_runs(tmp_path))) == [
        ("channel_nl", "fcn"),
        ("spatial_nl", "fcn"),
        ("fla", "fcn"),
        ("channel_nl", "spatial_nl"),
    ]


def frame_of(*rows):
    return pd.DataFrame(rows, columns=["image", "area", "difference"])


def test_extremes_are_ordered_by_size_of_the_difference_then_area_then_image():
    frame = frame_of(
        ("d", 50, 0.5),
        ("c", 50, 0.5),
        ("b", 90, 0.5),
        ("a", 20, 0.9),
        ("a", 90, -0.1),
        ("b", 90, -0.7),
        ("e", 90, 0.0),
    )
    chosen = extremes(frame)
    assert chosen["image"].tolist() == ["a", "b", "c", "d", "b", "a"]
    assert chosen["difference"].tolist() == [0.9, 0.5, 0.5, 0.5, -0.7, -0.1]
    assert extremes(frame, number=1)["image"].tolist() == ["a", "b"]


def test_an_image_shows_its_largest_gain_only():
    chosen = extremes(frame_of(("a", 20, 0.5), ("a", 20, 0.8), ("b", 20, 0.1)))
    assert chosen["difference"].tolist() == [0.8, 0.1]


def test_shares_by_hand():
    frame = pd.DataFrame(
        {"bin": [0, 0, 1, 4, 4], "difference": [0.2, 0.05, -0.3, 0.1, -0.1]},
    )
    shares = won_and_lost(frame).set_index("group")
    assert shares["objects"].to_dict() == {
        "small": 3,
        "medium": 0,
        "large": 2,
        "compact": 4,
        "thin": 1,
    }
    assert shares.loc["small", ["won", "lost"]].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert shares.loc["large", ["num_won", "num_lost"]].tolist() == [0, 0]  # 0.1 is not over 0.1
    assert np.isnan(shares.loc["medium", "won"])
    looser = won_and_lost(frame, threshold=0.04).set_index("group")
    assert looser.loc["compact", ["num_won", "num_lost"]].tolist() == [3, 1]


def gallery(pair, iou_a, iou_b):
    count = len(iou_a)
    label = np.zeros((count, 96, 96), dtype=np.uint8)
    mask = np.zeros(label.shape, dtype=bool)
    mask[:, 30:60, 30:60] = True
    return {
        "image": np.zeros((*label.shape, 3), dtype=np.uint8),
        "mask": mask,
        "label": label,
        "prediction_a": label + 1,
        "prediction_b": label + 2,
        "pair": np.array([pair] * count),
        "name": np.array([f"image_{k}" for k in range(count)]),
        "cls": np.full(count, 2),
        "area": np.full(count, 300),
        "iou_a": np.array(iou_a),
        "iou_b": np.array(iou_b),
    }


def test_the_figure_tells_gains_from_losses_and_names_what_it_shows(tmp_path):
    simulated(tmp_path)
    np.savez(tmp_path / GALLERY_FILE, **gallery(("danet", "fcn"), [0.8, 0.7, 0.1], [0.1, 0.2, 0.9]))
    figure = crops.won_lost(compare(load_runs(tmp_path)), ("danet", "fcn"))
    assert figure.get_suptitle() == "danet against fcn"
    blocks = figure.subfigs[1].subfigs
    shown = [[axes for axes in block.axes if axes.get_images()] for block in blocks]
    assert [len(axes) for axes in shown] == [6, 3]  # image and two predictions of each object
    assert [axes.get_ylabel() for axes in shown[1]] == ["image", "danet", "fcn"]
    assert [axes.get_xlabel() for axes in shown[1]] == ["", "IoU 0.10", "IoU 0.90"]
    assert shown[1][0].get_title() == "lamp\n300 px"
    colours = [tuple(axes.get_images()[0].get_array()[0, 0]) for axes in shown[1][1:]]
    assert colours == [(0, 60, 100), (190, 153, 153)]


def test_without_crops_the_figure_says_so(tmp_path):
    simulated(tmp_path)
    comparison = compare(load_runs(tmp_path))
    assert crops.read_gallery(tmp_path) == {}
    for content in ({}, gallery(("fla", "fcn"), [0.8], [0.1])):
        if content:
            np.savez(tmp_path / GALLERY_FILE, **content)
        (line,) = crops.won_lost(comparison, ("danet", "fcn")).texts
        assert line.get_text() == "No crops of danet against fcn: see scripts/collect.py."


def test_a_pair_without_losses_says_so(tmp_path):
    simulated(tmp_path)
    np.savez(tmp_path / GALLERY_FILE, **gallery(("danet", "fcn"), [0.8], [0.1]))
    figure = crops.won_lost(compare(load_runs(tmp_path)), ("danet", "fcn"))
    titles = [block.get_suptitle() for block in figure.subfigs[1].subfigs]
    assert titles == ["largest gains", "largest losses: none"]


def test_a_damaged_gallery_is_named(tmp_path):
    (tmp_path / GALLERY_FILE).write_bytes(b"half of a file")
    with pytest.raises(ValueError, match=r"won_lost\.npz.*collect\.py again"):
        crops.read_gallery(tmp_path)
