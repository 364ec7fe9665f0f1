"""PASCAL Context's reader: lists, and the choice of 59 classes."""

from functools import partial

import numpy as np
import pytest
import readers
from context_files import NUMBERS, SIZES, write_context
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


@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 460), (np.int16, -1)])
def test_a_value_that_is_no_label_is_named(tmp_path, dtype, value):
    label = write_context(tmp_path) / "trainval/2009_000001.mat"
    savemat(label, {"LabelMap": np.full(SIZES[1], value, dtype)})
    with pytest.raises(ValueError, match=f"{label} holds {value}, which is not a label.* 0 to 459"):
        load_all(tmp_path)
