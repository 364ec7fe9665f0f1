"""COCO instance annotations (Lin et al. 2014): the JSON that annotation tools export."""

import json
import os
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import walk
from segattn.data.coco_json import Annotations, image_name, read_annotations
from segattn.data.files import Pair
from segattn.data.legend import Legend, read_legend
from segattn.data.own import Edges, OwnData, share_of
from segattn.data.source import IGNORE_INDEX, Split

_NUM_TRIED = 20


class COCO(OwnData):
    """Images with annotated instances in COCO's JSON: polygons, and RLE by pycocotools.

    Larger annotations lie under smaller ones, so that parts show on the whole; crowds lie under
    all. Each annotation of a thing is an object with an id, except a crowd.

    Args:
        split: "train", "val" or "test".
        root: The folder that holds the JSON files and the images.
        train: JSON below `root`.
        val: Another JSON, the share of train that becomes val, or "test" for the test split.
        test: Another JSON, or the share of train that becomes test.
        images: Folder of each split's images below `root`; None finds the folder in which every
            `file_name` is.
        classes: classes.yaml or what it would hold. None, and where it names no class: all
            categories by their ids.
        background: Class of pixels without an annotation; None makes them void.
        size: (height, width) to which images and labels are resized.
        size_edges: coco (32 and 96 px), terciles (of the training objects), or two numbers of px.
        split_seed: Other seeds draw other images for shares.
        title: The data set, for people.
    """

    def __init__(
        self,
        split: Split,
        *,
        root: str,
        train: str,
        val: str | float = 0.1,
        test: str | float,
        images: dict[str, str] | None = None,
        classes: str | list[Any] | dict[str, Any] | None = None,
        background: str | None = "background",
        size: list[int] | None = None,
        size_edges: Edges = "coco",
        split_seed: int = 0,
        title: str | None = None,
    ) -> None:
        given: dict[Split, str | float] = {"train": train, "val": val, "test": test}
        shares = _shares(given)
        read: Split = "test" if split == "val" and val == "test" else split
        file = given[read] if isinstance(given[read], str) else train
        folder = Path(root)
        legend = read_legend(classes, root=folder)
        self._json = read_annotations(folder / train)
        names = _class_names(self._json, legend, background)
        if file != train:
            self._json = read_annotations(folder / str(file))
            _check_categories(self._json, folder / train, names, legend)
        self._background, self._ignored = background, set(legend.ignore)
        entries = {image_name(entry): entry for entry in self._json.images}
        if len(shares) > 1 and (read == "train" or read in shares):
            drawn = {name: share_of(name, shares, seed=split_seed) for name in entries}
            entries = {name: e for name, e in entries.items() if drawn[name] == read}
        if not entries:
            raise UserError(f"the split {split!r} is empty; give it a JSON or a larger share")
        self._entries = entries
        for key in images or {}:
            check_choice("split in data.images", key, get_args(Split))
        files = {name: entry["file_name"] for name, entry in entries.items()}
        where, names_alone = _image_folder(
            self._json.path, folder, list(files.values()), (images or {}).get(read)
        )
        if names_alone:
            files = {name: os.path.basename(file) for name, file in files.items()}
        pairs = [Pair(name, where / file, self._json.path) for name, file in files.items()]
        bare = sum(not self._json.of_image[entry["id"]] for entry in entries.values())
        told = f"{bare} images have no annotation, and count as {background or 'void'} alone"
        self.notes = [told] if bare else []
        super().__init__(
            pairs,
            problems=self._json.problems_of(entries.values()),
            legend=legend,
            classes=names,
            things=[name for name in names if name != background],
            with_ids=True,
            size=size,
            size_edges=size_edges,
            title=title or f"coco {folder.resolve().name}",
            drawn=len(shares) > 1,
            part=split,
        )

    def content(self, index: int) -> Iterator[bytes]:
        """See the base class; the image and its annotations."""
        pair = self.pairs[index]
        yield pair.image.read_bytes()
        yield json.dumps(self._json.of_image[self._entries[pair.name]["id"]]).encode()

    def stamp(self) -> str:
        """See the base class."""
        return f"{super().stamp()} {self.classes} {self.things} {self._background} {self._ignored}"

    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Draw the annotations of an image."""
        entry = self._entries[pair.name]
        shape = (entry["height"], entry["width"])
        empty = IGNORE_INDEX if self._background is None else self.classes.index(self._background)
        label = np.full(shape, empty, np.uint8)
        instances = np.zeros(shape, np.int32)
        masks = [
            (a, draw(a["segmentation"], *shape, where=f"{pair.image} in {pair.label}"))
            for a in self._json.of_image[entry["id"]]
        ]
        masks.sort(key=lambda item: (not item[0].get("iscrowd"), -int(item[1].sum())))
        for number, (annotation, mask) in enumerate(masks, start=1):
            name = self._json.categories[annotation["category_id"]]
            single = name in self.things and not annotation.get("iscrowd")
            ignored = name in self._ignored
            label[mask] = IGNORE_INDEX if ignored else self.classes.index(name)
            instances[mask] = number if single else 0
        return label, instances


def draw(segmentation: Any, height: int, width: int, *, where: str) -> NDArray[np.bool_]:
    """Pixels [H, W] of polygons or of an RLE, as pycocotools draws them."""
    try:
        drawn: Any = segmentation
        if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
            drawn = coco_mask.frPyObjects(segmentation, height, width)
        merged = coco_mask.merge(drawn) if isinstance(drawn, list) else drawn
        mask: NDArray[np.bool_] = coco_mask.decode(merged).astype(bool)
    except Exception as error:  # pycocotools raises many kinds of errors
        raise UserError(
            f"an annotation of {where} is damaged ({error}); export it again"
        ) from error
    if mask.shape != (height, width):
        raise UserError(
            f"a mask of {where} is {mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}"
        )
    return mask


def _shares(given: dict[Split, str | float]) -> dict[Split, float]:
    """Return the share of the training JSON that each split gets."""
    shares: dict[Split, float] = {}
    for split, value in given.items():
        if isinstance(value, str):
            continue
        if not 0 < value < 1:
            raise UserError(f"data.{split} must be a JSON or a share between 0 and 1, got {value}")
        shares[split] = value
    left = 1 - sum(shares.values())
    if left <= 0:
        raise UserError(f"data.val and data.test take {1 - left:g} of data.train; leave some of it")
    return {"train": left, **shares}


def _class_names(found: Annotations, legend: Legend, background: str | None) -> list[str]:
    """Return the classes of classes.yaml, or else every category in the order of the ids."""
    by_id = sorted(found.categories, key=lambda key: (not isinstance(key, int), key))
    listed = [found.categories[key] for key in by_id]
    _check_ignored(legend, found)
    names = list(legend.stored) or [name for name in listed if name not in legend.ignore]
    if background is not None and background not in names:
        names = [background, *names]
    if unknown := [name for name in names if name not in (*listed, background)]:
        raise UserError(f"{legend.place}: {unknown[0]!r} is not a category of {found.path}")
    if left := [name for name in listed if name not in (*names, *legend.ignore)]:
        raise UserError(
            f"{legend.place} does not name {left[0]!r} of {found.path}; add it to classes, or to "
            "ignore, which makes it void"
        )
    return names


def _check_ignored(legend: Legend, found: Annotations) -> None:
    for name in legend.ignore:
        if name not in found.categories.values():
            raise UserError(f"{legend.place}: ignore: {name!r} is not a category of {found.path}")


def _check_categories(
    found: Annotations, training: Path, names: Sequence[str], legend: Legend
) -> None:
    known = {*names, *legend.ignore}
    if unknown := sorted(set(found.categories.values()) - known):
        raise UserError(f"{found.path} has the category {unknown[0]!r}, {training} has not")


def _image_folder(
    path: Path, root: Path, files: Sequence[str], given: str | None
) -> tuple[Path, bool]:
    """Return the folder from which `file_name` leads to the images: as near to the JSON as can be.

    Also return whether its last part alone does, as where it is a path of another machine.

    Raises:
        UserError: No folder holds one of the first images, or two do.
    """
    if given is not None:
        return root / given, False
    near: list[list[Path]] = [[path.parent], _below(path.parent), [root], _below(root)]
    tried = files[:_NUM_TRIED]  # one that is missing becomes a problem of the listing
    for names_alone, folders in product((False, True), near):
        given_as = list(map(os.path.basename, tried)) if names_alone else tried
        held = [sum((folder / file).is_file() for file in given_as) for folder in folders]
        best = [f for f, number in zip(folders, held, strict=True) if number == max(held) > 0]
        if len(best) > 1:
            told = f"{best[0]} and {best[1]} both hold {given_as[0]}"
            raise UserError(f"{told}; say which is meant, as in data.images={{train: FOLDER}}")
        if best:
            return best[0], names_alone
    raise UserError(f"{path} names {files[0]}, which is in no folder below {root}; copy the images")


def _below(folder: Path) -> list[Path]:
    return [found for found, _, _ in walk(folder) if found != folder]
