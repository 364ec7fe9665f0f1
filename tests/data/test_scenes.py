"""The built-in scenes: the same pixels everywhere, exact ids, cue and size crossed."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from segattn.data import build_source
from segattn.data.scenes import Scenes
from segattn.data.size_classes import find_size_classes, measures_of
from segattn.data.street import CLASSES, PALETTE, POLES, SIGNS, THINGS, VEHICLES, WATER, draw_scene
from segattn.metrics import SIZES, find_objects

# A change here changes every published number: raise SCENES_VERSION with it.
CHECKSUMS = {(0, 0): "2ea9d153955ecd01", (1, 7): "c6c3b8737b64f8f2", (2, 399): "76bdf54f3dfaa764"}


def digest(scene) -> str:
    parts = scene.image, scene.label, scene.instances
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


@pytest.mark.parametrize(("seed", "index"), CHECKSUMS)
def test_pixels_are_the_published_ones(seed, index):
    assert digest(draw_scene(seed, index)) == CHECKSUMS[seed, index]


def test_scenes_depend_on_seed_and_index_alone():
    assert digest(draw_scene(3, 5)) == digest(draw_scene(3, 5))
    assert len({digest(draw_scene(*key)) for key in ((3, 5), (3, 6), (4, 5))}) == 3


def test_every_class_occurs_and_ids_are_of_one_class():
    seen = set()
    for index in range(40):
        scene = draw_scene(0, index)
        seen |= set(np.unique(scene.label))
        for instance in np.unique(scene.instances)[1:]:
            assert len(np.unique(scene.label[scene.instances == instance])) == 1
    assert seen == set(range(len(CLASSES)))
    assert len(PALETTE) == len(CLASSES)


@pytest.fixture(scope="module")
def drawn():
    """400 scenes to learn from, and the 400 of the test, with their objects."""
    return [
        [
            (scene := draw_scene(stream, k), find_objects(scene.label, scene.instances))
            for k in range(400)
        ]
        for stream in (0, 2)
    ]


@pytest.fixture(scope="module")
def rules():
    return measures_of(lambda split: build_source("scenes", split), radius=16)


def test_every_kind_has_200_objects_of_every_size(drawn, rules):
    number = dict.fromkeys(((kind, s) for kind in (WATER, VEHICLES, SIGNS) for s in range(3)), 0)
    thin = 0
    for _, objects in drawn[1]:
        sizes = rules.size(objects.area)
        for label, size, is_thin in zip(
            objects.cls, sizes, rules.thin(objects.area, objects.width), strict=True
        ):
            thin += is_thin and CLASSES[label] in POLES
            for kind in (WATER, VEHICLES, SIGNS):
                number[kind, size] += CLASSES[label] in kind
    assert min(number.values()) >= 200, number
    assert thin >= 200


# what of an object may be seen: all of it, or the part that is far from its cue
PARTS = {
    SIGNS: lambda mask: mask,
    WATER: ndimage.binary_erosion,  # a blurred border shows what is around
    VEHICLES: lambda mask: within(mask, axis=1, low=0.3, high=0.7),
    POLES: lambda mask: within(mask, axis=0, low=0.5, high=1.0),
}


def within(mask, *, axis, low, high):
    """The part of a mask between two shares of its extent."""
    at = np.indices(mask.shape)[axis]
    first, last = at[mask].min(), at[mask].max() + 1
    return mask & (at >= first + low * (last - first)) & (at < first + high * (last - first))


def crops(scenes_of, kind, size, rules):
    """Colours of the objects of a kind and a size, [K, features], and their classes."""
    rows, labels = [], []
    for scene, objects in scenes_of:
        sizes = rules.size(objects.area)
        for k in np.flatnonzero(np.isin(objects.cls, [CLASSES.index(n) for n in kind])):
            if sizes[k] != size or objects.area[k] < 30:
                continue
            part = PARTS[kind](objects.ids == k)
            if part.sum() < 8:
                continue
            pixels = scene.image[part].astype(float)
            ratio = pixels[:, 0] / (pixels[:, 2] + 1)
            parts = [pixels.mean(0), pixels.std(0), np.quantile(pixels, (0.1, 0.9), axis=0).ravel()]
            rows.append(np.concatenate([*parts, [ratio.mean(), ratio.std()]]))
            labels.append(kind.index(CLASSES[objects.cls[k]]))
    return np.array(rows), np.array(labels)


def accuracy(train, test, number):
    """Of a linear classifier by least squares, balanced over the classes."""
    mean, spread = train[0].mean(0), train[0].std(0) + 1e-9
    x, z = (np.c_[(d[0] - mean) / spread, np.ones(len(d[0]))] for d in (train, test))
    weights = np.linalg.lstsq(x, np.eye(number)[train[1]], rcond=None)[0]
    right = (z @ weights).argmax(1) == test[1]
    return float(np.mean([right[test[1] == c].mean() for c in range(number)]))


@pytest.mark.parametrize("size", range(3), ids=SIZES)
@pytest.mark.parametrize("kind", PARTS, ids=["signs", "water", "vehicles", "poles"])
def test_an_object_without_its_cue_is_at_chance(drawn, rules, kind, size):
    if kind == POLES and size == 2:
        pytest.skip("poles are small and medium")
    train, test = (crops(part, kind, size, rules) for part in drawn)
    slack = 2.6 * np.sqrt(0.25 / len(test[1]))
    assert accuracy(train, test, len(kind)) < 1 / len(kind) + slack + 0.02


def cues(scenes_of, kind):
    """What is seen of light and billboard, outside of the objects of a kind, and their class."""
    rows, labels = [], []
    for scene, objects in scenes_of:
        seen = {CLASSES[k] for k in objects.cls} & set(kind)
        if not seen:
            continue
        (name,) = seen  # a scene has one class of the kind
        elsewhere = ~np.isin(scene.label, [CLASSES.index(n) for n in kind])
        red, blue = scene.image[elsewhere][:, [0, 2]].astype(float).T + 1
        board = scene.image[scene.label == CLASSES.index("building")].astype(float)  # and houses
        cyan, yellow = board[:, 2] > 2 * board[:, 0], board[:, 0] > 2.5 * board[:, 2]
        rows.append([np.log(red / blue).mean(), cyan.mean(), yellow.mean()])
        labels.append(kind.index(name))
    return np.array(rows), np.array(labels)


@pytest.mark.parametrize("kind", [SIGNS, WATER], ids=["signs", "water"])
def test_the_cue_elsewhere_tells_objects_of_every_size(drawn, kind):
    train, test = (cues(part, kind) for part in drawn)
    assert accuracy(train, test, 2) > 0.8


def test_size_classes_are_those_of_the_training_scenes(tmp_path):
    source = build_source("scenes", "train", root=str(tmp_path))
    assert {k: set(v) for k, v in find_size_classes(source).items()} == {
        k: set(v) for k, v in source.size_classes.items()
    }
    assert set(source.things) == set(THINGS)


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
