"""What a data set on this disk holds: every sample read once, and everything wrong with it named.

C = classes; H, W = image height and width; K = objects.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from segattn.data import check_data, open_source
from segattn.data.check_sample import Facts, look
from segattn.data.source import Source, Split


@dataclass
class SplitSurvey:
    """One split, with the sums over the samples read so far.

    Attributes:
        title: "train", or "val, test" where both read one official split.
        source: Opened, also where its listing has problems.
        official: Name and number of images of the official split; None where there is none.
        num_looked: Samples looked at so far, readable or not.
        pixels: int64 [C + 1], see `Facts`.
        sizes: Number of images by (H, W).
        bad: What is wrong with the files of samples.
        void: Files of the images whose label is void everywhere.
        same: Lines on images that an earlier name holds too.
        cls: Classes of the objects, one array an image.
        area: Areas of the objects, px, one array an image.
    """

    title: str
    source: Source
    official: tuple[str, int] | None
    pixels: NDArray[np.int64]
    num_looked: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    cls: list[NDArray[np.uint8]] = field(default_factory=list)
    area: list[NDArray[np.int32]] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Why scores on this split would be wrong, or could not be had."""
        lines = [*self.source.problems, *self.bad]
        found = len(self.source.names)
        if self.official and found != self.official[1]:
            lines.insert(
                0,
                f"{found} complete images, but the official split {self.official[0]!r} has "
                f"{self.official[1]}; scores would not be comparable",
            )
        return [f"{self.title}: {line}" for line in dict.fromkeys(lines)]

    @property
    def warnings(self) -> list[str]:
        """What may be so on purpose, but should be known."""
        lines = [*(f"{file} is labelled void everywhere" for file in self.void), *self.same]
        if never := self.absent_classes():
            lines.append(
                f"{len(never)} of {len(self.source.classes)} classes never occur: "
                f"{', '.join(never)}"
            )
        return [f"{self.title}: {line}" for line in lines]

    def absent_classes(self) -> list[str]:
        """Classes without a pixel; empty as long as the split is not read to its end."""
        if self.num_looked < len(self.source.names):
            return []
        counts = self.pixels[:-1].tolist()
        return [name for name, n in zip(self.source.classes, counts, strict=True) if n == 0]

    def objects(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Class uint8 [K] and size float64 [K], sqrt(area) in px, of all objects of the split."""
        if not self.cls:
            return np.zeros(0, np.uint8), np.zeros(0)
        return np.concatenate(self.cls), np.sqrt(np.concatenate(self.area), dtype=np.float64)

    def add(self, facts: Facts, seen: dict[bytes, str]) -> None:
        """Count a readable sample; `seen` holds the file of every image so far, by digest."""
        first = seen.setdefault(facts.digest, f"{self.title}: {facts.name}")
        if first != f"{self.title}: {facts.name}":
            self.same.append(f"{facts.name} is the same image as one before ({first})")
        if not facts.pixels[:-1].any():
            self.void.append(facts.name)
        self.sizes[facts.size] += 1
        self.pixels += facts.pixels
        self.cls.append(facts.cls)
        self.area.append(facts.area)


@dataclass
class Survey:
    """The splits of a data set, each official split once.

    Attributes:
        name: The data set.
        splits: Those that could be opened.
        closed: Why the others could not.
        interrupted: The user stopped it; the sums cover what was read until then.
    """

    name: str
    splits: list[SplitSurvey] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def problems(self) -> list[str]:
        """All that makes scores wrong or impossible, the listings before the files."""
        own = [line for split in self.splits for line in split.problems]
        return [*self.closed, *self._leaks(), *own]

    @property
    def warnings(self) -> list[str]:
        """All that may be so on purpose."""
        return [line for split in self.splits for line in split.warnings]

    def close(self, split: Split, error: Exception) -> None:
        """Note why a split could not be opened; once, where several read the same files."""
        line = str(error)
        if type(error) is not ValueError:  # no reader's message
            line = f"{split}: unexpected {type(error).__name__}: {error}"
        if line not in self.closed:
            self.closed.append(line)

    def _leaks(self) -> list[str]:
        return [
            f"{name} is in {first.title} and in {second.title}; no image may be in two splits"
            for first, second in combinations(self.splits, 2)
            for name in sorted(set(first.source.names) & set(second.source.names))
        ]


def survey(name: str, knobs: dict[str, Any], *, jobs: int) -> Survey:
    """Read every sample of every split once; Ctrl-C ends it early.

    Args:
        name: One of `DATASETS`.
        knobs: Its knobs.
        jobs: Reading processes; 1 reads in this one.

    Returns:
        Facts and problems. What is wrong with files is collected, never raised.

    Raises:
        ValueError: Unknown name or knob.
    """
    check_data(name, knobs)
    result = Survey(name)
    seen: dict[bytes, str] = {}
    try:
        _open_splits(result, knobs)
        for split in result.splits:
            _walk(split, seen, jobs=jobs)
    except KeyboardInterrupt:
        result.interrupted = True
    return result


def _open_splits(result: Survey, knobs: dict[str, Any]) -> None:
    """Open each official split once, under the names of all our splits that read it."""
    by_official: dict[str, SplitSurvey] = {}
    for split in get_args(Split):
        try:
            source = open_source(result.name, split, **knobs)
        except Exception as error:  # the other splits must still be looked at
            result.close(split, error)
            continue
        official = source.official.get(split)
        key = official[0] if official else split
        if key in by_official:
            by_official[key].title += f", {split}"
        else:
            pixels = np.zeros(len(source.classes) + 1, np.int64)
            by_official[key] = SplitSurvey(split, source, official, pixels)
    result.splits = list(by_official.values())


def _walk(split: SplitSurvey, seen: dict[bytes, str], *, jobs: int) -> None:
    total = len(split.source.names)
    if not total:
        return
    console = Console(stderr=True)
    title = f"reading {split.title}"
    if not console.is_terminal:
        print(f"{title}: {total} images", file=sys.stderr, flush=True)
    # before the bar starts: the first sample may draw scenes, which has a bar of its own, and
    # processes are better forked before there are threads
    first, others = look(split.source, 0), iter(_loader(split.source, jobs=jobs))
    looks = chain([first], others)
    try:
        for found in track(looks, title, total, console=console, disable=not console.is_terminal):
            _count(split, found, seen)
    except RuntimeError as error:  # `look` raises none: it is the loader's, of a process that died
        last = split.source.names[split.num_looked - 1]
        split.bad.append(
            f"stopped a few images after {last!r}, since a reading process died ({error}); "
            f"--jobs 1 needs the least memory"
        )


def _count(split: SplitSurvey, found: Facts | list[str], seen: dict[bytes, str]) -> None:
    split.num_looked += 1
    if isinstance(found, Facts):
        split.add(found, seen)
    else:
        split.bad.extend(found)


class _Looks(Dataset[Any]):
    """`look` by index, so that a DataLoader spreads it over processes."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Facts | list[str]:
        return look(self.source, index)


def _loader(source: Source, *, jobs: int) -> DataLoader[Any]:
    """Looks at all samples but the first, in order."""
    return DataLoader(
        _Looks(source),
        sampler=range(1, len(source.names)),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=jobs if jobs > 1 else 0,
    )


def _unchanged(item: Facts | list[str]) -> Facts | list[str]:
    return item
