"""The check of a data set as text: tables of what it holds, lines of what is wrong, a verdict."""

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segattn.data.check import SplitSurvey, Survey

_PADDING = (0, 1, 0, 0)  # so that the split table fits 100 columns
QUANTILES = (5, 25, 50, 75, 95)  # per cent
NUM_SHOWN = 50  # lines of a kind on the terminal


def print_survey(found: Survey, console: Console) -> None:
    """Print the tables; a split without a readable image has none of classes."""
    if found.splits:
        console.print(split_table(found))
    for split in found.splits:
        if split.sizes:
            console.print(class_table(split))


def findings(found: Survey) -> list[str]:
    """Every warning and every problem, one a line."""
    return [
        *(f"warning: {line}" for line in found.warnings),
        *(f"problem: {line}" for line in found.problems),
    ]


def shown_findings(found: Survey, *, file: str) -> list[str]:
    """`findings` without what is too much for a terminal; `file` holds that."""
    lines: list[str] = []
    for kind, of_kind in (("warning", found.warnings), ("problem", found.problems)):
        lines += [f"{kind}: {line}" for line in of_kind[:NUM_SHOWN]]
        if (more := len(of_kind) - NUM_SHOWN) > 0:
            lines.append(f"... and {more} more {kind}{'s' * (more > 1)}, all in {file}")
    return lines


def verdict(found: Survey) -> str:
    """One line: OK, OK with warnings, FAILED or INTERRUPTED, and what was looked at."""
    problems, warnings = len(found.problems), len(found.warnings)
    looked = sum(split.num_looked for split in found.splits)
    total = sum(len(split.source.names) for split in found.splits)
    images = _count(total, "image") if looked == total else f"{looked} of {_count(total, 'image')}"
    subject = f"{found.name}, {images} in {_count(len(found.splits), 'split')}"
    if found.interrupted:
        return f"INTERRUPTED: {_count(problems, 'problem')} so far in {subject}"
    if problems:
        return f"FAILED: {_count(problems, 'problem')} in {subject}"
    if warnings:
        return f"OK with {_count(warnings, 'warning')}: {subject}"
    return f"OK: {subject}"


def split_table(found: Survey) -> Table:
    """A row a split: images against the official count, image sizes, void, findings."""
    table = Table(title=found.name, title_justify="left", box=SIMPLE_HEAD, padding=_PADDING)
    table.add_column("split")
    for header in ("images", "official", "read", "smallest", "largest", "sizes", "void %"):
        table.add_column(header, justify="right")
    table.add_column("warnings", justify="right", style="yellow")
    table.add_column("problems", justify="right", style="red")
    for split in found.splits:
        table.add_row(
            split.title,
            f"{len(split.source.names)}",
            f"{split.official[1]}" if split.official else "-",
            f"{split.sizes.total()}",
            *_size_range(split),
            f"{len(split.warnings)}",
            f"{len(split.problems)}",
        )
    return table


def _size_range(split: SplitSurvey) -> list[str]:
    """Smallest and largest image by area, number of sizes, share of void pixels."""
    if not split.sizes:
        return ["-"] * 4
    sizes = sorted(split.sizes, key=lambda size: (size[0] * size[1], size))
    smallest, largest = (f"{width}x{height}" for height, width in (sizes[0], sizes[-1]))
    void = 100 * split.pixels[-1] / split.pixels.sum()
    return [smallest, largest, f"{len(sizes)}", f"{void:.2f}"]


def class_table(split: SplitSurvey) -> Table:
    """A row a class: its share of the labelled pixels, its objects and their sizes."""
    title = (
        f"{split.title}: share of the labelled pixels; quantiles of object size, sqrt(area) in px"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=_PADDING)
    table.add_column("class", overflow="fold")
    for header in ("pixels %", "objects", *(f"{quantile} %" for quantile in QUANTILES)):
        table.add_column(header, justify="right")
    cls, size = split.objects()
    labelled = max(int(split.pixels[:-1].sum()), 1)
    for index, name in enumerate(split.source.classes):
        share = 100 * int(split.pixels[index]) / labelled
        cells = [f"{share:.3f}", *_sizes(size[cls == index])]
        table.add_row(escape(name), *cells, style=None if share else "yellow")
    table.add_section()
    table.add_row("all", "100" if split.pixels[:-1].any() else "0", *_sizes(size))
    return table


def _sizes(sizes: NDArray[np.float64]) -> list[str]:
    if not sizes.size:
        return ["none", *["-"] * len(QUANTILES)]
    quantiles = np.quantile(sizes, np.array(QUANTILES) / 100)
    return [f"{sizes.size}", *(f"{value:.1f}" for value in quantiles)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
