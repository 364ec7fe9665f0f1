"""What every data set gives: samples by index, and the facts about its classes."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Literal

import numpy as np

from segattn.base.errors import UserError

Split = Literal["train", "val", "test"]
IGNORE_INDEX = 255
_NUM_HASHED = 8


@dataclass(frozen=True)
class Sample:
    """One labelled image as it is stored.

    Attributes:
        name: Unique in its split.
        image: uint8 [H, W, 3], RGB.
        label: uint8 [H, W], class indices, 255 where no class counts.
        instances: int [H, W], 0 for pixels without an instance id; None for data sets without ids.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raise UserError if a reader gave another dtype or shape."""
        image, label = self.image, self.label
        if not image.dtype == label.dtype == np.uint8 or image.shape != (*label.shape, 3):
            raise UserError(
                f"{self.name} must be an image uint8 [H, W, 3] with a label uint8 [H, W], got "
                f"{image.dtype} {list(image.shape)} with {label.dtype} {list(label.shape)}"
            )


def runs(keys: Sequence[str], *, at_least: int) -> list[int]:
    """Block of each sample: runs of `at_least` neighbours with one key; the last takes the rest.

    `Source.blocks` uses it where a key is a video or a drive and names are in its order.
    """
    blocks: list[int] = []
    for _, group in groupby(keys):
        first, count = (blocks[-1] + 1 if blocks else 0), len(list(group))
        last = max(count // at_least, 1) - 1
        blocks += [first + min(i // at_least, last) for i in range(count)]
    return blocks


class Source(ABC):
    """A split of a data set. The keyword arguments of `__init__` are the knobs of its YAML.

    Attributes:
        classes: Class names; the index is the label value.
        palette: RGB per class, 0 to 255.
        class_groups: Classes whose mean IoU is reported, by group name: large, small or thin. Empty
            where the data set has no such classes; None where they are found by the median size of
            their training objects.
        things: Classes whose single objects are scored by size; the others are stuff.
        with_ids: Things whose single objects have instance ids in this data set.
        flip_pairs: Classes that change places in a mirror, such as left and right door.
        size_edges: px, where an object of this data set begins to be medium and large; None for the
            terciles of the training objects.
        size_classes: Things with 50 objects or more in a bin of the training labels, by bin; None
            where they are found once, see `segattn.data.size_facts`.
        values: What stands for each class in the data set's label files; None: 0, 1, 2, ...
        official: By split, the name and the number of images of the data set's own split that it
            reads; empty for a data set that has no official splits.
        names: Sample names in order.
        size: (height, width) to which images and labels are resized; None keeps theirs.
        drawn: Whether the splits were drawn here, by a seed, rather than given.
        problems: What is wrong with the listing, such as a missing file; those samples are not in
            `names`.
        notes: What may be so on purpose, but should be known.
        title: Name of the data set for people, with the knobs that change the comparison.
    """

    classes: ClassVar[tuple[str, ...]]
    palette: ClassVar[tuple[tuple[int, int, int], ...]]
    class_groups: ClassVar[dict[str, tuple[str, ...]] | None] = {}
    things: ClassVar[tuple[str, ...]]
    with_ids: ClassVar[tuple[str, ...]] = ()
    flip_pairs: ClassVar[tuple[tuple[str, str], ...]] = ()
    size_edges: tuple[float, float] | None = (32.0, 96.0)  # COCO's
    size_classes: ClassVar[dict[str, tuple[str, ...]] | None] = None
    values: ClassVar[tuple[int, ...] | None] = None
    official: ClassVar[dict[Split, tuple[str, int]]] = {}
    size: Sequence[int] | None = None
    drawn: bool = False
    names: list[str]
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    title: str

    def blocks(self) -> list[int]:
        """Block of each sample; samples of one block, such as near frames of a video, are alike."""
        return list(range(len(self.names)))

    def places(self) -> list[str]:
        """Where each sample comes from, the same for one image in two splits; here its name."""
        return list(self.names)

    def shares_images(self, other: "Source") -> bool:
        """Whether an image is in both splits."""
        return not set(self.places()).isdisjoint(other.places())

    def content(self, index: int) -> Iterator[bytes]:
        """Yield the bytes of sample `index` that distinguish it from other samples."""
        sample = self.load(index)
        yield from (sample.image.tobytes(), sample.label.tobytes())

    def stamp(self) -> str:
        """What changes when a label of the split may have changed, without reading the labels."""
        return self.fingerprint()

    def fingerprint(self) -> str:
        """SHA-256 over all names in order and the content of up to 8 samples, evenly spaced."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        steps = min(len(self.names), _NUM_HASHED)
        for step in range(steps):
            for part in self.content(step * len(self.names) // steps):
                digest.update(part)
        return digest.hexdigest()

    @abstractmethod
    def load(self, index: int) -> Sample:
        """Sample `index`.

        Raises:
            UserError: A file is missing or damaged; the message names it and what to do.
        """
