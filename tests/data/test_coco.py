"""data=coco: what is drawn, which split an image is in, and one line for every bad input."""

import numpy as np
import pytest
from coco_files import rectangle, write_coco
from pycocotools import mask as coco_mask
from tiny import EXPERIMENTS

from segattn.base.errors import UserError
from segattn.config.compose import compose_config
from segattn.data import build_source
from segattn.training.build import build_data

GIVEN = {"train": "train.json", "test": "test.json"}


def source(root, split="train", **knobs):
    return build_source("coco", split, root=str(root), **{**GIVEN, **knobs})


def names_of(root, **knobs):
    return [source(root, split, **knobs).names for split in ("train", "val", "test")]


def test_smaller_parts_lie_on_larger_ones_and_each_has_an_id(tmp_path):
    train = source(write_coco(tmp_path))
    assert train.classes == ("background", "car", "left_door", "right_door")
    assert train.things == train.with_ids == train.classes[1:]
    sample = train.load(0)
    expected = np.zeros((48, 64), int)
    for label, corners in enumerate([(8, 8, 56, 40), (10, 12, 20, 30), (30, 12, 46, 30)], start=1):
        left, top, right, bottom = corners
        expected[top:bottom, left:right] = label
    assert np.array_equal(sample.label, expected)
    assert len(set(sample.instances[expected > 0])) == 3
    assert not sample.instances[expected == 0].any()


def test_forms_of_a_mask_draw_the_same(tmp_path):
    def counts(content):
        first, second = content["annotations"][:2]
        door = coco_mask.frPyObjects(second["segmentation"], 48, 64)[0]
        pixels = coco_mask.decode(door).ravel(order="F")
        ends = [0, *np.flatnonzero(np.diff(pixels)) + 1, pixels.size]
        second["segmentation"] = {"size": [48, 64], "counts": np.diff(ends).tolist()}
        halves = [rectangle(8, 8, 30, 40), rectangle(30, 8, 56, 40)]
        first["segmentation"] = halves

    first, second = (
        source(write_coco(tmp_path / name, change=change)).load(0)
        for name, change in (("a", None), ("b", counts))
    )
    assert np.array_equal(first.label, second.label)
    assert np.array_equal(first.instances, second.instances)


def test_crowds_count_for_their_class_and_lie_below_all(tmp_path):
    def crowd(content):
        content["annotations"][1]["iscrowd"] = 1
        content["annotations"][1]["segmentation"] = [rectangle(0, 0, 20, 30)]

    sample = source(write_coco(tmp_path, change=crowd)).load(0)
    assert sample.label[0, 0] == 2
    assert sample.instances[0, 0] == 0
    assert sample.label[20, 15] == 1  # the car


def test_classes_of_ones_own(tmp_path):
    root = write_coco(tmp_path)
    given = {"classes": {"left_door": None, "right_door": {"thing": True, "group": "small"}}}
    given |= {"ignore": ["car"], "flip_pairs": [["left_door", "right_door"]]}
    train = source(root, classes=given, background=None, size=[24, 32])
    assert train.classes == ("left_door", "right_door")
    assert train.things == ("right_door",)
    assert train.class_groups == {"small": ("right_door",)}
    sample = train.load(0)
    assert sample.label.shape == sample.instances.shape == (24, 32)
    assert sample.image.shape == (24, 32, 3)
    assert np.unique(sample.label).tolist() == [0, 1, 255]  # car and background are void
    assert sample.instances[sample.label == 0].max() == 0  # stuff has components


def test_a_drawn_split_stays_put_when_images_are_added(tmp_path):
    small = names_of(write_coco(tmp_path / "a", images=30), val=0.3)
    large = names_of(write_coco(tmp_path / "b", images=60), val=0.3)
    assert set(small[0]) < set(large[0])
    assert set(small[1]) < set(large[1])
    assert not set(large[0]) & set(large[1])
    assert len(large[0]) + len(large[1]) == 60
    assert 10 < len(large[1]) < 26
    assert names_of(tmp_path / "b", val=0.3, split_seed=1) != large
    train, val, test = names_of(tmp_path / "b", val=0.2, test=0.2)
    assert len({*train, *val, *test}) == 60
    assert names_of(tmp_path / "b", val="test")[1:] == [names_of(tmp_path / "b")[2]] * 2


@pytest.mark.parametrize(
    "form", ["train\\{}", "http://host/a/{}", "/home/me/data/{}", "./train/{}"]
)
def test_images_are_found_by_paths_of_other_machines(tmp_path, form):
    def move(content):
        for image in content["images"]:
            image["file_name"] = form.format(image["file_name"].split("/")[1])

    train = source(write_coco(tmp_path, change=move), images=None)
    assert all(pair.image.parent == tmp_path / "photos/train" for pair in train.pairs)


def test_two_folders_that_may_be_meant_are_named(tmp_path):
    def bare(content):
        for image in content["images"]:
            image["file_name"] = image["file_name"].split("/")[1]

    root = write_coco(tmp_path, images=4, change=bare)
    with pytest.raises(UserError, match=r"both hold street 0\.jpg; say which is meant"):
        source(root)
    given = {"train": "photos/train"}
    assert source(root, images=given).pairs[0].image.parent == root / "photos/train"


def test_images_without_annotation_are_said(tmp_path):
    def drop(content):
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] > 12]

    bare = source(write_coco(tmp_path, change=drop), val=0.01)
    assert bare.notes == ["3 images have no annotation, and count as background alone"]
    assert not bare.load(0).label.any()


def first(change):
    return lambda content: change(content["annotations"][0])


def renumber(content):
    content["annotations"][1]["id"] = content["annotations"][0]["id"]


BAD = {
    "a box alone": (first(lambda a: a.update(segmentation=[])), "annotation 1 has no polygon"),
    "two points": (first(lambda a: a.update(segmentation=[[1, 1, 5, 5]])), "three points or more"),
    "no area": (first(lambda a: a.update(segmentation=[[5, 5] * 3])), "a polygon without area"),
    "list as id": (first(lambda a: a.update(image_id=[1])), r"image \[1\], which is not listed"),
    "no annotations": (lambda c: c.update(annotations=[]), "lists no annotation"),
    "empty split": (None, "the split 'train' is empty", {"val": 0.999}),
    "unknown split": (None, "did you mean train", {"images": {"trian": "photos"}}),
    "odd numbers": (first(lambda a: a.update(segmentation=[[1] * 7])), "three points or more"),
    "text": (first(lambda a: a.update(segmentation=[["a"] * 6])), "three points or more"),
    "outside": (
        first(lambda a: a.update(segmentation=[rectangle(70, 1, 80, 9)])),
        "has a polygon outside its image of 64 x 48",
    ),
    "mask of another size": (
        first(lambda a: a.update(segmentation={"size": [64, 48], "counts": [64 * 48]})),
        r"has a mask of \[64, 48\], its image is \[48, 64\]",
    ),
    "mask of too many pixels": (
        first(lambda a: a.update(segmentation={"size": [48, 64], "counts": [1, 64 * 48]})),
        "has a mask of 3073 px, its image has 3072",
    ),
    "mask of negative counts": (
        first(lambda a: a.update(segmentation={"size": [48, 64], "counts": [-1, 64 * 48 + 1]})),
        "has a mask whose counts are not numbers of pixels",
    ),
    "unknown image": (first(lambda a: a.update(image_id=999)), "image 999, which is not listed"),
    "unknown category": (first(lambda a: a.update(category_id=4)), "has category 4"),
    "repeated id": (renumber, "annotation 1 has an id that stands twice"),
    "no size": (lambda c: c["images"][0].pop("width"), r"a width and a height, got \[None, 48\]"),
    "no name": (lambda c: c["images"][0].pop("file_name"), "must have an id and a file_name"),
    "repeated image": (lambda c: c["images"].append(c["images"][0]), "its id or its name"),
    "missing image": (
        lambda c: c["images"][1].update(file_name="train/none.jpg"),
        r"missing: .*none\.jpg",
    ),
    "no images": (lambda c: c.update(images=[]), "lists no image"),
    "no list": (lambda c: c.pop("categories"), "has no list 'categories'"),
    "repeated category": (
        lambda c: c["categories"][1].update(name="car"),
        "'car'.* has that of another",
    ),
    "no folder": (
        lambda c: [i.update(file_name=f"x/{i['id']}.jpg") for i in c["images"]],
        "names x/10.jpg, which is in no folder below",
    ),
    "all for val": (None, "data.val must be a JSON or a share between 0 and 1", {"val": 1.0}),
    "nothing left": (None, "take 1 of data.train", {"val": 0.5, "test": 0.5}),
    "no JSON": (None, r"no file .*other\.json; set data\.root", {"train": "other.json"}),
    "an image as JSON": (None, "it is not JSON", {"train": "photos/train/street 0.jpg"}),
    "size": (None, "data.size must be null or", {"size": [224]}),
    "edges": (None, "data.size_edges must be coco, terciles, or two", {"size_edges": [48, 16]}),
    "unknown class": (None, "'bus' is not a category", {"classes": ["bus"]}),
    "left class": (None, "does not name 'left_door'", {"classes": ["car"]}),
    "unknown pair": (
        None,
        "unknown class in flip_pairs of data.classes 'door'.*did you mean",
        {"classes": {"flip_pairs": [["left_door", "door"]]}},
    ),
    "unknown key": (None, "did you mean flip_pairs", {"classes": {"flip_pair": []}}),
}


@pytest.mark.parametrize(("change", "line", "knobs"), [(*b, {})[:3] for b in BAD.values()], ids=BAD)
def test_bad_input_is_one_line(tmp_path, change, line, knobs):
    root = write_coco(tmp_path, change=change)
    with pytest.raises(UserError, match=line) as caught:
        source(root, **{"val": 0.01, **knobs})
    assert "\n" not in str(caught.value)


def test_an_image_of_another_size_than_the_json_says_is_named(tmp_path):
    def turn(content):
        content["images"][0].update(width=48, height=64)
        del content["annotations"][2]  # its mask has a size of its own

    root = write_coco(tmp_path, change=turn)
    broken = source(root, val=0.01)
    with pytest.raises(UserError, match=r"is 48 x 64, its image .* is 64 x 48"):
        broken.load(broken.names.index("train/street 0"))


def test_a_training_on_its_test_images_is_refused(tmp_path):
    root = write_coco(tmp_path)
    words = ["data=coco", f"data.root={root}", "data.train=train.json", "data.test=train.json"]
    config = compose_config([*words, "loader.num_workers=0", "logger=none"], folder=EXPERIMENTS)
    with pytest.raises(UserError, match=r"\d+ images are in train and in test, such as .*street"):
        build_data(config).prepare_data()
