"""data=folder: every layout and form of label gives the same samples; bad input is one line."""

import numpy as np
import pytest
import yaml
from camvid_files import write_camvid
from folder_files import COLOURS, LAYOUTS, label_of, store, write_folder
from PIL import Image

from segattn.base.errors import UserError
from segattn.data import build_source
from segattn.data.camvid import CamVid
from segattn.data.folder import Folder

NAMES = {
    "classes": {"wall": 0, "window": 1, "pole": {"value": 2, "group": "thin"}},
    "ignore": [255],
}
PAINTED = {
    "classes": {"wall": "#000000", "window": [128, 0, 0], "pole": {"colour": [0, 0, 128]}},
    "ignore": [[255, 255, 255]],
}


def source(root, split="train", /, **knobs) -> Folder:
    return build_source("folder", split, **{"root": str(root), **knobs})


def load_all(root, *split, **knobs):
    opened = source(root, *split, **knobs)
    return [opened.load(index) for index in range(len(opened.names))]


def parts(root, **knobs):
    return [source(root, split, **knobs).names for split in ("train", "val", "test")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same_samples(tmp_path, layout):
    root = write_folder(tmp_path / "data", layout)
    train, val, test = parts(root, classes=NAMES)
    assert sorted(train + val + test) == sorted(f"photo {i}" for i in range(15))
    assert len({*train, *val, *test}) == 15
    if layout != "no splits":
        assert (len(train), len(val), len(test)) == (8, 3, 4)
    opened = source(root, classes=NAMES)
    assert opened.drawn == (layout == "no splits")
    assert opened.classes == ("wall", "window", "pole")
    for index, name in enumerate(opened.names):
        sample = opened.load(index)
        assert np.array_equal(sample.label, label_of(int(name.split()[1])))
        assert sample.instances is None


@pytest.mark.parametrize("form", ["indices", "colours", "palette"])
def test_every_form_of_label_is_read_alike(tmp_path, form):
    root = write_folder(tmp_path, form=form)
    opened = source(root, classes=PAINTED if form == "colours" else NAMES)
    assert np.array_equal(opened.load(0).label, label_of(0))
    if form == "colours":
        assert opened.palette == tuple(COLOURS[value] for value in range(3))


def test_colours_of_a_palette_count_where_classes_are_colours(tmp_path):
    root = write_folder(tmp_path)
    label = Image.open(root / "labels/train/photo 0.png")
    label.putpalette([number for v in range(256) for number in COLOURS.get(v, (9, 9, 9))])
    for split in ("train", "val", "test"):
        for path in (root / "labels" / split).iterdir():
            label.save(path)
    assert np.array_equal(source(root, classes=PAINTED).load(0).label, label_of(0))


def test_without_a_file_indices_are_numbered(tmp_path):
    root = write_folder(tmp_path)
    opened = source(root)
    assert opened.classes == ("0", "1", "2")
    assert opened.things == opened.classes
    assert "no class is marked as `thing: true`" in opened.notes[-1]
    (root / "classes.yaml").write_text(yaml.safe_dump(["wall", "window", "pole"]))
    with pytest.raises(
        UserError, match=r"0\.png holds 255 \(40 px\), which is not a label.*`ignore`"
    ):
        source(root).load(0)
    (root / "classes.yaml").write_text(yaml.safe_dump(NAMES, sort_keys=False))
    assert source(root).classes == ("wall", "window", "pole")
    assert source(root).class_groups == {"thin": ("pole",)}


def test_ids_and_things(tmp_path):
    root = write_folder(tmp_path, instances=True)
    classes = {**NAMES, "things": ["window"], "flip_pairs": [["window", "pole"]]}
    opened = source(root, classes=classes, size=[20, 24])
    assert opened.things == opened.with_ids == ("window",)
    assert opened.flip_pairs == (("window", "pole"),)
    sample = opened.load(0)
    assert sample.label.shape == sample.instances.shape == (20, 24)
    assert sorted(set(sample.instances[sample.label == 1])) == [1, 2]


def test_another_classes_yaml_is_other_data(tmp_path):
    root = write_folder(tmp_path)
    inline = source(root, classes=NAMES).fingerprint()
    (root / "classes.yaml").write_text(yaml.safe_dump(NAMES, sort_keys=False))
    before = source(root).fingerprint()
    assert source(root).fingerprint() == before != inline
    swapped = {**NAMES, "classes": {"window": 0, "wall": 1, "pole": 2}}
    (root / "classes.yaml").write_text(yaml.safe_dump(swapped, sort_keys=False))
    assert source(root).fingerprint() != before


def test_camvid_is_one_of_the_layouts(tmp_path):
    root = write_camvid(tmp_path)
    classes = {"classes": list(CamVid.classes), "things": list(CamVid.things), "ignore": [11, 255]}
    for split in ("train", "val", "test"):
        ours = build_source("camvid", split, root=str(root), scale=0.5)
        opened = source(root, split, classes=classes, size=[32, 48])
        assert opened.names == ours.names
        for index in range(len(ours.names)):
            one, other = ours.load(index), opened.load(index)
            assert np.array_equal(one.image, other.image)
            assert np.array_equal(one.label, other.label)


def test_val_is_cut_from_train_and_never_test_unless_asked(tmp_path):
    root = write_folder(tmp_path / "a", counts=(40, 0, 4))
    train, val, test = parts(root, val=0.3)
    assert len(train) + len(val) == 40
    assert 5 < len(val) < 20
    assert len(test) == 4
    assert parts(root, val="test")[0] == sorted(train + val)
    assert parts(root, val="test")[1:] == [test, test]
    only_val = write_folder(tmp_path / "b", counts=(8, 3, 0))
    with pytest.raises(UserError, match=r"has no test split; data\.val=test takes val for both"):
        source(only_val, "test")
    assert len(source(only_val, "test", val="test").names) == 3


def test_a_drawn_split_stays_put_when_images_are_added(tmp_path):
    before = parts(write_folder(tmp_path / "a", "no splits", counts=(30, 0, 0)))
    after = parts(write_folder(tmp_path / "b", "no splits", counts=(60, 0, 0)))
    assert all(set(few) < set(many) for few, many in zip(before, after, strict=True))
    taken = parts(tmp_path / "b", val="test")
    assert taken[1] == taken[2] == after[2]
    assert len(taken[0]) == 60 - len(after[2])
    assert parts(tmp_path / "b", split_seed=1) != after


def other_size(root):
    store(np.zeros((9, 9), np.uint8), root / "labels/train/photo 1.png")


def unknown(root):
    store(np.full((40, 48), 7, np.uint8), root / "labels/train/photo 1.png")


def own_palette(root):
    store(label_of(1), root / "labels/train/photo 1.png", "palette")


def two_labels(root):
    store(label_of(1), root / "labels/train/photo 1_mask.png")


def jpeg(root):
    (root / "labels/train/photo 1.png").rename(root / "labels/train/photo 1.jpg")


def damaged(root):
    (root / "labels/train/photo 1.png").write_bytes(b"\x89PNG\r\n")


def wide(root):
    Image.fromarray(np.full((40, 48), 300, np.uint16)).save(root / "labels/train/photo 1.png")


def second(root):
    (root / "images").mkdir()


def of_one_split(root):
    store(label_of(1), root / "instances/train/photo 1.png")


def no_images(root):
    for path in (root / "Images/val").iterdir():
        path.unlink()
    for path in (root / "labels/val").iterdir():
        path.unlink()


BAD = {
    "mask of another size": (other_size, {}, r"photo 1\.png is 9 x 9, its image .*48 x 40"),
    "unknown index": (unknown, {}, r"photo 1\.png holds 7 \(1920 px\), which is not a label of"),
    "palette of its own": (own_palette, {}, r"photo 1\.png is a picture with a palette of its own"),
    "two labels": (two_labels, {}, "are both labels of .*; keep one"),
    "16 bits": (wide, {}, "is a I;16 image; labels are one channel of 8-bit"),
    "damaged label": (damaged, {}, r"cannot read .*photo 1\.png"),
    "JPEG label": (jpeg, {}, "is a JPEG, whose colours are not exact"),
    "image without label": (
        lambda root: (root / "labels/train/photo 1.png").unlink(),
        {},
        r"missing: .*labels/train/photo 1\.png",
    ),
    "label without image": (
        lambda root: (root / "Images/train/photo 1.jpg").unlink(),
        {},
        r"photo 1\.png has no image of its name",
    ),
    "repeated name": (
        lambda root: Image.open(root / "Images/train/photo 1.jpg").save(
            root / "Images/train/photo 1.png"
        ),
        {},
        "is one of 2 samples named 'photo 1'",
    ),
    "empty split": (no_images, {}, "holds no image", "val"),
    "two folders": (second, {}, "may both be meant; rename one"),
    "ids of one split": (of_one_split, {}, "only some splits have instances"),
    "no labels": (
        lambda root: (root / "labels").rename(root / "things"),
        {},
        r"has Images/train, but no folder of labels",
    ),
    "shares": (None, {"split": [0.5, 0.5]}, r"data\.split must be the shares of train, val and"),
    "val": (None, {"val": "train"}, r"data\.val must be a share of train or test"),
    "no file": (None, {"classes": "mine.yaml"}, r"data\.classes=mine\.yaml: there is no file"),
    "colours for indices": (None, {"classes": PAINTED}, r"holds #010101 \(\d+ px\)"),
    "mixed": (
        None,
        {"classes": {"classes": {"a": 0, "b": "#ff0000"}}},
        "mixes indices and colours",
    ),
    "ignored class": (None, {"classes": {"classes": {"a": 0}, "ignore": [0]}}, "0 is a class and"),
    "twice": (None, {"classes": {"classes": {"a": 0, "b": 0}}}, "'a' and 'b' are both 0"),
    "no index": (None, {"classes": {"classes": {"a": 256}}}, "256 is neither an index from 0 to"),
    "value and colour": (
        None,
        {"classes": {"classes": {"a": {"value": 1, "colour": [0, 0, 0]}}}},
        "has a value and a colour",
    ),
    "no known layout": (
        lambda root: (root / "Images").rename(root / "a"),
        {},
        "has labels/train, but no folder of images",
    ),
    "misspelt key": (None, {"classes": {**NAMES, "flip_pair": []}}, "did you mean flip_pairs"),
    "misspelt": (None, {"classes": {"classes": {"a": {"things": True}}}}, "did you mean thing"),
    "group": (None, {"classes": {"classes": {"a": {"group": "tiny"}}}}, "unknown group of"),
    "pair of three": (
        None,
        {"classes": {**NAMES, "flip_pairs": [["wall", "pole", "window"]]}},
        "must hold pairs",
    ),
    "many classes": (
        None,
        {"classes": [f"class {number}" for number in range(256)]},
        "255",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_input_is_one_line(tmp_path, bad):
    change, knobs, line, *split = bad
    root = write_folder(tmp_path / "data")
    if change:
        change(root)
    with pytest.raises(UserError, match=line) as caught:
        load_all(root, *split, **{"classes": NAMES, **knobs})
    assert "\n" not in str(caught.value)


def test_no_folder():
    with pytest.raises(UserError, match=r"no folder /nowhere; set data\.root"):
        source("/nowhere")


def test_masks_of_0_and_255_need_a_word(tmp_path):
    root = tmp_path
    for number in range(4):
        Image.new("RGB", (8, 8)).save(_made(root / f"images/{number}.jpg"))
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(_made(root / f"labels/{number}.png"))
    with pytest.raises(UserError, match=r"hold 0 and 255 alone; say in classes\.yaml"):
        source(root)
    assert source(root, classes={"wall": 0, "crack": 255}).classes == ("wall", "crack")


def test_colours_without_classes_need_a_draft(tmp_path):
    root = write_folder(tmp_path, form="colours")
    with pytest.raises(UserError, match=r"hold colours, and no classes\.yaml .*--write-classes"):
        source(root)


def test_what_is_left_out_is_said(tmp_path):
    listed = write_folder(tmp_path / "lists", "lists")
    (listed / "train.txt").write_text("photo 0\n/home/x/images/photo 1.jpg labels/photo 1.png\n")
    opened = source(listed, classes=NAMES)
    assert opened.names == ["photo 0", "photo 1"]
    assert "6 images are in none of" in opened.notes[0]
    (listed / "train.txt").write_text("photo 77.jpg\n")
    with pytest.raises(UserError, match=r"lists 'photo 77\.jpg', but that image is missing"):
        source(listed, classes=NAMES)
    (listed / "train.txt").write_text("photo 0\nphoto 11\n")
    with pytest.raises(UserError, match=r"photo 11 is in .*train\.txt and in .*test\.txt"):
        source(listed, "test", classes=NAMES)
    loose = write_folder(tmp_path / "loose")
    Image.new("RGB", (48, 40)).save(loose / "Images/more.jpg")
    assert "more.jpg is in no split, and left out" in source(loose, classes=NAMES).notes[0]


def _made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
