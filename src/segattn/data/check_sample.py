"""One sample for the check of a data set: what it shows, or everything wrong with its files.

C = classes; H, W = image height and width; K = objects of the image.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segattn.data.files import FileSource, read_ids, read_image
from segattn.data.source import IGNORE_INDEX, Sample, Source
from segattn.metrics import find_objects


@dataclass(frozen=True)
class Facts:
    """What one sample shows.

    Attributes:
        name: The image's path, or the name of a sample that is no file.
        size: (H, W), px.
        pixels: int64 [C + 1], pixels of each class, the void ones last.
        cls: uint8 [K], class of each object.
        area: int32 [K], px.
        digest: Hash of the decoded image; equal images have equal ones.
    """

    name: str
    size: tuple[int, int]
    pixels: NDArray[np.int64]
    cls: NDArray[np.uint8]
    area: NDArray[np.int32]
    digest: bytes


def look(source: Source, index: int) -> Facts | list[str]:
    """Facts of sample `index`, or a line for each thing that is wrong with its files."""
    paths = _paths(source, index)
    name = paths[0] if paths else source.names[index]
    try:
        return _measure(source.load(index), name=name, num_classes=len(source.classes))
    except Exception as error:  # whatever it is, the other samples must still be looked at
        errors = [error, *_further_errors(source, index)]
        return list(dict.fromkeys(_describe(one, name=name, paths=paths) for one in errors))


def _paths(source: Source, index: int) -> list[str]:
    if isinstance(source, FileSource):
        return [str(path) for path in source.pairs[index].paths()]
    return []


def _measure(sample: Sample, *, name: str, num_classes: int) -> Facts:
    counts = np.bincount(sample.label.ravel(), minlength=256)
    if counts[num_classes:IGNORE_INDEX].any():
        wrong = num_classes + np.flatnonzero(counts[num_classes:IGNORE_INDEX])
        raise ValueError(
            f"{name} was read with labels {', '.join(map(str, wrong))}; the reader of its data set "
            f"must give 0 to {num_classes - 1} or {IGNORE_INDEX}"
        )
    objects = find_objects(sample.label, sample.instances)
    digest = hashlib.blake2b(repr(sample.image.shape).encode(), digest_size=16)
    digest.update(sample.image.tobytes())
    return Facts(
        name=name,
        size=(sample.label.shape[0], sample.label.shape[1]),
        pixels=np.append(counts[:num_classes], counts[IGNORE_INDEX]),
        cls=objects.cls.astype(np.uint8),
        area=objects.area.astype(np.int32),
        digest=digest.digest(),
    )


def _further_errors(source: Source, index: int) -> list[Exception]:
    """Of a sample's files one by one: `load` stops at the first that is bad."""
    if not isinstance(source, FileSource):
        return []
    pair = source.pairs[index]
    errors = [*_error(read_image, pair.image), *_error(source.read_label, pair)]
    if pair.instances is not None and pair.instances.suffix == ".png":
        errors += _error(read_ids, pair.instances)
    return errors


def _error(read: Callable[[Any], Any], argument: Any) -> list[Exception]:
    try:
        read(argument)
    except Exception as error:  # as in `look`
        return [error]
    return []


def _describe(error: Exception, *, name: str, paths: list[str]) -> str:
    """The message of a reader names its file; any other does not."""
    text = str(error)
    if isinstance(error, ValueError) and (not paths or any(path in text for path in paths)):
        return text
    return f"{', '.join(paths) or name}: unexpected {type(error).__name__}: {text}"
