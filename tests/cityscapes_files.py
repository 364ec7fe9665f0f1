"""A small Cityscapes in the layout of leftImg8bit and gtFine, made by the test that needs it."""

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = {
    "train": (
        "aachen_000000_000019",
        "aachen_000001_000019",
        "hamburg_000000_000042",
        "hamburg_000000_000629",
    ),
    "val": ("frankfurt_000000_000294", "frankfurt_000001_000538", "munster_000000_000019"),
    "test": ("berlin_000000_000019",),
}


def write_cityscapes(root: Path) -> Path:
    """Four training, three val and one test image of 32 x 64; each has most of the 34 label ids.

    People and vehicles (24 and more) are instances, but a third of them groups without a number.
    The test labels are dummies, and the files that nobody reads lie beside the others.
    """
    rng = np.random.default_rng(0)
    for split, names in NAMES.items():
        images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
        for name in names:
            ids = np.zeros(32, int) if split == "test" else rng.permutation(34)[:32]
            instances = _blocks(np.array([_instance(block, ids[block]) for block in range(32)]))
            ids = _blocks(ids).astype(np.uint8)
            image = (ids[..., None] * [7, 5, 3] + rng.integers(0, 20, (32, 64, 3))).astype(np.uint8)
            _save(image, images, f"{name}_leftImg8bit")
            _save(ids, labels, f"{name}_gtFine_labelIds")
            _save(instances.astype(np.uint16), labels, f"{name}_gtFine_instanceIds")
            _save(np.full_like(image, 255), labels, f"{name}_gtFine_color")
            _save(np.full_like(ids, 255), labels, f"{name}_gtFine_labelTrainIds")
    return root


def _instance(block: int, label: int) -> int:
    return label * 1000 + block if label >= 24 and block % 3 else label


def _blocks(values: np.ndarray) -> np.ndarray:
    return np.kron(values.reshape(4, 8), np.ones((8, 8), int))


def _save(array: np.ndarray, split: Path, stem: str) -> None:
    folder = split / stem.split("_")[0]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(folder / f"{stem}.png")
