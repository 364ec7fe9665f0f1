"""What a comparison says in sentences: findings, how it was made, limits, runs left out."""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd

import segattn
from segattn.analysis import tables
from segattn.analysis.comparison import MIN_IMAGES, MIN_OBJECTS, Comparison
from segattn.runs import Run

SWITCHED_OFF = 1.0
"""Percent: a block whose attention adds less than that to its input does as good as nothing."""


def subject(comparison: Comparison) -> str:
    """What is compared, in one sentence."""
    facts = comparison.facts
    seeds = {len(sample.seeds) for sample in comparison.samples.values()}
    return (
        f"{facts['data']['title']}: {len(comparison.heads)} heads, "
        f"{' to '.join(str(n) for n in sorted({min(seeds), max(seeds)}))} "
        f"seed{'s' * (seeds != {1})} each, tested on "
        f"{len(facts['images'])} images."
    )


def source(folder: Path) -> str:
    """Which folder the runs come from, in one sentence."""
    return f"The runs are those of {_shown(folder)}."


def _shown(folder: Path) -> Path:
    """Relative to the checkout, from which scripts run, or to the working directory."""
    for base in (Path(segattn.__file__).resolve().parents[2], Path.cwd()):
        if folder.resolve().is_relative_to(base):
            return folder.resolve().relative_to(base)
    return folder


def findings(comparison: Comparison) -> list[str]:
    """One sentence per measure: which heads are better, worse or not separated."""
    frame = tables.differences(comparison)
    if frame.empty:
        return [f"Only one head ({comparison.heads[0]}) is finished: nothing to compare."]
    return [
        *(
            f"{name} against {reference}: {_by_reading(rows)}."
            for (name, reference), rows in frame.groupby(["measure", "reference"], sort=False)
        ),
        *switched_off(comparison),
    ]


def switched_off(comparison: Comparison) -> list[str]:
    """One sentence per head with a block whose attention has nothing left to say."""
    frame = tables.block_shares(comparison)
    off = frame[frame["share"] < SWITCHED_OFF]
    return [
        f"Training has switched off attention of {head}: "
        + ", ".join(f"{b} adds {s:.1f}%" for b, s in zip(rows["block"], rows["share"], strict=True))
        + " to its input (norms, mean over the test images)."
        for head, rows in off.groupby("head", sort=False)
    ]


def _by_reading(rows: pd.DataFrame) -> str:
    parts = []
    for reading, group in rows.groupby("reading", sort=True):
        separated = str(reading).startswith(("better", "worse"))
        heads = [
            _difference(str(head), value, separated=separated)
            for head, value in zip(group["head"], group["value"], strict=True)
        ]
        parts.append(f"{reading}: {', '.join(heads)}" + " points" * separated)
    return "; ".join(parts)


def _difference(head: str, value: float, *, separated: bool) -> str:
    """A head with its difference, whose sign the word before it may already say."""
    if pd.isna(value):
        return head
    return f"{head} by {abs(value):.2f}" if separated else f"{head} ({value:+z.2f})"


def provenance(comparison: Comparison, *, folder: Path) -> list[str]:
    """How the comparison was made, from the run folders alone."""
    facts = comparison.facts
    results = [run.result or {} for runs in comparison.runs.values() for run in runs]
    training, environment = ([result[key] for result in results] for key in _RECORDS)
    metric = facts["metric"]
    seeds = sorted({seed for sample in comparison.samples.values() for seed in sample.seeds})
    return [
        f"Experiment {facts['experiment']}: {len(results)} finished runs in {folder.name}, "
        f"{len(comparison.heads)} heads, seeds {', '.join(map(str, seeds))}.",
        f"Data: {facts['data']['title']}, {len(facts['images'])} images of the {facts['split']} "
        f"split, {len(comparison.classes)} classes, evaluated by {_plain(facts['protocol'])}.",
        f"Encoder: {_listed([facts['encoder']])}.",
        f"Training: {_listed(training)}.",
        f"Machine: {_listed(environment)}.",
        f"Objects: size is sqrt(area) / {metric['stride']} px, small below "
        f"{metric['size_edges'][0]:g}, large from {metric['size_edges'][1]:g}; thin from "
        f"elongation {metric['elongation']:g}; false positives go to the nearest object within "
        f"{metric['radius']:g} px, else to the size of the predicted region; objects below "
        f"{metric['min_area']} px are not counted as objects.",
        "Intervals: 95%, from the variance over seeds and over resampled test images; p-values "
        "are two-sided and not adjusted for the number of rows.",
        f"Made by: python scripts/report.py {shlex.quote(str(_shown(folder)))}",
    ]


_RECORDS = ("training", "environment")


def caveats(comparison: Comparison) -> list[str]:
    """What the numbers do not say."""
    lines = [
        *comparison.notes,
        "Compare heads within a size bin. Bins are not comparable with each other: one pixel of "
        "border costs a small object far more than a large one.",
        f"A class enters a bin mean with at least {MIN_OBJECTS} objects in at least {MIN_IMAGES} "
        "images; the class set of a bin is the same for all heads.",
        '"Not separated" means that these runs do not tell the heads apart. It does not mean that '
        "the heads are equal.",
        "With many rows some separate by chance: about one in twenty where no difference exists.",
        "images/s and memory are those of the grid's processes, beside whatever else the machine "
        "did, and memory on a CPU is that of the whole process. Compare the speed and memory of "
        "heads with scripts/benchmark.py.",
        _independence(comparison),
    ]
    if comparison.facts["data"]["name"] == "scenes":
        lines.append(
            "Synthetic scenes test the mechanism of a head. They do not test what was claimed for "
            "Cityscapes or any other real data set."
        )
    return lines


def _independence(comparison: Comparison) -> str:
    images, blocks = len(comparison.facts["images"]), len(set(comparison.facts["blocks"]))
    if blocks == images:
        return "Images are taken as independent."
    return (
        f"The {images} test images are frames of a few videos. They are resampled in {blocks} "
        "blocks of neighbouring frames; what other videos would show, no interval says."
    )


def unfinished(comparison: Comparison) -> list[str]:
    """One line per run without a result: name, state and error."""
    return [_unfinished(run) for run in comparison.unfinished]


def _unfinished(run: Run) -> str:
    status = run.status
    error = status.get("error")
    return f"{run.path.name}: {status['state']}" + (f" ({error})" if error else "")


def _listed(records: list[dict[str, Any]]) -> str:
    """`key value, key value`; a key with several values over the records shows them all."""
    return ", ".join(
        f"{key.replace('_', ' ')} "
        + " / ".join(dict.fromkeys(_plain(record.get(key, "unknown")) for record in records))
        for key in records[0]
    )


def _plain(value: object) -> str:
    """A setting as text; a nested one as `key value` pairs."""
    if isinstance(value, dict):
        return " ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return "none" if value is None else str(value)
