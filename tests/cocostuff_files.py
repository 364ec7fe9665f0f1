"""A small COCO-Stuff 10k v1.1 in the layout of its release, made by the test that needs it."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZES = ((48, 64), (64, 48))
USED = [
    index for index in range(1, 183) if index not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
]


def write_cocostuff(root: Path) -> Path:
    """Four training and three test images of two sizes; the third of each is grey."""
    rng = np.random.default_rng(0)
    for folder in ("images", "annotations", "imageLists"):
        (root / folder).mkdir(parents=True)
    for split, count in (("train", 4), ("test", 3)):
        first = 100 if split == "test" else 1
        names = [f"COCO_train2014_{first + index:012d}" for index in range(count)]
        (root / "imageLists" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for index, name in enumerate(names):
            height, width = SIZES[index % 2]
            blocks = rng.choice(USED, (4, 4))
            blocks[0] = 0, 1, 92, 182
            label = np.kron(blocks, np.ones((height // 4, width // 4)))
            image = (label[..., None] * [1, 3, 5] + rng.integers(0, 30, (height, width, 3))) % 256
            picture = Image.fromarray(image.astype(np.uint8)).convert("L" if index == 2 else "RGB")
            picture.save(root / "images" / f"{name}.jpg")
            write_mat(root / "annotations" / f"{name}.mat", label.astype(np.uint8))
    return root


def write_mat(path: Path, label: np.ndarray) -> None:
    """A label with the fields of the release; the reader needs S only."""
    names = np.array([[f"class {index}"] for index in range(1, 183)], dtype=object)
    captions = np.array([["a picture"], ["squares"]], dtype=object)
    regions = np.arange(label.size, dtype=np.uint16).reshape(label.shape) // 100 + 1
    stuff = np.full((int(regions.max()), 1), 182, np.uint8)
    content = {
        "S": label,
        "names": names,
        "captions": captions,
        "regionMapStuff": regions,
        "regionLabelsStuff": stuff,
    }
    savemat(path, content, do_compression=True)
