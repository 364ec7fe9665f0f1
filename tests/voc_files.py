"""A small PASCAL VOC 2012 with SBD in their official layouts, made by the test that needs it."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

TRAIN = ("2007_000032", "2007_000039", "2008_000008", "2009_000017")
VAL = ("2007_000033", "2007_000042", "2010_000003")
SBD = {
    "train": ("2008_000002", "2008_000008", "2007_000033"),
    "val": ("2010_000003", "2011_000004"),
}


def write_voc(root: Path) -> Path:
    """Four training and three val images, and five of SBD, of which two are new; two sizes.

    SBD labels its whole images as person: where VOC has labels, they differ.
    """
    rng = np.random.default_rng(0)
    voc, sbd = root / "VOCdevkit/VOC2012", root / "benchmark_RELEASE/dataset"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (voc / folder).mkdir(parents=True)
    for folder in ("cls", "inst", "img"):
        (sbd / folder).mkdir(parents=True)
    _write_list(voc / "ImageSets/Segmentation/train.txt", TRAIN)
    _write_list(voc / "ImageSets/Segmentation/val.txt", VAL)
    for split, names in SBD.items():
        _write_list(sbd / f"{split}.txt", names)
    for index, name in enumerate(sorted({*TRAIN, *VAL, *SBD["train"], *SBD["val"]})):
        shape = (48, 64) if index % 2 else (64, 48)
        image = Image.fromarray(rng.integers(0, 256, (*shape, 3)).astype(np.uint8))
        image.save(voc / f"JPEGImages/{name}.jpg")
        if name in (*TRAIN, *VAL):
            _write_labels(voc, name, rng.integers(0, 21, (2, 2)), shape)
        if name in (*SBD["train"], *SBD["val"]):
            image.save(sbd / f"img/{name}.jpg")
            _write_mats(sbd, name, shape)
    return root


def colour_map() -> list[int]:
    """The 256 colours of VOC, written another way than the package does."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    weights = [2 ** (7 - bit // 3) for bit in range(8)]
    channels = [sum(bits[:, b] * weights[b] for b in range(c, 8, 3)) for c in range(3)]
    return np.stack(channels, axis=1).ravel().tolist()


def save_indices(array: np.ndarray, path: Path) -> None:
    """A palette PNG with VOC's colours."""
    image = Image.fromarray(array.astype(np.uint8)).convert("P")
    image.putdata(array.ravel().tolist())
    image.putpalette(colour_map())
    image.save(path)


def _write_list(path: Path, names: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def _write_labels(voc: Path, name: str, classes: np.ndarray, shape: tuple[int, int]) -> None:
    """Four objects, one a quarter, with a border of 255; the first is background."""
    classes[0, 0] = 0
    objects = np.arange(4).reshape(2, 2)
    quarter = np.ones((shape[0] // 2, shape[1] // 2), int)
    for values, folder in (
        (classes, "SegmentationClass"),
        (objects * (classes > 0), "SegmentationObject"),
    ):
        stored = np.kron(values, quarter)
        stored[:, shape[1] // 2 - 1 : shape[1] // 2 + 1] = 255
        save_indices(stored, voc / folder / f"{name}.png")


def _write_mats(sbd: Path, name: str, shape: tuple[int, int]) -> None:
    """Two persons, left and right, below a strip of background."""
    label, ids = np.full(shape, 15, np.uint8), np.ones(shape, np.uint8)
    ids[:, shape[1] // 2 :] = 2
    label[:4] = ids[:4] = 0
    edges = np.empty((20, 1), object)
    edges[:, 0] = [csc_matrix(shape, dtype=bool)] * 20
    present = {"CategoriesPresent": np.array([[15]], np.uint8)}
    fields = {"Boundaries": edges, "Segmentation": label, **present}
    savemat(sbd / f"cls/{name}.mat", {"GTcls": fields})
    fields = {"Boundaries": edges[:2], "Segmentation": ids, "Categories": np.array([[15], [15]])}
    savemat(sbd / f"inst/{name}.mat", {"GTinst": fields})
