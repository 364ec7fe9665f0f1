"""Cityscapes with the fine annotations (Cordts et al. 2016)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segattn.base.errors import UserError
from segattn.data.files import (
    FileSource,
    Pair,
    class_table,
    is_hidden,
    need_folders,
    read_ids,
    read_indices,
    strays,
    to_classes,
)
from segattn.data.source import IGNORE_INDEX, Split, runs

# fmt: off
LABEL_IDS: tuple[int, ...] = (
    7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
)
"""Official label id of each class, in the order of the train ids."""
# fmt: on
_NUM_IDS = 34
# 255 is refused too: a licence plate (-1) is not drawn, so it can only be a file of train ids
_TABLE = class_table(
    {
        **dict.fromkeys(range(_NUM_IDS), IGNORE_INDEX),
        **{stored: index for index, stored in enumerate(LABEL_IDS)},
    }
)
_HINT = f"Labels are ids 0 to {_NUM_IDS - 1}: use *_gtFine_labelIds.png of gtFine_trainvaltest.zip."
_IDS_PER_LABEL = 1000
_IMAGE, _LABEL, _INSTANCES = (
    "_leftImg8bit.png",
    "_gtFine_labelIds.png",
    "_gtFine_instanceIds.png",
)
_BLOCK_IMAGES = 10


class Cityscapes(FileSource):
    """Cityscapes fine, the 19 classes of its evaluation, 1024 x 2048: train 2975, val 500.

    Reads `root/leftImg8bit/{train,val}/CITY/NAME_leftImg8bit.png` with the labels
    `root/gtFine/{train,val}/CITY/NAME_gtFine_labelIds.png` and the instances
    `NAME_gtFine_instanceIds.png` beside them; NAME is CITY_SEQUENCE_FRAME. The labels of the
    official test split are not public, its files hold dummies: val and test are both the official
    val split. The other label ids, such as parking or caravan, are void. Objects are the annotated
    people and vehicles; groups of them that nobody could tell apart, and all other classes, are
    connected components. https://www.cityscapes-dataset.com

    Args:
        split: "train", "val" or "test".
        root: The folder that holds leftImg8bit and gtFine.

    Raises:
        UserError: A folder is missing or holds no image; the message names it.
    """

    # fmt: off
    classes = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    )
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )
    # fmt: on
    values = LABEL_IDS
    with_ids = classes[11:]
    things = (*classes[5:8], *with_ids)
    class_groups: ClassVar = {  # as in the FLA paper's comparison, figure 2
        "large": ("truck", "bus", "train"),
        "small": ("traffic light", "traffic sign", "person", "rider", "motorcycle", "bicycle"),
        "thin": ("pole",),
    }
    official: ClassVar = {"train": ("train", 2975), "val": ("val", 500), "test": ("val", 500)}
    title = "cityscapes"

    def __init__(self, split: Split, *, root: str) -> None:
        folder, _ = self.official[split]
        images, labels = Path(root) / "leftImg8bit" / folder, Path(root) / "gtFine" / folder
        need_folders(images, labels, layout="the folder that holds leftImg8bit and gtFine")
        files = _in_cities(images, _IMAGE)
        if not files:
            raise UserError(f"{images} holds no CITY/*{_IMAGE}; unpack the data set again")
        pairs = [_pair(path, labels / path.parent.name) for path in files]
        super().__init__(
            pairs,
            problems=strays(_in_cities(labels, _LABEL), names=[pair.label.stem for pair in pairs]),
        )

    def blocks(self) -> list[int]:
        """Runs of at least 10 images of one city, since neighbours lie close on one drive.

        In most cities every image has a sequence number of its own, in others a number covers an
        hour of driving, so the numbers do not make blocks. The three cities of val make 48 runs.
        """
        return runs([name.split("_")[0] for name in self.names], at_least=_BLOCK_IMAGES)

    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """See the base class."""
        stored = read_indices(pair.label, hint=_HINT)
        label = to_classes(pair.label, stored, table=_TABLE, hint=_HINT)
        return label, _read_instances(pair, stored)


def _pair(image: Path, labels: Path) -> Pair:
    name = image.name.removesuffix(_IMAGE)
    return Pair(name, image, labels / f"{name}{_LABEL}", labels / f"{name}{_INSTANCES}")


def _read_instances(pair: Pair, stored: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Label id * 1000 + k for object k of its class; 0 where the file holds the plain label id."""
    assert pair.instances is not None
    ids = read_ids(pair.instances)
    of_object = ids >= _IDS_PER_LABEL
    label = np.where(of_object, ids // _IDS_PER_LABEL, ids)
    # another size is the base class's to name, which knows the image
    if ids.shape == stored.shape and (label != stored).any():
        raise UserError(
            f"{pair.instances} and {pair.label} give {(label != stored).sum()} pixels different "
            f"labels, so they belong to different images or versions; unpack gtFine again"
        )
    return np.where(of_object, ids, 0)


def _in_cities(folder: Path, ending: str) -> list[Path]:
    """Files of all cities; unlike with glob, a folder that may not be read is an error."""
    files = (path for city in folder.iterdir() if city.is_dir() for path in city.iterdir())
    return sorted(path for path in files if path.name.endswith(ending) and not is_hidden(path))
