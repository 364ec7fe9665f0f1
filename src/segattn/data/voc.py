"""PASCAL VOC 2012 (Everingham et al. 2015) and SBD (Hariharan et al. 2011)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segattn.base.errors import UserError
from segattn.data.files import (
    FileSource,
    Pair,
    need_folders,
    plain_table,
    read_indices,
    read_mat,
    to_classes,
)
from segattn.data.lists import read_names
from segattn.data.palette import voc_palette
from segattn.data.source import Split

_VOID = 255
_TABLE = plain_table(21, first=0, void=(_VOID,))
_COLOURS = voc_palette(256)
_MAX_BACKGROUND = 0.1  # share of the objects; that both files agree in all is not documented
_HINT = (
    f"Labels are 0 to 20, {_VOID} for the border: use SegmentationClass and SegmentationObject of "
    "VOCtrainval_11-May-2012.tar, and dataset/cls and dataset/inst of SBD's benchmark.tgz."
)
_LAYOUT = "the folder that holds VOCdevkit and, for data.sbd=true, benchmark_RELEASE"


class VOC(FileSource):
    """PASCAL VOC 2012 segmentation, 20 classes and background, images of many sizes.

    Reads, under `root/VOCdevkit/VOC2012`, the names in `ImageSets/Segmentation/{train,val}.txt`,
    `JPEGImages/NAME.jpg`, the labels `SegmentationClass/NAME.png` and the instances
    `SegmentationObject/NAME.png`: train 1464, val 1449. With `sbd`, train is the usual augmented
    set of 10582: it adds the images of SBD's train.txt and val.txt that are not in VOC val, with
    the labels of `root/benchmark_RELEASE/dataset/{cls,inst}/NAME.mat`. Where both label an image,
    VOC's labels count. SBD's images are VOC's, and are read from JPEGImages. Test labels are not
    public: val and test are both VOC val. The border around objects is void; SBD has no border.
    Objects are the annotated instances, and components of background. torchvision's readers know
    neither the augmented list nor instances. http://host.robots.ox.ac.uk/pascal/VOC/voc2012

    Args:
        split: "train", "val" or "test".
        root: The folder that holds VOCdevkit and, for `sbd`, benchmark_RELEASE.
        sbd: Train on the augmented set.

    Raises:
        UserError: A folder or a list is missing or empty; the message names it.
    """

    # fmt: off
    classes = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
        "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
        "sheep", "sofa", "train", "tvmonitor",
    )
    # fmt: on
    palette = voc_palette(len(classes))
    things = with_ids = classes[1:]
    official: ClassVar = {
        "train": ("train + SBD", 10582),
        "val": ("val", 1449),
        "test": ("val", 1449),
    }

    def __init__(self, split: Split, *, root: str, sbd: bool = True) -> None:
        self.title = "voc + sbd" if sbd else "voc"
        if not sbd:  # the only data set whose official split follows a knob
            self.official = {**self.official, "train": ("train", 1464)}  # type: ignore[misc]
        lists = Path(root) / "VOCdevkit/VOC2012/ImageSets/Segmentation"
        need_folders(lists, layout=_LAYOUT)
        listed = read_names(lists / f"{'train' if split == 'train' else 'val'}.txt")
        pairs = _voc_pairs(Path(root), listed)
        if sbd and split == "train":
            pairs += _sbd_pairs(Path(root), {*listed, *read_names(lists / "val.txt")})
        super().__init__(pairs)

    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """See the base class."""
        stored, ids = _read_sbd(pair) if pair.label.suffix == ".mat" else _read_voc(pair)
        label = to_classes(pair.label, stored, table=_TABLE, hint=_HINT)
        if ids.shape != label.shape:  # the base class names it, knowing the image
            return label, ids
        of_object = (ids > 0) & (ids != _VOID)
        if (label[of_object] == 0).sum() > _MAX_BACKGROUND * of_object.sum():
            raise UserError(
                f"{pair.instances} has objects where {pair.label} has background, so they belong "
                f"to different images; copy both again"
            )
        return label, np.where((label == 0) | (ids == _VOID), 0, ids)


def _voc_pairs(root: Path, names: list[str]) -> list[Pair]:
    voc = root / "VOCdevkit" / "VOC2012"
    images, labels, objects = (
        voc / name for name in ("JPEGImages", "SegmentationClass", "SegmentationObject")
    )
    need_folders(images, labels, objects, layout=_LAYOUT)
    return [
        Pair(name, images / f"{name}.jpg", labels / f"{name}.png", objects / f"{name}.png")
        for name in names
    ]


def _sbd_pairs(root: Path, known: set[str]) -> list[Pair]:
    """The images of SBD that VOC's lists do not know."""
    images, dataset = root / "VOCdevkit/VOC2012/JPEGImages", root / "benchmark_RELEASE" / "dataset"
    labels, objects = dataset / "cls", dataset / "inst"
    need_folders(labels, objects, layout=_LAYOUT)
    return [
        Pair(name, images / f"{name}.jpg", labels / f"{name}.mat", objects / f"{name}.mat")
        for listing in ("train.txt", "val.txt")
        for name in read_names(dataset / listing)
        if name not in known
    ]


def _read_voc(pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    assert pair.instances is not None
    label = read_indices(pair.label, hint=_HINT, palettes=[_COLOURS])
    return label, read_indices(pair.instances, hint=_HINT, palettes=[_COLOURS])


def _read_sbd(pair: Pair) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    assert pair.instances is not None
    label = read_mat(pair.label, "GTcls.Segmentation")
    return label, read_mat(pair.instances, "GTinst.Segmentation")
