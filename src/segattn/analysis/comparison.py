"""Run folders of one experiment, grouped into heads x seeds and checked to be comparable.

A head may come in variants: runs of it that differ in knobs, such as "fla" and
"fla published_batch_mixing=true". Each variant is compared like a head of its own.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segattn.analysis.stats import AREA, Array, Sample, resample
from segattn.heads import HEADS
from segattn.metrics import ALL_GROUPS, SizeBins, image_counts
from segattn.runs import Run, read_oracle

# the order of tables and the colours of figures; other heads follow by name
HEAD_ORDER = ("fcn", "channel_nl", "spatial_nl", "danet", "cs_nl", "fla")

# a cell with less support is shown but enters no mean: its IoU is a matter of a few objects,
# and a resampled test set could lose it
MIN_OBJECTS = 30
MIN_IMAGES = 10

# the facts that all runs of one comparison share
SHARED = (
    "experiment",
    "data",
    "split",
    "images",
    "blocks",
    "train_objects",
    "protocol",
    "encoder",
    "metric",
)


# compared by identity, so that verdicts can be kept per comparison
@dataclass(frozen=True, eq=False)
class Comparison:
    """Finished runs of one experiment on one data set.

    Attributes:
        samples: Head (name, and knobs where it has variants) to its counts, in display order.
        runs: Head to its runs, in the order of the seeds.
        oracle: What a perfect head scores, by stride, as one seed; empty where the experiment
            folder has no oracle.
        facts: What all runs share, the entries of result.json named by `SHARED`.
        support: One row per class and group of `ALL_GROUPS`: class, group, objects, images,
            pixels, published. Objects below the minimum area count as pixels only.
        unfinished: Runs without a result.
        notes: What a reader has to know about how the runs differ, in words.
    """

    samples: dict[str, Sample]
    runs: dict[str, list[Run]]
    oracle: dict[int, Sample]
    facts: dict[str, Any]
    support: pd.DataFrame
    unfinished: list[Run]
    notes: list[str]

    @property
    def heads(self) -> list[str]:
        """Heads in display order."""
        return list(self.samples)

    @property
    def references(self) -> dict[str, str]:
        """What each head but the first is compared with: variants with the first of their head."""
        first = {base_name(head): head for head in reversed(self.heads)}
        own = {head: first[base_name(head)] for head in self.heads[1:]}
        return {head: self.heads[0] if other == head else other for head, other in own.items()}

    @property
    def classes(self) -> list[str]:
        """Class names; the position is the label."""
        return list(self.facts["data"]["classes"])

    def published_classes(self, group: str) -> list[int]:
        """Labels of the classes with enough objects in a group, the same for all heads."""
        rows = self.support[(self.support["group"] == group) & self.support["published"]]
        return [self.classes.index(name) for name in rows["class"]]


def compare(runs: Sequence[Run]) -> Comparison:
    """Group the finished runs of one experiment into heads x seeds.

    Args:
        runs: Finished and unfinished runs, as `segattn.runs.load_runs` returns them.

    Raises:
        ValueError: No run is finished; the runs differ in experiment, data, test images, metric,
            protocol or encoder; a head has two runs with one seed; the ground truth of two runs
            differs.
    """
    results = [(run, result) for run in runs if (result := run.result) is not None]
    if not results:
        raise ValueError(
            f"none of {len(runs)} runs is finished, so there is nothing to compare. "
            "Run `make ablation`, or wait for it."
        )
    for key in SHARED:
        _check_shared(results, key)
    facts = {key: results[0][1][key] for key in SHARED}
    by_head = _group(results)
    tables = {head: [run.objects() for run, _ in cells] for head, cells in by_head.items()}
    samples = _samples(by_head, tables, facts=facts)
    return Comparison(
        samples=samples,
        runs={head: [run for run, _ in cells] for head, cells in by_head.items()},
        oracle=_oracle(
            results[0][0].path.parent / "oracle",
            facts=facts,
            truth=next(iter(samples.values())).sums[0, ..., AREA],
        ),
        facts=facts,
        support=_support(next(iter(tables.values()))[0], facts=facts),
        unfinished=[run for run in runs if run.result is None],
        notes=_notes(by_head),
    )


Cell = tuple[Run, dict[str, Any]]


def _check_shared(results: list[Cell], key: str) -> None:
    first_run, first = results[0]
    for run, result in results[1:]:
        if result[key] != first[key]:
            raise ValueError(
                f"runs with different {key} cannot be compared: {first_run.path.name} and "
                f"{run.path.name} differ in {_difference(first[key], result[key])}. "
                "Give a folder that holds one experiment."
            )


def _difference(first: Any, second: Any) -> str:
    if isinstance(first, dict):
        return ", ".join(_varying([first, second]))
    if isinstance(first, list):
        return f"a list of {len(first)} and one of {len(second)} names"
    return f"{first!r} and {second!r}"


def base_name(head: str) -> str:
    """The name of a head without the knobs of its variant."""
    return head.split(" ")[0]


def _group(results: list[Cell]) -> dict[str, list[Cell]]:
    """Head to its runs by seed, in display order."""
    by_head: dict[str, list[Cell]] = {}
    for cell in sorted(results, key=lambda cell: int(cell[1]["seed"])):
        by_head.setdefault(_label(cell, results), []).append(cell)
    for head, cells in by_head.items():
        _check_seeds(head, cells)
    return {head: by_head[head] for head in sorted(by_head, key=_display_order)}


def _label(cell: Cell, results: list[Cell]) -> str:
    """The head's name, and the knobs that vary between its runs where they are not the default."""
    name = cell[1]["head"]["name"]
    defaults = _defaults(name)
    same = [{**defaults, **result["head"]} for _, result in results]
    varying = _varying([head for head in same if head["name"] == name])
    own = {**defaults, **cell[1]["head"]}
    shown = [f"{k}={_plain(own.get(k))}" for k in varying if own.get(k) != defaults.get(k)]
    return " ".join([name, *shown])


def _defaults(name: str) -> dict[str, Any]:
    """What a run without the knob has, because it is older than the knob."""
    parameters = inspect.signature(HEADS[name]).parameters.values() if name in HEADS else ()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _display_order(head: str) -> tuple[int, str, int, str]:
    name = base_name(head)
    place = HEAD_ORDER.index(name) if name in HEAD_ORDER else len(HEAD_ORDER)
    return place, name, len(head.split(" ")), head


def _check_seeds(head: str, cells: list[Cell]) -> None:
    for (run, result), (other, next_result) in pairwise(cells):
        if result["seed"] == next_result["seed"]:
            raise ValueError(
                f"{run.path.name} and {other.path.name} are both head {head!r} with seed "
                f"{result['seed']}; delete or move one of them"
            )


def _samples(
    by_head: dict[str, list[Cell]], tables: dict[str, list[pd.DataFrame]], *, facts: dict[str, Any]
) -> dict[str, Sample]:
    samples = {}
    truth: NDArray[np.int64] | None = None
    for head, cells in by_head.items():
        z = np.stack([_counts(table, facts=facts) for table in tables[head]])
        truth = z[0, ..., AREA] if truth is None else truth
        for (run, _), area in zip(cells, z[..., AREA], strict=True):
            if not np.array_equal(area, truth):
                raise ValueError(
                    f"{run.path.name} was tested on other labels than the runs before it, though "
                    "the image names agree; evaluate all runs on the same version of the data"
                )
        seeds = [int(result["seed"]) for _, result in cells]
        samples[head] = resample(z, seeds=seeds, blocks=facts["blocks"])
    return samples


def _oracle(folder: Path, *, facts: dict[str, Any], truth: Array) -> dict[int, Sample]:
    samples = {}
    for stride, table in read_oracle(folder).items():
        z = _counts(table, facts=facts)[None]
        if not np.array_equal(z[..., AREA].sum((0, 1)), truth):
            raise ValueError(
                f"{folder} was made from other labels than the runs beside it; delete it and run "
                "scripts/collect.py again"
            )
        samples[stride] = resample(z, seeds=[0], blocks=facts["blocks"])
    return samples


def size_bins(facts: dict[str, Any]) -> SizeBins:
    """The joint bins of a comparison."""
    metric = facts["metric"]
    return SizeBins(
        stride=metric["stride"], size_edges=metric["size_edges"], elongation=metric["elongation"]
    )


def _counts(table: pd.DataFrame, *, facts: dict[str, Any]) -> NDArray[np.int64]:
    """Counts [N, C, 6, 4] of one run."""
    return image_counts(
        table,
        images=facts["images"],
        num_classes=len(facts["data"]["classes"]),
        bins=size_bins(facts),
    )


def _support(table: pd.DataFrame, *, facts: dict[str, Any]) -> pd.DataFrame:
    truth = table[table["kind"] == "object"]
    joint = size_bins(facts).of(truth)
    rows = []
    for group, members in ALL_GROUPS.items():
        cell = truth[np.isin(joint, members)]
        counted = cell[cell["area"] >= facts["metric"]["min_area"]]
        for label, name in enumerate(facts["data"]["classes"]):
            objects = counted[counted["cls"] == label]
            rows.append(
                {
                    "class": name,
                    "group": group,
                    "objects": len(objects),
                    "images": objects["image"].nunique(),
                    "pixels": int(cell.loc[cell["cls"] == label, "area"].sum()),
                }
            )
    support = pd.DataFrame(rows)
    enough = (support["objects"] >= MIN_OBJECTS) & (support["images"] >= MIN_IMAGES)
    return support.assign(published=enough)


def _notes(by_head: dict[str, list[Cell]]) -> list[str]:
    seeds = {head: [result["seed"] for _, result in cells] for head, cells in by_head.items()}
    notes = []
    if len({tuple(values) for values in seeds.values()}) > 1:
        listed = "; ".join(f"{head}: {', '.join(map(str, s))}" for head, s in seeds.items())
        notes.append(f"Heads have different seeds ({listed}). Differences use the common seeds.")
    if single := [head for head, values in seeds.items() if len(values) == 1]:
        notes.append(
            f"One seed only: {', '.join(single)}. Such an interval leaves out the noise of "
            "training and is too narrow; it is no evidence for a head."
        )
    results = [result for cells in by_head.values() for _, result in cells]
    for key, what in (("training", "training budget"), ("environment", "environment")):
        if varying := _varying([result[key] for result in results]):
            notes.append(f"The {what} differs between runs: {', '.join(varying)}.")
    return notes


def _varying(records: list[dict[str, Any]]) -> list[str]:
    """Keys whose value is not the same in all records."""
    keys = dict.fromkeys(key for record in records for key in record)
    return [key for key in keys if any(r.get(key) != records[0].get(key) for r in records)]
