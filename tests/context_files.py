"""A small PASCAL Context in the layout of its release, made by the test that needs it."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from segattn.data.context import PascalContext

SIZES = ((60, 80), (80, 60))
# fmt: off
# the classes' numbers in labels.txt, which is in alphabetical order
NUMBERS = dict(zip(PascalContext.classes, (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113,
    115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326,
    347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
), strict=True))
# fmt: on


def write_context(root: Path) -> Path:
    """Four training and three val images of two sizes; the third of each is grey."""
    rng = np.random.default_rng(0)
    voc, labels = root / "VOCdevkit" / "VOC2010", root / "trainval"
    for folder in (voc / "JPEGImages", voc / "ImageSets" / "Main", labels):
        folder.mkdir(parents=True)
    for split, count in (("train", 4), ("val", 3)):
        names = [f"20{8 + index:02d}_{split == 'val':03d}{index:03d}" for index in range(count)]
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for index, name in enumerate(names):
            height, width = SIZES[index % 2]
            blocks = rng.integers(1, 460, (4, 5 if width == 80 else 4))
            blocks[0, :4] = 0, 2, 458, 459
            label = np.kron(blocks, np.ones((height // len(blocks), width // blocks.shape[1])))
            image = (label[..., None] * [1, 3, 5] + rng.integers(0, 30, (height, width, 3))) % 256
            picture = Image.fromarray(image.astype(np.uint8)).convert("L" if index == 2 else "RGB")
            picture.save(voc / "JPEGImages" / f"{name}.jpg")
            content = {"LabelMap": label.astype(np.uint16)}
            savemat(labels / f"{name}.mat", content, do_compression=True)
    write_lists(root)
    return root


def write_lists(root: Path) -> None:
    """labels.txt, with fillers outside the 59 classes, and 59_labels.txt in its own spelling."""
    names = {number: name for name, number in NUMBERS.items()}
    lines = [f"{number}: {names.get(number, f'rare {number}')}" for number in range(1, 460)]
    (root / "labels.txt").write_text("\n".join(lines) + "\n")
    respelt = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
    lines = [f"{number}: {respelt.get(name, name)}" for number, name in enumerate(NUMBERS, start=1)]
    (root / "59_labels.txt").write_text("\n".join(lines) + "\n")
