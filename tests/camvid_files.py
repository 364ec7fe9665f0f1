"""A small CamVid in the SegNet tutorial's layout, made by the test that needs it."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_camvid(root: Path, *, suffix: str = ".png", size: tuple[int, int] = (64, 96)) -> Path:
    """Six training, three val and three test frames of blocks; label 11 is void."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        lines = []
        for index in range(count):
            stem = f"0001TP_{split}{index:03d}"
            label = np.kron(rng.integers(0, 12, (4, 6)), np.ones((size[0] // 4, size[1] // 6)))
            image = (label[..., None] * [20, 10, 5] + rng.integers(0, 30, (*size, 3))) % 256
            Image.fromarray(image.astype(np.uint8)).save(root / split / f"{stem}{suffix}")
            Image.fromarray(label.astype(np.uint8)).save(root / f"{split}annot" / f"{stem}.png")
            lines.append(
                f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png"
            )
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root
