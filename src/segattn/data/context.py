"""PASCAL Context, 59 classes (Mottaghi et al. 2014)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segattn.data.files import FileSource, Pair, class_table, need_folders, read_mat, to_classes
from segattn.data.lists import read_names
from segattn.data.palette import voc_palette
from segattn.data.source import IGNORE_INDEX, Split

_NUM_LABELS = 459
# fmt: off
_LABELS = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23, "bird": 25,
    "boat": 31, "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46, "car": 59,
    "cat": 65, "ceiling": 68, "chair": 72, "cloth": 80, "computer": 85, "cow": 98, "cup": 104,
    "curtain": 105, "dog": 113, "door": 115, "fence": 144, "floor": 158, "flower": 159, "food": 162,
    "grass": 187, "ground": 189, "horse": 207, "keyboard": 220, "light": 232, "motorbike": 258,
    "mountain": 259, "mouse": 260, "person": 284, "plate": 295, "platform": 296, "pottedplant": 308,
    "road": 324, "rock": 326, "sheep": 347, "shelves": 349, "sidewalk": 354, "sign": 355,
    "sky": 360, "snow": 366, "sofa": 368, "table": 397, "track": 415, "train": 416, "tree": 420,
    "truck": 424, "tvmonitor": 427, "wall": 440, "water": 445, "window": 454, "wood": 458,
}
_OBJECTS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
_TABLE = class_table(
    {
        **dict.fromkeys(range(_NUM_LABELS + 1), IGNORE_INDEX),
        **{stored: index for index, stored in enumerate(_LABELS.values())},
    },
    size=_NUM_LABELS + 1,
)
_HINT = f"Labels are 0 to {_NUM_LABELS}: use the files of the release's trainval folder."


class PascalContext(FileSource):
    """PASCAL Context, 59 classes, images of many sizes: train 4998, val 5105.

    Reads the names in `root/VOCdevkit/VOC2010/ImageSets/Main/{train,val}.txt`, the images
    `root/VOCdevkit/VOC2010/JPEGImages/NAME.jpg` and the variable LabelMap of
    `root/trainval/NAME.mat`; also `root/labels.txt`, where it is there, to see that the labels have
    the numbers known here. Test labels are not public: val and test are both the official val list.
    Objects are connected components, since the labels have no instance ids. Things are the 20
    object classes of PASCAL VOC. https://cs.stanford.edu/~roozbeh/pascal-context

    The labels know 459 classes. The others than the 59 most frequent, and 0, are void: there is no
    background class, so scores over 60 classes, with background, are not comparable. Classes have
    the order and the names of labels.txt; 59_labels.txt spells table, bedclothes and cloth
    differently. The other form of the labels, trainval_merged.json of the Detail API, is not read.

    Args:
        split: "train", "val" or "test".
        root: The folder that holds VOCdevkit, trainval and labels.txt.

    Raises:
        UserError: A folder or the list is missing or empty; the message names it.
    """

    classes = tuple(_LABELS)
    palette = voc_palette(len(classes))
    things = _OBJECTS
    official: ClassVar = {"train": ("train", 4998), "val": ("val", 5105), "test": ("val", 5105)}
    title = "pascal context"

    def __init__(self, split: Split, *, root: str) -> None:
        voc, labels = Path(root) / "VOCdevkit" / "VOC2010", Path(root) / "trainval"
        images = voc / "JPEGImages"
        need_folders(images, labels, layout="the folder that holds VOCdevkit and trainval")
        listing, _ = self.official[split]
        names = read_names(voc / "ImageSets" / "Main" / f"{listing}.txt")
        super().__init__(
            [Pair(name, images / f"{name}.jpg", labels / f"{name}.mat") for name in names],
            problems=_renumbered(Path(root) / "labels.txt"),
        )

    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], None]:
        """See the base class."""
        stored = read_mat(pair.label, "LabelMap")
        return to_classes(pair.label, stored, table=_TABLE, hint=_HINT), None


def _renumbered(listing: Path) -> list[str]:
    """A problem for each class whose number has another name, or none, in the release's list."""
    if not listing.is_file():
        return []
    text = listing.read_text(encoding="utf-8", errors="replace")
    lines = [line.split(":") for line in text.splitlines()]
    names = {line[0].strip(): line[-1].strip() for line in lines}
    return [
        f"{listing} has {names.get(str(stored))!r} as label {stored}, which is {name!r} in the "
        "release; copy the list and trainval again"
        for name, stored in _LABELS.items()
        if names.get(str(stored)) != name
    ]
