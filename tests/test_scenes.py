"""The built-in scenes: the same pixels everywhere, exact ids, cues where the layout says."""

import hashlib

import numpy as np
import pytest

from segattn.data import build_source
from segattn.data.scenes import Scenes
from segattn.data.street import CLASSES, GROUPS, PALETTE, draw_scene

BUS, TRUCK, TRAIN = (CLASSES.index(name) for name in GROUPS["vehicles"])
POLES = [CLASSES.index(name) for name in GROUPS["poles"]]
# A change here changes every published number: raise SCENES_VERSION with it.
CHECKSUMS = {
    (0, 0, "free"): "5ece569065b1fbcd",
    (1, 7, "free"): "aaad97c4a664d81e",
    (2, 399, "aligned"): "d72c8f682fab49c6",
}


def digest(scene) -> str:
    parts = scene.image, scene.label, scene.instances
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


@pytest.mark.parametrize(("seed", "index", "layout"), CHECKSUMS)
def test_pixels_are_the_published_ones(seed, index, layout):
    assert digest(draw_scene(seed, index, layout=layout)) == CHECKSUMS[seed, index, layout]


def test_scenes_depend_on_seed_index_and_layout_alone():
    assert digest(draw_scene(3, 5)) == digest(draw_scene(3, 5))
    others = [draw_scene(3, 6), draw_scene(4, 5), draw_scene(3, 5, layout="aligned")]
    assert len({digest(scene) for scene in [draw_scene(3, 5), *others]}) == 4


def test_every_class_occurs_and_ids_are_of_one_class():
    seen = set()
    for index in range(40):
        scene = draw_scene(0, index)
        seen |= set(np.unique(scene.label))
        for instance in np.unique(scene.instances)[1:]:
            assert len(np.unique(scene.label[scene.instances == instance])) == 1
    assert seen == set(range(len(CLASSES)))
    assert len(PALETTE) == len(CLASSES)
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(CLASSES)


def rows_shared_by_both_ends(layout: str, classes: list[int], axis: int) -> float:
    """Median share of rows (or columns) that the two ends of long objects have in common."""
    shares = []
    for index in range(120):
        scene = draw_scene(9, index, layout=layout)
        for instance in np.unique(scene.instances)[1:]:
            y, x = np.nonzero(scene.instances == instance)
            along, across = (x, y) if axis == 0 else (y, x)
            if scene.label[y[0], x[0]] not in classes or np.ptp(along) < 70:
                continue
            first = set(across[along < along.min() + 6])
            last = set(across[along > along.max() - 6])
            shares.append(len(first & last) / min(len(first), len(last)))
    return float(np.median(shares))


@pytest.mark.parametrize(("classes", "axis"), [([BUS, TRUCK, TRAIN], 0), (POLES, 1)])
def test_free_layout_takes_cues_out_of_their_rows_and_columns(classes, axis):
    assert rows_shared_by_both_ends("aligned", classes, axis) > 0.9
    assert rows_shared_by_both_ends("free", classes, axis) < 0.4


def scenes(split="train", **knobs):
    sizes = {"num_train": 3, "num_val": 2, "num_test": 2, "height": 64, "width": 96}
    return build_source("scenes", split, **{**sizes, **knobs})


def test_source_gives_what_is_drawn_and_draws_once(tmp_path, monkeypatch):
    source = scenes(root=str(tmp_path))
    sample, drawn = source.load(1), draw_scene(0, 1, height=64, width=96)
    assert np.array_equal(sample.image, drawn.image)
    assert np.array_equal(sample.label, drawn.label)
    assert np.array_equal(sample.instances, drawn.instances)
    assert [len(scenes(split, root=str(tmp_path)).names) for split in ("train", "val")] == [3, 2]
    monkeypatch.setattr("segattn.data.street.draw_scene", None)
    assert np.array_equal(scenes(root=str(tmp_path)).load(1).image, sample.image)


def test_each_process_draws_in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Also two of one number, on machines that share the disk."""
    folders, draw = [], Scenes._draw_into

    def nested(self, folder):
        folders.append(folder)
        if len(folders) == 1:
            scenes(root=str(tmp_path)).load(0)
        draw(self, folder)

    monkeypatch.setattr(Scenes, "_draw_into", nested)
    scenes(root=str(tmp_path)).load(0)
    assert len(set(folders)) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_args, **_knobs):
        raise KeyboardInterrupt

    monkeypatch.setattr("segattn.data.street.draw_scene", fail)
    with pytest.raises(KeyboardInterrupt):
        scenes(root=str(tmp_path)).load(0)
    assert list(tmp_path.iterdir()) == []


def test_damaged_cache_is_named(tmp_path):
    scenes(root=str(tmp_path)).load(0)
    (label,) = tmp_path.rglob("label.npy")
    label.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{label.parent.name} is damaged.*delete that folder"):
        scenes(root=str(tmp_path)).load(0)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"layout": "diagonal"}, "layout must be one of .*aligned.*free.* got 'diagonal'"),
        ({"num_trian": 3}, "no knob 'num_trian'.*num_train"),
        ({"height": 32}, "64 <= height"),
        ({"num_train": 0}, "num_train=0"),
        ({"num_train": "all"}, "num_train must be int"),
    ],
)
def test_bad_knobs_are_named(knobs, message):
    with pytest.raises(ValueError, match=message):
        scenes(**knobs)


def test_unknown_data_set_lists_the_choices():
    with pytest.raises(ValueError, match=r"unknown data set 'scene'.*camvid.*scenes"):
        build_source("scene", "train")
