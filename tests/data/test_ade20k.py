"""ADE20K's reader: pairs, labels, and every kind of damage named."""

import re
from functools import partial

import numpy as np
import pytest
import readers
from ade20k_files import SIZES, write_ade20k
from PIL import Image

from segattn.data.ade20k import ADE20K

load_all = partial(readers.load_all, "ade20k")


def test_reads_the_splits(tmp_path):
    root = write_ade20k(tmp_path)
    samples = load_all(root)
    assert [sample.name for sample in samples] == [f"ADE_train_0000000{k}" for k in range(1, 5)]
    assert [sample.image.shape for sample in samples] == [(*SIZES[k % 2], 3) for k in range(4)]
    assert [sample.label.shape for sample in samples] == [SIZES[k % 2] for k in range(4)]
    assert all(sample.instances is None for sample in samples)
    val, test = load_all(root, "val"), load_all(root, "test")
    names = [f"ADE_val_0000000{k}" for k in range(1, 4)]
    assert [sample.name for sample in val] == [sample.name for sample in test] == names
    grey = samples[2].image
    assert np.array_equal(grey, np.repeat(grey[..., :1], 3, axis=2))


def test_maps_raw_labels(tmp_path):
    root = write_ade20k(tmp_path)
    label = load_all(root)[0].label
    stored = np.array(Image.open(root / "annotations/training/ADE_train_00000001.png"))
    assert {ADE20K.classes[k] for k in label[stored == 1]} == {"wall"}
    assert {ADE20K.classes[k] for k in label[stored == 2]} == {"building"}
    assert {ADE20K.classes[k] for k in label[stored == 150]} == {"flag"}
    assert np.array_equal(label == 255, stored == 0)
    assert np.array_equal(label[stored > 0] + 1, stored[stored > 0])


def test_facts():
    assert len(ADE20K.classes) == len(set(ADE20K.classes)) == len(ADE20K.palette) == 150
    assert len(ADE20K.things) == 115
    assert ADE20K.palette[ADE20K.classes.index("person")] == (150, 5, 61)
    assert [ADE20K.official[split][1] for split in ("train", "val", "test")] == [20210, 2000, 2000]


LABEL, IMAGE = (
    "annotations/training/ADE_train_00000002.png",
    "images/training/ADE_train_00000002.jpg",
)
GREY = np.zeros(SIZES[1], np.uint8)
SQUARES = Image.fromarray(GREY + np.arange(40, dtype=np.uint8) // 10)


def save(name, content):
    return lambda root: content.save(root / name)


def cut(name):
    return lambda root: readers.halve(root / name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / LABEL).unlink(), f"missing: .*{LABEL}; .*check_data"),
        (lambda root: (root / IMAGE).unlink(), f"{LABEL} has no image of its name"),
        (save(IMAGE.replace("jpg", "JPG"), Image.new("RGB", (40, 64))), "one of 2 samples named"),
        (save(LABEL, Image.new("L", (64, 40))), f"{LABEL} is 64 x 40, its image .* is 40 x 64"),
        (save(LABEL, Image.new("RGB", (40, 64))), f"{LABEL} is a RGB image.*ADEChallengeData2016"),
        (save(LABEL, Image.new("RGBA", (40, 64))), f"{LABEL} is a RGBA image"),
        (save(LABEL, SQUARES.convert("RGB").quantize(3)), f"{LABEL} is a picture with a palette"),
        (save(LABEL, Image.fromarray(GREY.astype(np.uint16) + 1000)), f"{LABEL} is a I;16 image"),
        (
            save(LABEL, Image.fromarray(GREY + 151)),
            f"{LABEL} holds 151, which is no label.*1 to 150",
        ),
        (save(LABEL, Image.fromarray(GREY + 255)), f"{LABEL} holds 255, which is no label"),
        (cut(LABEL), f"cannot read .*{LABEL}.*copy it again"),
        (cut(IMAGE), f"cannot read .*{IMAGE}.*copy it again"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    root = write_ade20k(tmp_path)
    damage(root)
    with pytest.raises(ValueError, match=message):
        load_all(root)


@pytest.mark.parametrize("wrong", ["..", "images", "nowhere"])
def test_wrong_root_is_named(tmp_path, wrong):
    root = write_ade20k(tmp_path / "ADEChallengeData2016") / wrong
    with pytest.raises(ValueError, match=rf"no folder {re.escape(str(root))}.*set data\.root to"):
        load_all(root)


def test_empty_folder_is_named(tmp_path):
    root = write_ade20k(tmp_path)
    for path in (root / "images" / "validation").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"validation holds no \.jpg file"):
        load_all(root, "val")
