"""Run folders of one experiment, grouped into heads x seeds and checked to be comparable.

A head may come in variants: runs of it that differ in knobs, such as "fla" and
"fla published_batch_mixing=true". Each variant is compared like a head of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segattn.analysis.stats import HeadScores, resample
from segattn.base.errors import UserError
from segattn.base.runs import Run
from segattn.metrics import BINS, Measures, image_counts

HEADS = {
    "fcn": "no attention",
    "psp": "pyramid pooling",
    "aspp": "atrous pyramid pooling",
    "ccnet": "criss-cross attention",
    "channel_nl": "channel attention",
    "spatial_nl": "spatial attention",
    "danet": "dual attention",
    "cs_nl": "channel-then-spatial attention",
    "fla": "full attention",
}
"""Names of heads in sentences, in the order of tables and figures; other heads follow by name."""

SHARED = ("data", "split", "images", "blocks", "protocol", "metric")
"""Entries of result.json in which all runs of a comparison agree."""

CHOSEN = "Best epoch chosen on the test images"
"""Start of the note that names heads whose scores are too good for that reason."""

MIN_OBJECTS = 20
"""A class with fewer test objects in a bin of size is left out of the bin in every verdict."""

Cell = tuple[Run, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Finished runs on one data set.

    Attributes:
        scores: Scores of each head, in display order, as in result.json.
        results: Entries of result.json of each head's runs, in the order of the seeds.
        runs: Runs of each head, in the order of the seeds.
        facts: What all runs share, the entries of result.json named by `SHARED`.
        measures: What was scored.
        unfinished: Runs without a result.
        notes: What a reader has to know about how the runs differ, in words.
    """

    scores: dict[str, HeadScores]
    results: dict[str, list[dict[str, Any]]]
    runs: dict[str, list[Run]]
    facts: dict[str, Any]
    measures: Measures
    unfinished: list[Run]
    notes: list[str]

    @property
    def heads(self) -> list[str]:
        """Heads in display order."""
        return list(self.scores)

    @property
    def reference(self) -> str:
        """The head that others are compared with: fcn where there is one, else the first head."""
        return self.heads[0]

    @property
    def seeds(self) -> int:
        """Seeds of the head that has fewest."""
        return min(len(scores.seeds) for scores in self.scores.values())

    @property
    def steps(self) -> str:
        """The length of the trainings, such as "at 875 steps"; "" where none is known."""
        training = [r.get("training") or {} for rs in self.results.values() for r in rs]
        steps = [facts["steps"] for facts in training if "steps" in facts]
        ends = " to ".join(f"{n:,}" for n in sorted({min(steps), max(steps)})) if steps else ""
        return f"at {ends} steps" if ends else ""

    @cached_property
    def judged(self) -> "Comparison":
        """The same runs with size bins that leave out classes with too few test objects."""
        table = self.objects(self.reference)[0]
        table = table[~table["alarm"] & ~table["crowd"]]
        sizes = self.measures.size(table["area"])
        thin = self.measures.thin(table["area"], table["width"])
        kept, left_out = {}, []
        for bin_, names in self.measures.size_classes.items():
            inside = table["cls"][thin if bin_ == "thin" else sizes == BINS.index(bin_)]
            number = [int((inside == label).sum()) for label in self.measures.labels(names)]
            of_name = dict(zip(names, number, strict=True))
            kept[bin_] = [name for name in names if of_name[name] >= MIN_OBJECTS]
            few = [f"{name} ({n})" for name, n in of_name.items() if n < MIN_OBJECTS]
            left_out += [f"{bin_} {', '.join(few)}"] if few else []
        if not left_out:
            return self
        measures = replace(self.measures, size_classes={b: n for b, n in kept.items() if n})
        note = f"Left out, with fewer than {MIN_OBJECTS} test objects: {'; '.join(left_out)}."
        return replace(
            self, measures=measures, scores=self.rescore(measures), notes=[*self.notes, note]
        )

    def rescore(self, measures: Measures) -> dict[str, HeadScores]:
        """Scores by head under other rules, such as other edges of size, from the object tables.

        Args:
            measures: What to score, with the classes and the radius of the runs.
        """
        return {
            head: resample(
                _counts(self.objects(head), measures, self.facts),
                measures,
                seeds=self.scores[head].seeds,
                blocks=self.facts["blocks"],
            )
            for head in self.heads
        }

    def paired_runs(self, head: str) -> list[tuple[Run, Run]]:
        """The runs of a head and of the reference with the same seed, lowest seed first."""
        of_seed = dict(zip(self.scores[head].seeds, self.runs[head], strict=True))
        reference = zip(self.scores[self.reference].seeds, self.runs[self.reference], strict=True)
        return [(of_seed[seed], run) for seed, run in reference if seed in of_seed]

    def objects(self, head: str) -> list[pd.DataFrame]:
        """The object tables of a head's runs."""
        return [run.objects() for run in self.runs[head]]


def compare(runs: Sequence[Run]) -> Comparison:
    """Group the finished runs of one experiment into heads x seeds.

    Args:
        runs: Finished and unfinished runs, as `segattn.base.runs.load_runs` returns them.

    Raises:
        UserError: No run is finished; the runs differ in data, test images, metric or protocol; a
            head has two runs with one seed; the ground truth of two runs differs.
    """
    cells = [(run, result) for run in runs if (result := run.result) is not None]
    if not cells:
        raise UserError(
            f"none of {len(runs)} runs is finished, so there is nothing to compare. "
            "Run `make ablation`, or wait for it."
        )
    for key in SHARED:
        _check_shared(cells, key)
    by_head = _group(cells)
    stated: list[Any] = [[r[key] for _, r in cells if r[key] is not None] for key in SHARED]
    facts: dict[str, Any] = {
        key: values[0] if values else None for key, values in zip(SHARED, stated, strict=True)
    }
    measures = Measures(**facts["metric"])
    return Comparison(
        scores=_scores(by_head, measures, facts),
        results={head: [result for _, result in cells] for head, cells in by_head.items()},
        runs={head: [run for run, _ in cells] for head, cells in by_head.items()},
        facts=facts,
        measures=measures,
        unfinished=[run for run in runs if run.result is None],
        notes=_notes(by_head),
    )


def _check_shared(cells: list[Cell], key: str) -> None:
    # the protocol of predictions that others made is theirs: no entry
    known = [cell for cell in cells if cell[1][key] is not None]
    for run, result in known[1:]:
        first_run, first = known[0]
        if result[key] != first[key]:
            raise UserError(
                f"runs with different {key} cannot be compared: {first_run.path.name} and "
                f"{run.path.name}. Give a folder that holds one experiment."
            )


def _group(cells: list[Cell]) -> dict[str, list[Cell]]:
    by_head: dict[str, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: int(cell[1]["seed"])):
        by_head.setdefault(_label(cell[1]["head"], cells), []).append(cell)
    for head, of_head in by_head.items():
        for (run, result), (other, following) in pairwise(of_head):
            if result["seed"] == following["seed"]:
                raise UserError(
                    f"{run.path.name} and {other.path.name} are both head {head!r} with seed "
                    f"{result['seed']}; delete or move one of them"
                )
    return {head: by_head[head] for head in sorted(by_head, key=display_order)}


def _label(head: dict[str, Any], cells: list[Cell]) -> str:
    """The head's name, and its knobs that are not the same in all of its runs."""
    same = [result["head"] for _, result in cells if result["head"]["name"] == head["name"]]
    knobs = [f"{k}={str(head.get(k)).lower()}" for k in _varying(same) if head.get(k)]
    return " ".join([head["name"], *knobs])


def display_order(head: str) -> tuple[int, str]:
    """Sort key of heads in tables and figures."""
    name = base_name(head)
    return (list(HEADS).index(name) if name in HEADS else len(HEADS)), head


def base_name(head: str) -> str:
    """The name of a head without the knobs of its variant."""
    return head.split(" ")[0]


def _scores(
    by_head: dict[str, list[Cell]], measures: Measures, facts: dict[str, Any]
) -> dict[str, HeadScores]:
    scores, truth = {}, None
    for head, cells in by_head.items():
        counts = _counts([run.objects() for run, _ in cells], measures, facts)
        truth = counts[0, ..., 1] if truth is None else truth
        for (run, _), area in zip(cells, counts[..., 1], strict=True):
            if not np.array_equal(area, truth):
                raise UserError(
                    f"{run.path.name} was tested on other labels than the runs before it, though "
                    "the image names agree; evaluate all runs on the same version of the data"
                )
        seeds = [int(result["seed"]) for _, result in cells]
        scores[head] = resample(counts, measures, seeds=seeds, blocks=facts["blocks"])
    return scores


def _counts(
    tables: Sequence[pd.DataFrame], measures: Measures, facts: dict[str, Any]
) -> NDArray[np.int64]:
    """Counts [S, images, C, 5, 3] of the object tables of S runs."""
    return np.stack([image_counts(table, measures, images=facts["images"]) for table in tables])


def _notes(by_head: dict[str, list[Cell]]) -> list[str]:
    seeds = {head: [result["seed"] for _, result in cells] for head, cells in by_head.items()}
    notes = []
    if len({tuple(values) for values in seeds.values()}) > 1:
        listed = "; ".join(f"{head}: {', '.join(map(str, s))}" for head, s in seeds.items())
        notes.append(f"Heads have different seeds ({listed}). Differences use the common seeds.")
    first = next(iter(by_head))
    if base_name(first) != "fcn":
        notes.append(f"Without fcn, heads are compared with {first}.")
    chosen = [
        head
        for head, cells in by_head.items()
        if any((result.get("training") or {}).get("chosen_on_test") for _, result in cells)
    ]
    if chosen:
        notes.append(f"{CHOSEN}: {', '.join(chosen)}.")
    results = [result for cells in by_head.values() for _, result in cells]
    if others := sorted({r["head"]["name"] for r in results if r["protocol"] is None}):
        notes.append(f"Predictions of other code, by its own protocol: {', '.join(others)}.")
    results = [result for result in results if result["protocol"] is not None]
    for key in ("encoder", "training", "environment"):
        if varying := _varying([result.get(key) or {} for result in results]):
            notes.append(f"The {key} differs between runs: {', '.join(varying)}.")
    return notes


def _varying(records: list[dict[str, Any]]) -> list[str]:
    """Keys whose value is not the same in all records."""
    keys = dict.fromkeys(key for record in records for key in record)
    return [key for key in keys if any(r.get(key) != records[0].get(key) for r in records)]
