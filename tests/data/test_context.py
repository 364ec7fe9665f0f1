"""PASCAL Context's reader: lists, the choice of 59 classes, and every kind of damage named."""

import re
from functools import partial

import numpy as np
import pytest
import readers
from context_files import NUMBERS, SIZES, write_context
from PIL import Image
from scipy.io import savemat

from segattn.data.context import PascalContext

load_all = partial(readers.load_all, "context")


def test_reads_the_splits(tmp_path):
    root = write_context(tmp_path)
    samples = load_all(root)
    assert [sample.name for sample in samples] == [f"20{8 + k:02d}_000{k:03d}" for k in range(4)]
    assert [sample.image.shape for sample in samples] == [(*SIZES[k % 2], 3) for k in range(4)]
    assert [sample.label.shape for sample in samples] == [SIZES[k % 2] for k in range(4)]
    assert all(sample.instances is None for sample in samples)
    val, test = load_all(root, "val"), load_all(root, "test")
    names = [f"20{8 + k:02d}_001{k:03d}" for k in range(3)]
    assert [sample.name for sample in val] == [sample.name for sample in test] == names
    grey = samples[2].image
    assert np.array_equal(grey, np.repeat(grey[..., :1], 3, axis=2))


def test_keeps_59_of_459_labels(tmp_path):
    root = write_context(tmp_path)
    stored = np.arange(4800).reshape(60, 80) % 460
    savemat(root / "trainval/2008_000000.mat", {"LabelMap": stored.astype(np.uint16)})
    label = load_all(root)[0].label
    for name, number in NUMBERS.items():
        assert {PascalContext.classes[k] for k in label[stored == number]} == {name}
    assert np.array_equal(label == 255, ~np.isin(stored, list(NUMBERS.values())))
    assert [NUMBERS[name] for name in ("aeroplane", "bag", "person", "table")] == [2, 9, 284, 397]


def test_facts():
    assert len(PascalContext.classes) == len(set(PascalContext.palette)) == 59
    assert len(PascalContext.things) == 20
    counts = [PascalContext.official[split][1] for split in ("train", "val", "test")]
    assert counts == [4998, 5105, 5105]


def test_list_of_labels_must_agree(tmp_path):
    listing = write_context(tmp_path) / "labels.txt"
    listing.write_text(listing.read_text().replace("284: person", "284: people"))
    with pytest.raises(ValueError, match=r"labels\.txt has 'people' as label 284.*'person'"):
        load_all(tmp_path)
    listing.unlink()
    assert len(load_all(tmp_path)) == 4


LABEL, IMAGE = "trainval/2009_000001.mat", "VOCdevkit/VOC2010/JPEGImages/2009_000001.jpg"
LIST = "VOCdevkit/VOC2010/ImageSets/Main/train.txt"


def mat(field="LabelMap", shape=SIZES[1], dtype=np.uint16, fill=2):
    return lambda root: savemat(root / LABEL, {field: np.full(shape, fill, dtype)})


def cut(name):
    return lambda root: readers.halve(root / name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / LABEL).unlink(), f"missing: .*{LABEL}; .*check_data"),
        (lambda root: (root / IMAGE).unlink(), f"missing: .*{IMAGE}; .*check_data"),
        (mat(shape=SIZES[0]), f"{LABEL} is 80 x 60, its image .* is 60 x 80"),
        (mat(shape=(*SIZES[1], 3)), rf"{LABEL}: LabelMap is uint16 \[80, 60, 3\], not a label map"),
        (mat(dtype=np.float32, fill=0.5), f"{LABEL}: LabelMap is float32"),
        (mat(field="S"), f"{LABEL} has no field LabelMap"),
        (mat(fill=460), f"{LABEL} holds 460, which is no label. Labels are 0 to 459"),
        (mat(dtype=np.int16, fill=-1), f"{LABEL} holds -1, which is no label"),
        (cut(LABEL), f"cannot read .*{LABEL}.*copy it again"),
        (cut(IMAGE), f"cannot read .*{IMAGE}.*copy it again"),
        (lambda root: Image.new("L", (60, 80)).save(root / LABEL, "PNG"), f"cannot read .*{LABEL}"),
        (lambda root: (root / LIST).write_text("\n"), f"{LIST} lists no image"),
        (lambda root: (root / LIST).unlink(), f"cannot read the list of images .*{LIST}"),
        (lambda root: (root / LIST).write_text("2009_000001\n" * 2), "one of 2 samples named"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    root = write_context(tmp_path)
    damage(root)
    with pytest.raises(ValueError, match=message):
        load_all(root)


@pytest.mark.parametrize("wrong", ["..", "VOCdevkit", "nowhere"])
def test_wrong_root_is_named(tmp_path, wrong):
    root = write_context(tmp_path / "context") / wrong
    with pytest.raises(ValueError, match=rf"no folder {re.escape(str(root))}.*set data\.root to"):
        load_all(root)
