"""A small ADEChallengeData2016 in the benchmark's layout, made by the test that needs it."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((48, 64), (64, 40))


def write_ade20k(root: Path) -> Path:
    """Four training and three validation images of two sizes; the third of each is grey."""
    rng = np.random.default_rng(0)
    for folder, stem, count in (("training", "ADE_train", 4), ("validation", "ADE_val", 3)):
        (root / "images" / folder).mkdir(parents=True)
        (root / "annotations" / folder).mkdir(parents=True)
        for index in range(count):
            name, (height, width) = f"{stem}_{index + 1:08d}", SIZES[index % 2]
            blocks = rng.integers(0, 151, (4, 4))
            blocks[0] = 0, 1, 150, index + 2
            label = np.kron(blocks, np.ones((height // 4, width // 4))).astype(np.uint8)
            image = (label[..., None] * [3, 5, 7] + rng.integers(0, 30, (height, width, 3))) % 256
            picture = Image.fromarray(image.astype(np.uint8)).convert("L" if index == 2 else "RGB")
            picture.save(root / "images" / folder / f"{name}.jpg")
            Image.fromarray(label).save(root / "annotations" / folder / f"{name}.png")
    return root
