"""Cityscapes' reader: label ids, instances, blocks, and damaged instances."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import readers
from cityscapes_files import NAMES, write_cityscapes
from PIL import Image

from segattn.data import build_source
from segattn.data.cityscapes import LABEL_IDS

# the official table: id of each class that is scored
IDS = {
    **{"road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17},
    **{"traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23},
    **{"person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31},
    **{"motorcycle": 32, "bicycle": 33},
}
NAME = NAMES["train"][0]
CITY = "train/aachen"
IMAGE = f"leftImg8bit/{CITY}/{NAME}_leftImg8bit.png"
LABEL = f"gtFine/{CITY}/{NAME}_gtFine_labelIds.png"
INSTANCES = f"gtFine/{CITY}/{NAME}_gtFine_instanceIds.png"


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path / "cityscapes")


load_all = partial(readers.load_all, "cityscapes")


def stored(path):
    return np.array(Image.open(path)).astype(int)


def save(path, array, dtype=np.uint8):
    Image.fromarray(np.asarray(array).astype(dtype)).save(path)


@pytest.mark.parametrize(("split", "own"), [("train", "train"), ("val", "val"), ("test", "val")])
def test_splits_and_counts(root, split, own):
    source = build_source("cityscapes", split, root=str(root))
    assert source.names == list(NAMES[own])
    assert source.official[split] == (own, {"train": 2975, "val": 500}[own])


def test_label_ids_become_classes_and_other_ids_void(root):
    sample = load_all(root)[0]
    ids = stored(root / LABEL)
    expected = np.full(ids.shape, 255)
    for index, name in enumerate(build_source("cityscapes", "val", root=str(root)).classes):
        expected[ids == IDS[name]] = index
        assert LABEL_IDS[index] == IDS[name]
    assert np.array_equal(sample.label, expected)
    assert np.array_equal(sample.image, stored(root / IMAGE))
    labels = np.concatenate([sample.label.ravel() for sample in load_all(root)])
    assert set(np.unique(labels)) == {*range(19), 255}


def test_instances_have_numbers_and_groups_have_none(root):
    sample, ids = load_all(root)[0], stored(root / LABEL)
    numbered = sample.instances > 0
    assert np.array_equal(sample.instances[numbered] // 1000, ids[numbered])
    assert ids[numbered].min() >= 24
    assert (~numbered & (ids >= 24)).any()
    one = stored(root / INSTANCES)
    one[ids == ids.max()] = ids.max() * 1000  # the first of a class has number 0
    save(root / INSTANCES, one, np.uint16)
    assert (load_all(root)[0].instances[ids == ids.max()] == ids.max() * 1000).all()


def test_blocks_are_runs_of_images_of_one_city(root):
    source = build_source("cityscapes", "val", root=str(root))
    counts = {"frankfurt": 267, "lindau": 59, "munster": 174}  # of the official val split
    source.names = [
        f"{city}_000000_{i:06d}" for city, count in counts.items() for i in range(count)
    ]
    blocks = source.blocks()
    assert blocks[:267] == [min(i // 10, 25) for i in range(267)]
    assert blocks[267:269] == [26, 26]
    assert blocks[-1] == 26 + 5 + 17 - 1


def full(value, *, size=(32, 64)):
    return lambda path: save(path, np.full(size, value))


DAMAGE = {
    "no image": (IMAGE, Path.unlink, f"{LABEL} has no image of its name"),
    "instance size": (INSTANCES, full(0, size=(31, 64)), f"{INSTANCES} is 64 x 31"),
    "no id": (
        LABEL,
        full(34),
        f"{LABEL} holds 34, which is not a label. Labels are ids 0 to 33: use",
    ),
    "colour ids": (INSTANCES, full(0, size=(32, 64, 3)), f"{INSTANCES} is a RGB image"),
    "cut ids": (INSTANCES, readers.halve, f"cannot read .*{INSTANCES}"),
}


@pytest.mark.parametrize(("path", "damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(root, path, damage, message):
    damage(root / path)
    with pytest.raises(ValueError, match=message):
        load_all(root)


def test_instances_of_another_image_are_refused(root):
    other = root / INSTANCES.replace(NAME, NAMES["train"][1])
    (root / INSTANCES).write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"instanceIds\.png and .*labelIds\.png give \d+ pixels"):
        load_all(root)


def test_name_in_two_cities_is_a_problem(root):
    double = root / f"leftImg8bit/train/hamburg/{NAME}_leftImg8bit.png"
    double.write_bytes((root / IMAGE).read_bytes())
    with pytest.raises(ValueError, match=f"is one of 2 samples named '{NAME}'"):
        load_all(root)


def test_split_without_images_is_named(root):
    for path in (root / "leftImg8bit/val").glob("*/*"):
        path.unlink()
    with pytest.raises(ValueError, match=re.escape("val holds no CITY/*_leftImg8bit.png")):
        load_all(root, "val")
