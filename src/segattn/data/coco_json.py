"""One JSON of COCO annotations: read once, and every entry that does not fit named."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segattn.base.errors import UserError

Entry = dict[str, Any]


class Annotations:
    """One JSON.

    Attributes:
        path: The file.
        images: Its images.
        categories: Name of each category, by id.
        of_image: The annotations of each image, by the id of the image.
    """

    def __init__(self, path: Path, content: Any) -> None:
        keys = ("images", "annotations", "categories")
        content = content if isinstance(content, dict) else {}
        for key in keys:
            listed = content.get(key)
            if not isinstance(listed, list) or not all(isinstance(e, dict) for e in listed):
                raise UserError(
                    f"{path} has no list {key!r}; export the annotations as COCO instances, whose "
                    f"JSON has {', '.join(keys)}"
                )
        self.path, self.images = path, content["images"]
        self._problems: dict[Any, list[str]] = defaultdict(list)  # None: of the file
        self.categories: dict[Any, str] = {}
        for category in content["categories"]:
            number, name = _id(category, "id"), category.get("name")
            if (
                number is None
                or number in self.categories
                or name in self.categories.values()
                or not name
            ):
                raise UserError(
                    f"{path}: category {number} ({name!r}) lacks an id or a name, or has that of "
                    "another"
                )
            self.categories[number] = str(name)
        self._check_images()
        self.of_image: dict[Any, list[Entry]] = defaultdict(list)
        counts = Counter(str(a.get("id")) for a in content["annotations"] if "id" in a)
        sizes = {image["id"]: (image["width"], image["height"]) for image in self.images}
        if not content["annotations"]:
            raise UserError(f"{path} lists no annotation; export the annotations again")
        for annotation in content["annotations"]:
            image = _id(annotation, "image_id")
            wrong = self._wrong(annotation, sizes.get(image))
            if not wrong and counts[str(annotation.get("id"))] > 1:
                wrong = "has an id that stands twice"
            if wrong:
                told = f"{path}: annotation {annotation.get('id')} {wrong}"
                self._problems[image if image in sizes else None].append(told)
            self.of_image[image].append(annotation)

    def problems_of(self, images: Iterable[Entry]) -> list[str]:
        """What is wrong with the file and with these images, a line each."""
        found = [line for image in images for line in self._problems[image["id"]]]
        return [*self._problems[None], *found]

    def _check_images(self) -> None:
        kept, ids, names = list[Entry](), set[Any](), set[str]()
        for image in self.images:
            number, file = _id(image, "id"), image.get("file_name")
            sides = [image.get(side) for side in ("width", "height")]
            where = f"{self.path}: image {number} ({file})"
            if number is None or not isinstance(file, str) or not file:
                self._problems[None].append(f"{where} must have an id and a file_name")
            elif not all(isinstance(side, int) and side > 0 for side in sides):
                self._problems[None].append(f"{where} must have a width and a height, got {sides}")
            elif number in ids or image_name(image) in names:
                self._problems[None].append(f"{where}: its id or its name stands twice")
            else:
                image["file_name"] = file.replace("\\", "/")
                kept.append(image)
                ids.add(number)
                names.add(image_name(image))
        if not self.images:
            raise UserError(f"{self.path} lists no image; export the annotations again")
        self.images = kept

    def _wrong(self, annotation: Entry, size: tuple[int, int] | None) -> str:
        """What is wrong with an annotation on an image of (width, height); "" if nothing is."""
        if size is None:
            return f"belongs to image {annotation.get('image_id')}, which is not listed"
        if _id(annotation, "category_id") not in self.categories:
            return f"has category {annotation.get('category_id')}, which is not listed"
        shapes = annotation.get("segmentation")
        if isinstance(shapes, dict) and "counts" in shapes:
            if list(shapes.get("size", [])) != [size[1], size[0]]:
                return f"has a mask of {shapes.get('size')}, its image is {[size[1], size[0]]}"
            return _wrong_counts(shapes["counts"], size[0] * size[1])
        if not isinstance(shapes, list) or not shapes:
            return "has no polygon and no mask, perhaps a box alone; outline it, or delete it"
        return next(filter(None, (_wrong_polygon(shape, size) for shape in shapes)), "")


def _id(entry: Entry, key: str) -> int | str | None:
    found = entry.get(key)
    return found if isinstance(found, int | str) and not isinstance(found, bool) else None


def _wrong_counts(counts: Any, num_pixels: int) -> str:
    """What is wrong with an RLE; pycocotools would write past its memory for some."""
    if isinstance(counts, str):
        return ""  # compressed; pycocotools checks it when it is drawn
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return "has a mask whose counts are not numbers of pixels"
    if sum(counts) != num_pixels:
        return f"has a mask of {sum(counts)} px, its image has {num_pixels}"
    return ""


def _wrong_polygon(shape: Any, size: tuple[int, int]) -> str:
    try:
        points = np.asarray(shape, np.float64)
    except (ValueError, TypeError):
        points = np.array([np.nan])
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        return "has a polygon that is not x, y of three points or more"
    x, y = points[::2], points[1::2]
    if not (x @ np.roll(y, 1) - y @ np.roll(x, 1)):
        return "has a polygon without area"
    if x.min() >= size[0] or y.min() >= size[1] or x.max() <= 0 or y.max() <= 0:
        return f"has a polygon outside its image of {size[0]} x {size[1]}"
    return ""


def read_annotations(path: Path) -> Annotations:
    """Read a JSON, once while it stays as it is; raises `UserError` for a file that is not one."""
    if not path.is_file():
        raise UserError(
            f"no file {path}; set data.root to the folder of the data, and data.train, data.val "
            "and data.test to the JSON files below it"
        )
    return _read_once(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=3)  # splits may share a file, which may be large
def _read_once(path: Path, _: int) -> Annotations:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"cannot read {path}: it is not JSON ({error})") from error
    return Annotations(path, content)


def image_name(image: Entry) -> str:
    """Return the `file_name` of an image without its suffix, with its folders."""
    return str(PurePosixPath(image["file_name"].replace("\\", "/")).with_suffix(""))
