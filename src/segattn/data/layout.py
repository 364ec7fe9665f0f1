"""Finding images and labels in somebody's folder: which layout it has, and what does not fit."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segattn.base.errors import UserError
from segattn.base.files import walk
from segattn.data.files import Pair, is_hidden
from segattn.data.lists import read_lines
from segattn.data.source import Split

IMAGES = ("images", "image", "imgs", "img", "img_dir")
LABELS = ("labels", "label", "masks", "mask", "annotations", "annotation", "ann_dir")
INSTANCES = ("instances", "instance")
SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_L", "_gt")
"""A label may add one of these to the name of its image."""
_FORMS = (
    "{train,val,test}/{images,labels}, {images,labels}/{train,val,test}, {train,trainannot,...}, "
    "or {images,labels} with lists train.txt, ... or without a split"
)


@dataclass
class Found:
    """The samples of a folder.

    Attributes:
        parts: Pairs of each split that the folder has. In a folder without splits, all stand under
            None.
        problems: What does not fit, by split.
        notes: What may be so on purpose.
    """

    parts: dict[Split | None, list[Pair]] = field(default_factory=dict)
    problems: dict[Split | None, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, split: Split | None, images: Path, labels: Path, instances: Path | None) -> None:
        """Add the pairs of two folders."""
        self.parts[split], self.problems[split] = _pairs(images, labels, instances)


def find_samples(root: Path) -> Found:
    """Find images with labels of the same name below them.

    Raises:
        UserError: `root` does not have a known layout, or two folders may be meant.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}; set data.root to the folder of the images and labels")
    found = Found()
    top = [_one(root, names) for names in (IMAGES, LABELS, INSTANCES)]
    for split, names in SPLITS.items():
        part = _one(root, names)
        below = [_one(part, kinds) if part else None for kinds in (IMAGES, LABELS, INSTANCES)]
        if below[0] and below[1]:
            found.add(split, below[0], below[1], below[2])
    if found.parts:
        return found
    for split, names in SPLITS.items():
        inside = [_one(folder, names) if folder else None for folder in top]
        if inside[0] and inside[1]:
            found.add(split, inside[0], inside[1], inside[2])
        elif inside[0] or inside[1]:
            there = (inside[0] or inside[1] or root).relative_to(root)
            other = "labels" if inside[0] else "images"
            raise UserError(f"{root} has {there}, but no folder of {other} beside it")
    if found.parts:
        assert top[0] is not None
        found.notes += [f"{p} is in no split, and left out" for p in _pictures(top[0], flat=True)]
        return found
    for split, names in SPLITS.items():
        part = _one(root, names)
        if part and (labels := _one(root, [f"{part.name}annot", f"{part.name}_labels"])):
            found.add(split, part, labels, None)
    if found.parts:
        return found
    if not top[0] or not top[1]:
        raise UserError(f"{root} does not have a known layout: {_FORMS}")
    found.add(None, top[0], top[1], top[2])
    lists = {split: _one(root, [f"{n}.txt" for n in names]) for split, names in SPLITS.items()}
    if any(lists.values()):
        _take_lists(found, {split: path for split, path in lists.items() if path})
    return found


def _one(folder: Path, names: tuple[str, ...] | list[str]) -> Path | None:
    """Return what has one of the names in a folder, in any case of letters; None without it."""
    there = sorted(path for path in folder.iterdir() if path.name.lower() in names)
    if len(there) > 1:
        raise UserError(f"{there[0]} and {there[1]} may both be meant; rename one of them")
    return there[0] if there else None


def _pictures(folder: Path, *, flat: bool = False) -> Iterator[Path]:
    for parent, folders, files in walk(folder):
        folders[:] = [] if flat else sorted(folders)
        paths = (parent / file for file in sorted(files))
        yield from (p for p in paths if p.suffix.lower() in _PICTURES and not is_hidden(p))


def _pairs(images: Path, labels: Path, instances: Path | None) -> tuple[list[Pair], list[str]]:
    """Return a pair for each image, and a line for each label without one."""
    label_of, instance_of = _by_name(labels), _by_name(instances) if instances else None
    pairs, used = list[Pair](), set[Path]()
    problems: list[str] = []
    for path in _pictures(images):
        name = _name(path, images)
        mine = [p for ending in _ENDINGS for p in label_of.get(name + ending, [])]
        if len(mine) > 1:
            problems.append(f"{mine[0]} and {mine[1]} are both labels of {path}; keep one")
        used |= set(mine)
        label = mine[0] if mine else labels / f"{name}.png"
        ids = None
        if instance_of is not None:
            assert instances is not None
            ids = next(iter(instance_of.get(name, [])), instances / f"{name}.png")
        pairs.append(Pair(name, path, label, ids))
    if not pairs:
        problems.append(f"{images} holds no image ({', '.join(_PICTURES)})")
    left = [path for paths in label_of.values() for path in paths if path not in used]
    return pairs, [*problems, *(f"{path} has no image of its name" for path in left)]


def _by_name(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _pictures(folder):
        found.setdefault(_name(path, folder), []).append(path)
    return found


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _take_lists(found: Found, lists: dict[Split, Path]) -> None:
    """Part the samples of a folder by the lists of its splits."""
    pairs, problems = found.parts.pop(None), found.problems.pop(None)
    by_name = {pair.name: pair for pair in pairs}
    by_last = {os.path.basename(pair.name): pair for pair in pairs}
    left, seen = dict(by_name), dict[str, Path]()
    for split, path in lists.items():
        found.parts[split], found.problems[split] = [], list(problems)
        for line in read_lines(path):
            pair = next((p for key in _keys(line) if (p := by_name.get(key))), None)
            pair = pair or next((p for key in _keys(line) if (p := by_last.get(key))), None)
            if pair is None:
                found.problems[split].append(f"{path} lists {line!r}, but that image is missing")
                continue
            found.parts[split].append(pair)
            if (first := seen.setdefault(pair.name, path)) != path:
                found.problems[split].append(f"{pair.name} is in {first} and in {path}")
            left.pop(pair.name, None)
    if left:
        told = ", ".join(map(str, lists.values()))
        found.notes.append(f"{len(left)} images are in none of {told}, such as {next(iter(left))}")


def _keys(line: str) -> Iterator[str]:
    """Yield the names that a line, or its first column, may mean, with fewer and fewer folders."""
    for text in (line, line.split()[0], line.split(",")[0]):
        path = Path(text.strip("\"',; ").replace("\\", "/"))
        for form in (path, path.with_suffix("") if path.suffix.lower() in _PICTURES else path):
            parts = form.parts
            yield from ("/".join(parts[start:]) for start in range(len(parts)))
