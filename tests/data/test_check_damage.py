"""Every kind of damage to a data set is a problem or a warning that names the file."""

import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from cocostuff_files import write_mat
from PIL import Image
from readers import halve
from scipy.io import savemat

from segattn.data import check as checks

T, A = "train/0001TP_train002.png", "trainannot/0001TP_train002.png"
JPG = "images/validation/ADE_val_00000002.jpg"
GTFINE = "gtFine/train/hamburg/hamburg_000000_000042_gtFine"
VOC_LIST = "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
MAT = "annotations/COCO_train2014_000000000002.mat"
CONTEXT_MAT = "trainval/2009_000001.mat"


def save(*shape, dtype=np.uint8, value=0, colours=None):
    def write(path):
        image = Image.fromarray(np.full(shape, value, dtype))
        (image.quantize(colours) if colours else image).save(path)

    return write


def add_line(line):
    return lambda path: path.write_text(path.read_text() + line + "\n")


def text(path):
    path.write_text("no picture")


def copy_to(other):
    return lambda path: shutil.copy(path, Path(str(path).replace(*other)))


def into_val(path):
    for old, new in (("train", "val"), ("trainannot", "valannot")):
        source = path.parents[1] / old / path.name
        shutil.copy(source, path.parents[1] / new / path.name)


def dropped_id(path):
    write_mat(path, np.full((64, 48), 12, np.uint8))


def add_1000(path):
    Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) + 1000).save(path)


# by kind: data set, path of the file, what happens to it, the new finding
KINDS = {
    "missing label": ("camvid", A, Path.unlink, f"problem: train: missing: .*{A}"),
    "missing image": ("camvid", T, Path.unlink, f"problem: train: .*{A} has no image of its"),
    "label of another size": ("camvid", A, save(64, 95), f"{A} is 95 x 64, its image .*{T} is 96"),
    "colours instead of indices": ("camvid", A, save(64, 96, 3), f"{A} is a RGB image"),
    "palette of its own": ("camvid", A, save(64, 96, 3, value=90, colours=4), f"{A} .* palette of"),
    "RGBA label": ("camvid", A, save(64, 96, 4), f"{A} is a RGBA image"),
    "value out of range": ("camvid", A, save(64, 96, value=200), f"{A} holds 200, which is not"),
    "truncated PNG": ("camvid", A, halve, f"cannot read .*{A}"),
    "truncated JPEG": ("ade20k", JPG, halve, f"problem: val, test: cannot read .*{JPG}"),
    "empty file": ("camvid", T, lambda path: path.write_bytes(b""), f"cannot read .*{T}"),
    "text as picture": ("camvid", A, text, f"cannot read .*{A}"),
    "empty folder": ("camvid", "val", lambda p: [*map(Path.unlink, p.iterdir())], "val holds no"),
    "missing folder": ("camvid", "testannot", shutil.rmtree, "no folder .*testannot; set data.roo"),
    "wrong root": ("ade20k", "images", lambda path: path.rename(path.parent / "x"), "no folder .*"),
    "one stem twice": ("camvid", T, copy_to((".png", ".jpg")), r"002\.jpg is one of 2 sam"),
    "image not in the list": ("camvid", T, copy_to(("002", "x")), r"trainx is not in .*train\.txt"),
    "list no text": ("camvid", "val.txt", lambda p: p.write_bytes(b"\x01"), "it is not text"),
    "empty list": ("cocostuff", "imageLists/test.txt", lambda p: p.write_text("\n"), "lists no im"),
    "line twice": ("voc", VOC_LIST, add_line("2007_000032"), "is one of 2 samples named '2007_000"),
    "list names no image": ("voc", VOC_LIST, add_line("2099_000001"), r"missing: .*2099_000001"),
    "damaged .mat": ("cocostuff", MAT, halve, f"cannot read .*{MAT}"),
    "text as .mat": ("context", CONTEXT_MAT, text, f"cannot read .*{CONTEXT_MAT}"),
    ".mat without the field": (
        "context", CONTEXT_MAT, lambda path: savemat(path, {"S": np.zeros((80, 60), np.uint16)}),
        f"{CONTEXT_MAT} has no field LabelMap",
    ),
    ".mat of another version": ("cocostuff", MAT, dropped_id, f"{MAT} holds 12, which is not"),
    "classes renumbered": (
        "context", "labels.txt", lambda path: path.write_text("2: bag\n"), "has 'bag' as label 2",
    ),
    "instances of another image": (
        "cityscapes", f"{GTFINE}_instanceIds.png", add_1000, "give [0-9]+ pixels different labels",
    ),
    "missing instances": (
        "cityscapes", f"{GTFINE}_instanceIds.png", Path.unlink, "missing: .*000042_gtFine_instance",
    ),
    "train ids instead of label ids": (
        "cityscapes", f"{GTFINE}_labelIds.png", save(32, 64, value=255), "labelIds.png holds 255",
    ),
    "wrong count": ("camvid", T, Path.unlink, r"5 complete images, but .* 'train' has 367"),
    "one name in two splits": ("camvid", T, into_val, "0001TP_train002 is in train and in val; no"),
    "void everywhere": ("camvid", A, save(64, 96, value=11), f"warning: train: .*{T} is labelled"),
    "no label at all": (
        "camvid", "valannot", lambda path: [save(64, 96, value=11)(p) for p in path.iterdir()],
        "problem: val: no image has a labelled pixel",
    ),
    "a class never occurs": (
        "camvid", "valannot", lambda path: [save(64, 96, value=3)(p) for p in path.iterdir()],
        "warning: val: 10 of 11 classes never occur: sky, building, pole, pavement, tree",
    ),
}  # fmt: skip


def check(data, root):
    found = checks.check(data, {"root": str(root)}, jobs=1)
    problems = [f"problem: {line}" for line in found.problems]
    return [*problems, *(f"warning: {line}" for line in found.warnings)]


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """Each data set and its findings before the damage, written once."""
    written = {}
    for data in {data for data, *_ in KINDS.values()}:
        writer = getattr(import_module(f"{data}_files"), f"write_{data}")
        root = writer(tmp_path_factory.mktemp(data) / data)
        written[data] = root, check(data, root)
    return written


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_damage_is_named(tmp_path, intact, kind):
    data, path, damage, message = KINDS[kind]
    original, before = intact[data]
    root = Path(shutil.copytree(original, tmp_path / data))
    known = [line.replace(str(original), str(root)) for line in before]
    damage(root / path)
    new = [line for line in check(data, root) if line not in known]
    assert any(re.search(message, line) for line in new), new
