"""COCO-Stuff's reader: lists, labels with gaps, and files that hold no labels."""

from functools import partial

import numpy as np
import pytest
import readers
from cocostuff_files import SIZES, USED, write_cocostuff, write_mat
from scipy.io import savemat

from segattn.data.cocostuff import COCOStuff

load_all = partial(readers.load_all, "cocostuff")


def test_reads_the_splits(tmp_path):
    root = write_cocostuff(tmp_path)
    samples = load_all(root)
    assert [sample.name for sample in samples] == [f"COCO_train2014_{k:012d}" for k in range(1, 5)]
    assert [sample.image.shape for sample in samples] == [(*SIZES[k % 2], 3) for k in range(4)]
    assert [sample.label.shape for sample in samples] == [SIZES[k % 2] for k in range(4)]
    assert all(sample.instances is None for sample in samples)
    val, test = load_all(root, "val"), load_all(root, "test")
    names = [f"COCO_train2014_{k:012d}" for k in range(100, 103)]
    assert [sample.name for sample in val] == [sample.name for sample in test] == names
    grey = samples[2].image
    assert np.array_equal(grey, np.repeat(grey[..., :1], 3, axis=2))


def test_closes_the_gaps_of_the_labels(tmp_path):
    root = write_cocostuff(tmp_path)
    stored = np.resize(np.array([0, *USED], np.uint8), SIZES[0])
    write_mat(root / "annotations/COCO_train2014_000000000001.mat", stored)
    label = load_all(root)[0].label
    known = {
        **{1: "person", 11: "fire hydrant", 13: "stop sign", 90: "toothbrush", 92: "banner"},
        **{67: "dining table", 110: "desk-stuff", 124: "grass", 157: "sky-other", 182: "wood"},
    }
    for number, name in known.items():
        assert {COCOStuff.classes[k] for k in label[stored == number]} == {name}
    assert np.array_equal(label == 255, stored == 0)
    assert set(np.unique(label)) == {*range(171), 255}


def test_facts():
    assert len(COCOStuff.classes) == len(set(COCOStuff.palette)) == 171
    assert len(COCOStuff.things) == 80
    assert COCOStuff.things[-1] == "toothbrush"
    assert [COCOStuff.official[split][1] for split in ("train", "val", "test")] == [
        9000,
        1000,
        1000,
    ]


LABEL = "annotations/COCO_train2014_000000000002.mat"


def mat(field="S", shape=SIZES[1], dtype=np.uint8, fill=1):
    return lambda root: savemat(root / LABEL, {field: np.full(shape, fill, dtype)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (mat(shape=(*SIZES[1], 3)), rf"{LABEL}: S is uint8 \[64, 48, 3\], not a label map"),
        (mat(dtype=np.float32, fill=0.5), f"{LABEL}: S is float32"),
        (mat(fill=183), f"{LABEL} holds 183, which is not a label. Labels are 1 to 182"),
        (mat(dtype=np.uint16, fill=300), f"{LABEL} holds 300, which is not a label"),
        *((mat(fill=k), f"{LABEL} holds {k}, which is not a label.*v1.1") for k in (12, 66, 91)),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    root = write_cocostuff(tmp_path)
    damage(root)
    with pytest.raises(ValueError, match=message):
        load_all(root)
