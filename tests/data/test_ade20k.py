"""ADE20K's reader: pairs, and labels."""

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


@pytest.mark.parametrize("value", [151, 255])
def test_a_value_that_is_no_label_is_named(tmp_path, value):
    root = write_ade20k(tmp_path)
    label = root / "annotations/training/ADE_train_00000002.png"
    Image.fromarray(np.full(SIZES[1], value, np.uint8)).save(label)
    with pytest.raises(ValueError, match=f"{label} holds {value}, which is not a label.*1 to 150"):
        load_all(root)


def test_empty_folder_is_named(tmp_path):
    root = write_ade20k(tmp_path)
    for path in (root / "images" / "validation").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"validation holds no \.jpg file"):
        load_all(root, "val")
