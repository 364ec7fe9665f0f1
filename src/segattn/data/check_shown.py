"""What a check of a data set found, for people: tables, findings, and a picture of samples."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segattn.base.errors import UserError
from segattn.base.files import atomic_path
from segattn.data.check import Check, SplitCheck, counted
from segattn.data.palette import colour_table
from segattn.data.size_facts import size_facts
from segattn.data.source import IGNORE_INDEX, Sample, Source
from segattn.metrics import SIZES

QUANTILES = (5, 50, 95)  # per cent
_NUM_SHOWN = 8
_COLUMNS = 4


def show(found: Check, console: Console) -> None:
    """Print a table of the splits, one of each split's classes, every finding, the verdict last."""
    if found.splits:
        console.print(split_table(found))
    edges = _edges(found)
    for split in found.splits:
        if split.facts:
            console.print(class_table(split, edges))
    for kind, lines in (("warning", found.warnings), ("problem", found.problems)):
        for line in lines:
            console.print(f"{kind}: {line}", soft_wrap=True, markup=False, highlight=False)
    console.print(verdict(found), soft_wrap=True, markup=False, highlight=False)


def verdict(found: Check) -> str:
    """One line: OK, OK with warnings, or FAILED, and what was looked at."""
    images = sum(len(split.source.names) for split in found.splits)
    subject = f"{found.name}, {counted(images, 'image')} in {counted(len(found.splits), 'split')}"
    if found.problems:
        return f"FAILED: {counted(len(found.problems), 'problem')} in {subject}"
    if found.warnings:
        return f"OK with {counted(len(found.warnings), 'warning')}: {subject}"
    return f"OK: {subject}"


def split_table(found: Check) -> Table:
    """A row a split: images against the official count, image sizes (width x height), void."""
    headers = ("images", "official", "read", "smallest", "largest", "void %", "problems")
    table = _table(found.name, "split", *headers)
    for split in found.splits:
        shapes = sorted((facts.shape for facts in split.facts), key=lambda s: (s[0] * s[1], s))
        ends = [f"{width}x{height}" for height, width in (shapes[0], shapes[-1])] if shapes else []
        pixels = split.pixels
        void = f"{100 * pixels[-1] / pixels.sum():.2f}" if shapes else "-"
        official = split.official[1] if split.official else "-"
        counts = (len(split.source.names), official, len(shapes))
        problems = str(len(split.problems))
        table.add_row(split.title, *map(str, counts), *(ends or ["-", "-"]), void, problems)
    return table


def class_table(split: SplitCheck, edges: tuple[float, float] | None) -> Table:
    """A row a class: its share of the labelled pixels, its objects by size, and their sizes."""
    words = f", small below {edges[0]:g} px, large from {edges[1]:g} px" if edges else ""
    title = f"{split.title}: share of the labelled pixels; objects by sqrt(area) in px{words}"
    sizes = SIZES if edges else ()
    table = _table(title, "class", "pixels %", "objects", *sizes, *(f"{q} %" for q in QUANTILES))
    cls, size = (np.concatenate([getattr(f, k) for f in split.facts]) for k in ("cls", "size"))
    pixels = split.pixels[:-1]
    shares = 100 * pixels / max(pixels.sum(), 1)
    for index, name in enumerate(split.source.classes):
        table.add_row(escape(name), f"{shares[index]:.3f}", *_sizes(size[cls == index], edges))
    table.add_section()
    table.add_row("all", f"{shares.sum():.0f}", *_sizes(size, edges))
    return table


def _edges(found: Check) -> tuple[float, float] | None:
    """Where objects of the data begin to be medium and large; None if no training label says it."""
    for split in found.splits:
        if split.source.size_edges is not None:
            return split.source.size_edges
        with suppress(UserError):  # a damaged label is named already
            low, high = size_facts(split.source)["size_edges"]
            return low, high
    return None


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for header in others:
        table.add_column(header, justify="right")
    return table


def _sizes(sizes: NDArray[np.float64], edges: tuple[float, float] | None) -> list[str]:
    bins: Any = np.bincount(np.digitize(sizes, edges), minlength=len(SIZES)) if edges else []
    if not sizes.size:
        return ["none", *["-"] * (len(bins) + len(QUANTILES))]
    quantiles = (f"{value:.1f}" for value in np.percentile(sizes, QUANTILES))
    return [f"{sizes.size}", *map(str, bins), *quantiles]


def write_picture(source: Source, path: Path) -> int:
    """Write a PNG of up to eight samples, evenly spaced, each above its label; return how many.

    Objects with ids are outlined in white; void is white.
    """
    samples = []
    wanted = np.linspace(0, len(source.names) - 1, min(len(source.names), _NUM_SHOWN))
    for index in wanted.round().astype(int).tolist():
        with suppress(UserError):  # the check has named this fault
            samples.append(source.load(index))
    if not samples:
        return 0
    rows = 2 * -(-len(samples) // _COLUMNS)
    figure = Figure(figsize=(3 * _COLUMNS, 2.6 * rows + 1), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for number, sample in enumerate(samples):
        row, column = 2 * (number // _COLUMNS), number % _COLUMNS
        axes[row, column].imshow(sample.image)
        axes[row, column].set_title(sample.name[-32:], fontsize=8, parse_math=False)
        axes[row + 1, column].imshow(painted(sample, source))
    present = np.unique(np.concatenate([np.unique(sample.label) for sample in samples]))
    handles = [
        Patch(color=f"#{bytes(source.palette[index]).hex()}", label=source.classes[index])
        for index in present[present != IGNORE_INDEX]
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
    with atomic_path(path) as draft:
        figure.savefig(draft, dpi=80)
    return len(samples)


def painted(sample: Sample, source: Source) -> NDArray[np.uint8]:
    """A label in the colours of its classes, uint8 [H, W, 3]; void and outlines are white."""
    picture = colour_table(source.palette)[sample.label]
    if sample.instances is not None:
        ids: Any = sample.instances
        edge = np.zeros(ids.shape, bool)
        edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
        edge[1:] |= ids[1:] != ids[:-1]
        picture[edge] = 255
    return picture
