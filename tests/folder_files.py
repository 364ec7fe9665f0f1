"""A small folder of images and labels, in every layout and form, made by the test that needs it."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 48)
COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 0, 128), 255: (255, 255, 255)}
LAYOUTS = {
    "split first": ("{split}/images", "{split}/masks"),
    "kind first": ("Images/{split}", "labels/{split}"),
    "annot": ("{split}", "{split}annot"),
    "lists": ("images", "labels"),
    "no splits": ("images", "labels"),
}


def label_of(number: int) -> np.ndarray:
    """Background, two squares of class 1, a bar of class 2, and a void column."""
    label = np.zeros(SIZE, np.uint8)
    label[4 : 10 + number % 5, 4:10] = 1
    label[24:34, 6:16] = 1
    label[5:35, 30:34] = 2
    label[:, -1] = 255
    return label


def store(label: np.ndarray, path: Path, form: str = "indices") -> None:
    """Write a label as indices, colours, or indices with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "colours":
        painted = np.zeros((*label.shape, 3), np.uint8)
        for value, colour in COLOURS.items():
            painted[label == value] = colour
        Image.fromarray(painted).save(path)
        return
    image = Image.fromarray(label)
    if form == "palette":
        colours = np.random.default_rng(5).integers(0, 256, (256, 3), dtype=np.uint8)
        image.putpalette(colours.tobytes())
    image.save(path)


def write_folder(
    root: Path,
    layout: str = "kind first",
    *,
    form: str = "indices",
    counts: tuple[int, int, int] = (8, 3, 4),
    instances: bool = False,
) -> Path:
    """Images "photo 0.jpg", ... with labels, `counts` in train, val and test."""
    rng = np.random.default_rng(1)
    images, labels = LAYOUTS[layout]
    number = 0
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        listed = []
        for _ in range(count):
            name = f"photo {number}"
            image = root / images.format(split=split) / f"{name}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(image)
            label, place = label_of(number), root / labels.format(split=split)
            store(label, place / f"{name}.png", form)
            if instances:
                ids = np.where(label == 1, 1 + (np.arange(SIZE[0]) > 20)[:, None], 0)
                beside = Path(
                    str(place).replace("labels", "instances").replace("masks", "instances")
                )
                store(ids.astype(np.uint8), beside / f"{name}.png")
            listed.append(f"images/{name}.jpg")
            number += 1
        if layout == "lists" and listed:
            (root / f"{split}.txt").write_text("\n".join(listed))
    return root
