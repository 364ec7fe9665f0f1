"""PASCAL VOC's reader, with and without SBD: lists, labels, instances, damage."""

from pathlib import Path

import numpy as np
import pytest
import readers
from PIL import Image
from scipy.io import savemat
from voc_files import SBD, TRAIN, VAL, colour_map, save_indices, write_voc

from segattn.data import build_source

DEVKIT, EXTRA = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
LISTS = f"{DEVKIT}/ImageSets/Segmentation"
NEW = ("2008_000002", "2011_000004")  # SBD's that VOC's lists do not know
IMAGE = f"{DEVKIT}/JPEGImages/{TRAIN[0]}.jpg"
LABEL = f"{DEVKIT}/SegmentationClass/{TRAIN[0]}.png"
OBJECTS = f"{DEVKIT}/SegmentationObject/{TRAIN[0]}.png"
CLS, INST = f"{EXTRA}/cls/{NEW[0]}.mat", f"{EXTRA}/inst/{NEW[0]}.mat"


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


def load_all(root, split="train", **knobs):
    return {sample.name: sample for sample in readers.load_all("voc", root, split, **knobs)}


@pytest.mark.parametrize(
    ("split", "sbd", "names", "official"),
    [
        ("train", True, (*TRAIN, *NEW), ("train + SBD", 10582)),
        ("train", False, TRAIN, ("train", 1464)),
        ("val", True, VAL, ("val", 1449)),
        ("test", False, VAL, ("val", 1449)),
    ],
)
def test_splits_and_counts(root, split, sbd, names, official):
    source = build_source("voc", split, root=str(root), sbd=sbd)
    assert source.names == list(names)
    assert source.official[split] == official
    assert ("sbd" in source.title) == sbd


def test_labels_keep_their_numbers_and_two_sizes(root):
    samples = load_all(root)
    assert {sample.image.shape for sample in samples.values()} == {(48, 64, 3), (64, 48, 3)}
    for name in TRAIN:
        stored = np.array(Image.open(root / f"{DEVKIT}/SegmentationClass/{name}.png"))
        assert np.array_equal(samples[name].label, stored)
        assert {0, 255} < set(np.unique(stored))
    picture = Image.open(root / LABEL)
    assert (
        picture.getpalette()[:63]
        == np.ravel(build_source("voc", "val", root=str(root)).palette).tolist()
    )


def test_instances_are_objects_without_border_and_background(root):
    sample = load_all(root)[TRAIN[0]]
    stored = np.array(Image.open(root / OBJECTS))
    assert np.array_equal(sample.instances, np.where(stored == 255, 0, stored))
    assert set(np.unique(sample.instances)) == {0, 1, 2, 3}
    spilled = (stored > 0).astype(np.uint8)
    spilled[:2] = 1  # beyond the edge of the background, where no object can be
    save_indices(spilled, root / OBJECTS)
    sample = load_all(root)[TRAIN[0]]
    assert (spilled[sample.label == 0] == 1).any()
    assert (sample.instances[sample.label == 0] == 0).all()
    assert (sample.instances[sample.label == 5] == 1).all()


def test_voc_labels_count_where_sbd_has_the_image_too(root):
    samples = load_all(root)
    both = next(name for name in SBD["train"] if name in TRAIN)
    assert set(np.unique(samples[both].label)) != {0, 15}
    for name in NEW:  # a strip of background above two persons
        assert (samples[name].label[:4] == 0).all()
        assert (samples[name].label[4:] == 15).all()
        assert set(np.unique(samples[name].instances[:4])) == {0}
        assert set(np.unique(samples[name].instances[4:])) == {1, 2}


def mat(variable, array):
    return lambda path: savemat(path, {variable: {"Segmentation": array}})


def png(array):
    return lambda path: Image.fromarray(array).save(path)


def picture(path):
    image = Image.fromarray(np.zeros((64, 48), np.uint8)).convert("P")
    image.putpalette([*colour_map()[3:], 0, 0, 0])
    image.save(path)


INDICES = "labels are one channel of 8-bit class indices. Labels are 0 to 20"
DAMAGE = {
    "no objects": (OBJECTS, Path.unlink, f"missing: .*{OBJECTS}"),
    "no mat": (CLS, Path.unlink, f"missing: .*{CLS}"),
    "object size": (OBJECTS, png(np.zeros((63, 48), np.uint8)), f"{OBJECTS} is 48 x 63"),
    "other objects": (OBJECTS, png(np.full((64, 48), 1, np.uint8)), f"{OBJECTS} has objects where"),
    "mat size": (INST, mat("GTinst", np.ones((9, 8), np.uint8)), f"{INST} is 8 x 9, its image"),
    "palette": (LABEL, picture, f"{LABEL} is a picture with a palette of its own; {INDICES}"),
    "no class": (LABEL, png(np.full((64, 48), 21, np.uint8)), f"{LABEL} holds 21, which is no"),
    "no class in mat": (CLS, mat("GTcls", np.full((64, 48), 30, np.uint8)), f"{CLS} holds 30"),
    "other variable": (
        CLS,
        mat("GTinst", np.ones((64, 48), np.uint8)),
        f"{CLS} has no field GTcls",
    ),
    "no integers": (INST, mat("GTinst", np.ones((64, 48))), f"{INST}: .* is float64"),
    "cut mat": (INST, readers.halve, f"cannot read .*{INST}"),
    "no list": (
        f"{EXTRA}/val.txt",
        Path.unlink,
        "cannot read the list of images .*val.txt",
    ),
}


@pytest.mark.parametrize(("path", "damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(root, path, damage, message):
    damage(root / path)
    with pytest.raises(ValueError, match=message):
        load_all(root)


@pytest.mark.parametrize(
    ("listing", "name"), [(f"{LISTS}/train.txt", TRAIN[1]), (f"{EXTRA}/val.txt", NEW[0])]
)
def test_name_listed_twice_is_a_problem(root, listing, name):
    with (root / listing).open("a") as file:
        file.write(f"{name}\n")
    with pytest.raises(ValueError, match=f"{name}.jpg is one of 2 samples named '{name}'"):
        load_all(root)


def test_only_training_with_sbd_needs_its_folder(root):
    (root / "benchmark_RELEASE").rename(root / "elsewhere")
    assert len(load_all(root, "val")) == 3
    assert len(load_all(root, sbd=False)) == 4
    with pytest.raises(ValueError, match=f"no folder .*{EXTRA}/cls; .*data.sbd=true"):
        load_all(root)


@pytest.mark.parametrize(
    "line",
    ["JPEGImages/{}.jpg", "C:\\voc\\{}.JPG C:\\x\\{}.png", "./{}", '"{}",', "{}  1", "# a\n{}"],
)
def test_a_list_with_paths_or_columns_names_the_same_images(root, line):
    """A second spelling of a name must not let an image of SBD in once more."""
    before = build_source("voc", "train", root=str(root)).names
    listing = root / LISTS / "train.txt"
    names = listing.read_text().split()
    listing.write_text("\n".join(line.replace("{}", name) for name in names))
    source = build_source("voc", "train", root=str(root))
    assert (source.names, source.problems) == (before, [])
