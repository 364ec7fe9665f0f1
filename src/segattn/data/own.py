"""What data=folder and data=coco share: facts from files instead of a class, splits and sizes."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

from segattn.base.errors import UserError
from segattn.data.files import FileSource, Pair
from segattn.data.images import resize
from segattn.data.legend import Legend
from segattn.data.palette import Palette, voc_palette
from segattn.data.source import Sample, Split

Edges = list[float] | Literal["coco", "terciles"]


class OwnData(FileSource):
    """A split of somebody's own data.

    Args:
        pairs: See the base class.
        problems: See the base class.
        legend: What classes.yaml says.
        classes: The names of its classes.
        palette: Colour of each class; by default PASCAL VOC's.
        things: Where the legend names none.
        with_ids: Whether things have instance ids.
        size: (height, width) to which images and labels are resized; None keeps theirs.
        size_edges: px; "terciles" parts the training objects into thirds.
        title: See `Source`.
        drawn: See `Source`.
        part: The split.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        problems: Sequence[str],
        legend: Legend,
        classes: Sequence[str],
        palette: Palette | None = None,
        things: Sequence[str],
        with_ids: bool,
        size: Sequence[int] | None,
        size_edges: Edges,
        title: str,
        drawn: bool,
        part: Split,
    ) -> None:
        legend.check_names(classes)
        if size is not None and (
            len(size) != 2 or not all(type(side) is int and side > 0 for side in size)
        ):
            raise UserError(f"data.size must be null or [height, width] in px, got {size}")
        named = tuple(things if legend.things is None else legend.things)
        # a class of files has them as facts of the class; here they are facts of the files
        vars(self).update(
            classes=tuple(classes),
            palette=palette or voc_palette(len(classes)),
            things=named,
            with_ids=named if with_ids else (),
            class_groups=legend.groups or None,
            flip_pairs=legend.flip_pairs,
        )
        self.size, self.title, self.drawn = size, title, drawn
        self._file = legend.file
        self.size_edges = _edges(size_edges)
        super().__init__(pairs, problems=problems)
        if not self.names and not self.problems:
            raise UserError(
                f"{title}: the split {part!r} is empty; give it images, or a larger share"
            )

    def fingerprint(self) -> str:
        """See the base class; classes.yaml, if there is one, is a part of the data."""
        found = super().fingerprint()
        if self._file is None:
            return found
        return hashlib.sha256(found.encode() + self._file.read_bytes()).hexdigest()

    def stamp(self) -> str:
        """See the base class; what decides how a label is read too."""
        return f"{super().stamp()} {self.size}"

    def load(self, index: int) -> Sample:
        """See the base class; resized if `size` says so."""
        sample = super().load(index)
        if self.size is None:
            return sample
        maps = (sample.label, sample.instances)
        label, ids = (m if m is None else resize(m, self.size, nearest=True) for m in maps)
        assert label is not None
        return Sample(sample.name, resize(sample.image, self.size), label, ids)


def _edges(given: Edges) -> tuple[float, float] | None:
    if given == "terciles":
        return None
    edges: Any = (32.0, 96.0) if given == "coco" else given
    numbers = all(isinstance(edge, int | float) for edge in edges)
    if len(edges) != 2 or not numbers or not 0 < edges[0] < edges[1]:
        raise UserError(
            f"data.size_edges must be coco, terciles, or two rising numbers of px, got {given}"
        )
    return float(edges[0]), float(edges[1])


def share_of(name: str, shares: dict[Split, float], *, seed: int) -> Split:
    """Return the split that an image belongs to: by its name alone, so that it stays there.

    Args:
        name: Name of the image.
        shares: Share of each split, which add up to 1.
        seed: Another one gives other splits.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    for split in ("test", "val", "train"):
        place -= shares.get(split, 0.0)
        if place < 0:
            return split
    return "train"
