"""A small data set with COCO annotations, made by the test that needs it."""

import copy
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (48, 64)  # height, width
CATEGORIES = [{"id": 3, "name": "car"}, {"id": 7, "name": "left_door"}]
CATEGORIES += [{"id": 9, "name": "right_door"}]  # ids with gaps


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    """As a polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


def write_coco(root: Path, *, images: int = 20, change=None) -> Path:
    """`train.json` and `test.json` with images of a car with two doors in folders of their own.

    `change`: gets the content of train.json before it is written.
    """
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("test", 4)):
        content = {"images": [], "annotations": [], "categories": copy.deepcopy(CATEGORIES)}
        for number in range(count):
            file = f"{split}/street {number}.jpg"
            (root / "photos" / split).mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / "photos" / file)
            entry = {"id": 10 + number, "file_name": file, "width": SIZE[1], "height": SIZE[0]}
            content["images"].append(entry)
            shapes = [
                (3, [rectangle(8, 8, 56, 40)]),
                (7, [rectangle(10, 12, 20, 30)]),
                (9, coco_mask.frPyObjects([rectangle(30, 12, 46, 30)], *SIZE)[0]),
            ]
            for category, shape in shapes:
                if isinstance(shape, dict):  # JSON has no bytes
                    shape["counts"] = shape["counts"].decode()
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": entry["id"],
                        "category_id": category,
                        "segmentation": shape,
                        "iscrowd": 0,
                    }
                )
        if change is not None and split == "train":
            change(content)
        (root / f"{split}.json").write_text(json.dumps(content))
    return root
