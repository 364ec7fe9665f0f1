"""COCO-Stuff 10k, version 1.1 (Caesar et al. 2018)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segattn.data.files import FileSource, Pair, class_table, need_folders, read_mat, to_classes
from segattn.data.lists import read_names
from segattn.data.palette import voc_palette
from segattn.data.source import IGNORE_INDEX, Split

_NUM_THINGS = 80
_DROPPED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_IDS = [index for index in range(1, 183) if index not in _DROPPED]
# A dropped id is refused, not void: version 1.1 does not use it, so the numbering is another one.
_TABLE = class_table({0: IGNORE_INDEX, **{stored: index for index, stored in enumerate(_IDS)}})
_HINT = (
    "Labels are 1 to 182 without the 11 ids that COCO dropped, 0 for void: use the annotations of "
    "cocostuff-10k-v1.1, since version 1.0 numbers its classes in another way."
)


class COCOStuff(FileSource):
    """COCO-Stuff 10k, 80 thing and 91 stuff classes, images of many sizes: train 9000, test 1000.

    Reads the names in `root/imageLists/{train,test}.txt`, the images `root/images/NAME.jpg` and
    the variable S of `root/annotations/NAME.mat`. Without a val list, val and test are both the
    test list. Objects are connected components, since the labels have no instance ids. Label 0,
    "unlabeled", is void. The colours are the PASCAL VOC map's.
    https://github.com/nightrome/cocostuff10k

    Args:
        split: "train", "val" or "test".
        root: The folder that holds images, annotations and imageLists.

    Raises:
        UserError: A folder or the list is missing or empty; the message names it.
    """

    # fmt: off
    classes = (
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
        "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat",
        "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack",
        "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball",
        "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket",
        "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
        "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair",
        "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
        "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
        "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "banner", "blanket",
        "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet",
        "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard",
        "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other",
        "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other", "fruit",
        "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves", "light",
        "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper",
        "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
        "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf",
        "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
        "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
        "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
        "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
    )
    # fmt: on
    palette = voc_palette(len(classes))
    values = tuple(_IDS)
    things = classes[:_NUM_THINGS]
    official: ClassVar = {"train": ("train", 9000), "val": ("test", 1000), "test": ("test", 1000)}
    title = "coco-stuff 10k"

    def __init__(self, split: Split, *, root: str) -> None:
        images, labels = Path(root) / "images", Path(root) / "annotations"
        need_folders(images, labels, layout="the folder that holds images and annotations")
        listing, _ = self.official[split]
        names = read_names(Path(root) / "imageLists" / f"{listing}.txt")
        super().__init__(
            [Pair(name, images / f"{name}.jpg", labels / f"{name}.mat") for name in names]
        )

    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], None]:
        """See the base class."""
        stored = read_mat(pair.label, "S")
        return to_classes(pair.label, stored, table=_TABLE, hint=_HINT), None
