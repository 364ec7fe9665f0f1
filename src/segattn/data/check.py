"""Read every sample of a data set on this disk, and name every fault.

C = classes; H, W = image height and width; K = objects.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from segattn.base.errors import UserError
from segattn.data import check_data, open_source
from segattn.data.files import FileSource, is_turned
from segattn.data.images import read_image
from segattn.data.source import IGNORE_INDEX, Source, Split
from segattn.metrics import find_objects


@dataclass(frozen=True)
class Facts:
    """What one sample shows.

    Attributes:
        shape: (H, W), px.
        pixels: int64 [C + 1], pixels of each class, the void ones last.
        cls: [K], class of each object.
        size: [K], sqrt(area) in px.
        turned: Whether viewers turn the image by its EXIF orientation.
    """

    shape: tuple[int, int]
    pixels: NDArray[np.int64]
    cls: NDArray[np.integer[Any]]
    size: NDArray[np.float64]
    turned: bool


@dataclass
class SplitCheck:
    """Sums over the samples of one official split, and its faults and oddities.

    Attributes:
        title: "train", or "val, test" where both read one official split.
        source: Its samples.
        official: Name and number of images of the official split, or None.
        facts: Facts of each readable sample.
        problems: Faults that would make scores on this split wrong or impossible.
        warnings: What may be so on purpose, but should be known.
    """

    title: str
    source: Source
    official: tuple[str, int] | None
    facts: list[Facts] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels of each class, the void ones last, int64 [C + 1]."""
        none = np.zeros(len(self.source.classes) + 1, np.int64)
        return np.sum([none, *(facts.pixels for facts in self.facts)], axis=0)


@dataclass
class Check:
    """The splits of a data set, each official split once, and why others could not be opened."""

    name: str
    splits: list[SplitCheck] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """All that makes scores wrong or impossible."""
        leaks = [
            f"{name} is in {first.title} and in {second.title}; no image may be in two splits"
            for first, second in combinations(self.splits, 2)
            for name in sorted(set(first.source.names) & set(second.source.names))
        ]
        of_splits = [f"{split.title}: {line}" for split in self.splits for line in split.problems]
        return [*self.closed, *leaks, *of_splits]

    @property
    def warnings(self) -> list[str]:
        """All that may be so on purpose."""
        return [f"{split.title}: {line}" for split in self.splits for line in split.warnings]


def check(name: str, knobs: dict[str, Any], *, jobs: int) -> Check:
    """Read every sample of every split, in `jobs` processes; 1 reads in this one.

    Raises:
        UserError: `name` is not in `DATASETS`, or a knob is not of its kind. A `UserError` about
            files is collected instead.
    """
    check_data(name, knobs)
    found = Check(name)
    by_official: dict[Any, SplitCheck] = {}
    for split in get_args(Split):
        try:
            source = open_source(name, split, **knobs)
        except UserError as error:
            if str(error) not in found.closed:
                found.closed.append(str(error))
            continue
        official = source.official.get(split)
        key = official[0] if official else tuple(source.places())  # the same images, read once
        if key in by_official:
            by_official[key].title += f", {split}"
        else:
            by_official[key] = SplitCheck(split, source, official)
    found.splits = list(by_official.values())
    found.name = found.splits[0].source.title if found.splits else name
    for opened in found.splits:
        _walk(opened, jobs=jobs)
    return found


def _walk(split: SplitCheck, *, jobs: int) -> None:
    source, total = split.source, len(split.source.names)
    split.problems = list(dict.fromkeys(source.problems))
    split.warnings = list(source.notes)
    if split.official and total != split.official[1]:
        split.problems.insert(
            0,
            f"{total} complete images, but the official split {split.official[0]!r} has "
            f"{split.official[1]}; scores would not be comparable",
        )
    looks = track(
        _looks(source, jobs), f"reading {split.title}", total, console=Console(stderr=True)
    )
    for index, found in enumerate(looks):
        if not isinstance(found, Facts):
            split.problems += [line for line in found if line not in split.problems]
            continue
        split.facts.append(found)
        if not found.pixels[:-1].any():
            split.warnings.append(f"{_name(source, index)} is labelled void everywhere")
    if turned := sum(facts.turned for facts in split.facts):
        split.warnings.append(
            f"{counted(turned, 'image')} with an EXIF orientation, which is not applied: the "
            "labels must lie on the pixels as they are stored"
        )
    if split.facts and not split.pixels[:-1].any():
        split.problems.append("no image has a labelled pixel: every label is void")
    counts = zip(source.classes, split.pixels, strict=False)
    if total and (never := [name for name, pixels in counts if not pixels]):
        split.warnings.append(
            f"{len(never)} of {len(source.classes)} classes never occur: {', '.join(never)}"
        )


def _looks(source: Source, jobs: int) -> Iterator[Facts | list[str]]:
    """A look at every sample, in order; the first here, for it may draw scenes with a bar."""
    one, rest = partial(look, source), range(1, len(source.names))
    yield from map(one, range(len(source.names))[:1])
    if jobs == 1 or not rest:
        yield from map(one, rest)
        return
    # the source goes to each process once: with its annotations it may be large
    with ProcessPoolExecutor(jobs, initializer=_hold, initargs=(source,)) as pool:
        yield from pool.map(_look_at_held, rest, chunksize=16)


_held: list[Source] = []


def _hold(source: Source) -> None:
    _held[:] = [source]


def _look_at_held(index: int) -> Facts | list[str]:
    return look(_held[0], index)


def look(source: Source, index: int) -> Facts | list[str]:
    """Facts of sample `index`, or a line for each thing that is wrong with its files."""
    try:
        sample = source.load(index)
        counts = np.bincount(sample.label.ravel(), minlength=256)
        num_classes = len(source.classes)
        if wrong := (num_classes + np.flatnonzero(counts[num_classes:IGNORE_INDEX])).tolist():
            raise UserError(
                f"{_name(source, index)} was read with labels {wrong}; the reader of its data set "
                f"must give 0 to {num_classes - 1} or {IGNORE_INDEX}"
            )
    except UserError as error:
        return list(dict.fromkeys([str(error), *_further_errors(source, index)]))
    objects = find_objects(sample.label, sample.instances)
    pixels = np.append(counts[:num_classes], counts[IGNORE_INDEX])
    size, turned = np.sqrt(objects.area), is_turned(source, index)
    return Facts(sample.label.shape, pixels, objects.cls, size, turned)


def counted(number: int, noun: str) -> str:
    """Return such as "1 image" and "2 images"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _name(source: Source, index: int) -> str:
    """Return the image's path, or the name of a sample without a file."""
    if isinstance(source, FileSource):
        return str(source.pairs[index].image)
    return source.names[index]


def _further_errors(source: Source, index: int) -> Iterator[str]:
    """Check a sample's image and label one by one, since `load` stops at the first fault."""
    if not isinstance(source, FileSource):
        return
    pair = source.pairs[index]
    for read in (lambda: read_image(pair.image), lambda: source.read_label(pair)):
        try:
            read()
        except UserError as error:
            yield str(error)
