"""Data sets of image and label files: readers that name every fault."""

import hashlib
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segattn.base.errors import UserError
from segattn.data.images import open_image, orientation, read_image
from segattn.data.palette import Palette
from segattn.data.source import IGNORE_INDEX, Sample, Source

_INTEGERS = ("I", "I;16", "I;16B")  # more than 8 bits
_NO_CLASS = -1


@dataclass(frozen=True)
class Pair:
    """The files of one sample.

    Attributes:
        name: Unique in its split.
        image: The image.
        label: Its class of each pixel.
        instances: Its instance ids, where they stand in a file of their own.
    """

    name: str
    image: Path
    label: Path
    instances: Path | None = None

    def paths(self) -> list[Path]:
        """Every file of the sample."""
        return [path for path in (self.image, self.label, self.instances) if path is not None]


class FileSource(Source):
    """A split whose samples are files in the official layout of a data set.

    A subclass lists the pairs of its split and reads a label.

    Args:
        pairs: Every sample that the split should have, in order. Those that lack a file, or whose
            name stands twice, become problems instead of samples.
        problems: What else is wrong with the listing.
    """

    def __init__(self, pairs: Sequence[Pair], *, problems: Iterable[str] = ()) -> None:
        if len(self.classes) > IGNORE_INDEX:
            raise UserError(
                f"there are {len(self.classes)} classes, but a label has 8 bits and 255 is void; "
                "merge or drop classes until 255 are left"
            )
        count = Counter(pair.name for pair in pairs)
        twice = [pair for pair in pairs if count[pair.name] > 1]
        missing = _missing_files(pairs)
        self.pairs = [p for p in pairs if count[p.name] == 1 and p.name not in missing]
        self.names = [pair.name for pair in self.pairs]
        self.problems = [
            *problems,
            *(f"{p.image} is one of {count[p.name]} samples named {p.name!r}" for p in twice),
            *missing.values(),
        ]

    @abstractmethod
    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.integer] | None]:
        """Class indices uint8 [H, W], 255 = void, and instance ids [H, W] or None.

        Raises:
            UserError: A file is damaged, or holds a value that is not a label.
        """

    def places(self) -> list[str]:
        """See the base class; the resolved paths of the images."""
        return [str(pair.image.resolve()) for pair in self.pairs]

    def stamp(self) -> str:
        """See the base class; sizes and dates of the label files."""
        labels = {path for pair in self.pairs for path in pair.paths() if path != pair.image}
        stats = [(str(path), path.stat()) for path in sorted(labels)]
        told = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        return hashlib.sha256(repr((self.names, told)).encode()).hexdigest()

    def content(self, index: int) -> Iterator[bytes]:
        """See the base class; its files as they are."""
        yield from (path.read_bytes() for path in self.pairs[index].paths())

    def load(self, index: int) -> Sample:
        """See the base class."""
        pair = self.pairs[index]
        image, (label, instances) = read_image(pair.image), self.read_label(pair)
        check_size(pair.label, label, like=image, of=pair.image)
        if instances is not None:
            check_size(pair.instances or pair.label, instances, like=image, of=pair.image)
        return Sample(pair.name, image, label, instances)


def is_turned(source: Source, index: int) -> bool:
    """Whether viewers turn an image by its EXIF orientation; labels lie on the stored pixels."""
    return isinstance(source, FileSource) and orientation(source.pairs[index].image) > 1


def _missing_files(pairs: Sequence[Pair]) -> dict[str, str]:
    """Return the missing files of each sample, by its name; each folder is listed once."""
    folders = {path.parent for pair in pairs for path in pair.paths()}
    there = {folder: set(os.listdir(folder)) if folder.is_dir() else set() for folder in folders}
    missing: dict[str, str] = {}
    for pair in pairs:
        absent = [str(path) for path in pair.paths() if path.name not in there[path.parent]]
        if absent:
            missing[pair.name] = f"missing: {', '.join(absent)}"
    return missing


def need_folders(*folders: Path, layout: str) -> None:
    """Raise UserError, saying where data.root has to point, unless every folder exists."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; set data.root to {layout}")


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of `folder` with one of the suffixes (lower case), sorted; else raises UserError."""
    listed = (path for path in sorted(folder.iterdir()) if not is_hidden(path))
    files = [path for path in listed if path.name.lower().endswith(tuple(suffixes))]
    if not files:
        raise UserError(f"{folder} holds no {' or '.join(suffixes)} file")
    return files


def strays(files: Iterable[Path], *, names: Iterable[str]) -> list[str]:
    """A problem for each label file whose stem no image has."""
    known = set(names)
    return [
        f"{path} has no image of its name"
        for path in files
        if path.stem not in known and not is_hidden(path)
    ]


def is_hidden(path: Path) -> bool:
    """Return whether a file is hidden, such as the ._NAME that a Mac puts beside each file."""
    return path.name.startswith(".")


def read_indices(path: Path, *, hint: str, palettes: Sequence[Palette] = ()) -> NDArray[np.uint8]:
    """A label file as it is stored, uint8 [H, W].

    Args:
        path: PNG with one channel; also of 16 bits, if its values are below 256.
        hint: Which files the data set means, for the message.
        palettes: The 256 colours that palette images of labels may have, beside grey ones. A
            palette image with other colours is a picture, whose indices are anything.

    Raises:
        UserError: The file is damaged, or is not one channel of indices.
    """
    image = open_image(path)
    values: NDArray[np.integer] = np.asarray(image)
    known = image.mode in ("1", "L", *_INTEGERS) or _are_indices(image, palettes)
    if not known or values.min() < 0 or values.max() > 255:
        kind = "picture with a palette of its own" if image.mode == "P" else f"{image.mode} image"
        raise UserError(
            f"{path} is a {kind}; labels are one channel of 8-bit class indices. {hint}"
        )
    return values.astype(np.uint8, copy=False)


def _are_indices(image: Image.Image, palettes: Sequence[Palette]) -> bool:
    if image.mode != "P":
        return False
    used = np.unique(np.asarray(image))
    stored = np.array(image.getpalette("RGB")).reshape(-1, 3)
    grey = tuple((value, value, value) for value in range(256))
    known = [np.array(colours) for colours in (grey, *palettes)]
    return bool(used[-1] < len(stored)) and any(
        np.array_equal(stored[used], colours[used]) for colours in known
    )


def read_ids(path: Path) -> NDArray[np.int32]:
    """A file of instance ids, 8 or 16 bits, as int32 [H, W]; raises UserError for another file."""
    image = open_image(path)
    if image.mode not in ("L", "P", *_INTEGERS):
        raise UserError(f"{path} is a {image.mode} image; instance ids are one integer channel")
    return np.asarray(image).astype(np.int32)


def read_mat(path: Path, field: str) -> NDArray[np.integer]:
    """An integer array [H, W] out of a MATLAB file.

    Args:
        path: MATLAB 5 file.
        field: Variable and the fields inside it, such as "GTcls.Segmentation".

    Raises:
        UserError: The file is damaged, or holds no such array.
    """
    from scipy.io import loadmat  # slow to import, and only three data sets need it

    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False)
        variable, *fields = field.split(".")
        array = np.asarray(reduce(getattr, fields, content[variable]))
    except (KeyError, AttributeError) as error:
        raise UserError(f"{path} has no field {field}; is it a file of this data set?") from error
    except Exception as error:  # what scipy raises depends on which bytes of the file are wrong
        raise UserError(f"cannot read {path} ({error}); copy it again") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{path}: {field} is {array.dtype} {list(array.shape)}, not a label map")
    return array


def class_table(values: Mapping[int, int], *, size: int = 256) -> NDArray[np.int16]:
    """Lookup table for `to_classes`: stored value to class index; other values are not labels.

    Raises:
        UserError: A stored value is not in 0..size - 1, or a class index not in 0..255.
    """
    for stored, index in values.items():
        if not (0 <= stored < size and 0 <= index <= IGNORE_INDEX):
            raise UserError(
                f"class {index} for the stored value {stored} does not fit: classes are 0 to 254, "
                f"255 is void, and stored values are 0 to {size - 1}"
            )
    table = np.full(size, _NO_CLASS, dtype=np.int16)
    table[list(values)] = list(values.values())
    return table


def to_classes(
    path: Path, stored: NDArray[np.integer], *, table: NDArray[np.int16], hint: str
) -> NDArray[np.uint8]:
    """Stored values [H, W] as class indices uint8 [H, W], 255 = void.

    Raises:
        UserError: A value that the table does not know; the message names each of them.
    """
    inside = (stored >= 0) & (stored < len(table))
    classes = np.where(inside, table[np.where(inside, stored, 0)], _NO_CLASS)
    bad = (classes < 0) | (classes > IGNORE_INDEX)  # also from a table that was made by hand
    if bad.any():
        wrong = np.unique(stored[bad])
        shown = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
        raise UserError(f"{path} holds {shown}, which is not a label. {hint}")
    return classes.astype(np.uint8)


def plain_table(num_classes: int, *, first: int, void: Sequence[int]) -> NDArray[np.int16]:
    """Table of labels that are numbered `first`, `first` + 1, ...; `void` values become 255."""
    values = {first + index: index for index in range(num_classes)}
    return class_table({**values, **dict.fromkeys(void, IGNORE_INDEX)})


def check_size(
    path: Path, array: NDArray[np.generic], *, like: NDArray[np.generic], of: Path
) -> None:
    """Raise UserError, with both sizes, unless `array` covers the image `like` of file `of`."""
    if array.shape[:2] != like.shape[:2]:
        raise UserError(
            f"{path} is {array.shape[1]} x {array.shape[0]}, its image {of} is "
            f"{like.shape[1]} x {like.shape[0]}; they must be equal"
        )
