"""What object records and comparisons of runs cost, and how that grows with the test set.

Seconds are the processor's, so that other programs of the machine do not count.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from segattn.analysis import compare
from segattn.analysis.report import write_report
from segattn.analysis.stats import resample
from segattn.benchmark.measure import processor_seconds, spread
from segattn.benchmark.metric import Row, one_thread
from segattn.hardware import process_peak_memory
from segattn.metrics import SizeBins, image_counts, read_table, write_table
from segattn.runs import Run, load_runs, write_json

FACTORS = (1, 4, 16)  # how often the images of a run are repeated
COMPARED = {
    ("fcn", "spatial_nl"): FACTORS,
    ("fcn", "channel_nl", "spatial_nl", "danet", "cs_nl", "fla"): FACTORS[:2],
}
_REPORTED = 2  # factors of each comparison
_SMALL_FILES = ("config.yaml", "status.json", "metrics.jsonl", "examples.npz")


def table_cost(
    runs: Iterable[Run], factors: Iterable[int] = FACTORS, *, seconds: float
) -> Iterator[Row]:
    """Cost of an object table, as it is and repeated: write, read, and sum up to counts per image.

    Args:
        runs: Finished runs.
        factors: How often the images of the run are repeated, under other names.
        seconds: Wall-clock time for each table.

    Yields:
        run, images, records, stage, seconds (median), fastest, slowest, rounds, file_bytes,
        memory_bytes (as pandas); for bytes a record only factor 1 counts, repeated rows compress.
    """
    for run in runs:
        for factor in factors:
            with TemporaryDirectory() as folder, one_thread():
                path = Path(folder) / "objects.parquet"
                frame, result = enlarged(run, factor)
                write_table(frame, path)
                times = processor_seconds(_table_calls(frame, result, path), seconds=seconds)
                size = path.stat().st_size
            known = {
                "run": f"{result['experiment']}/{run.path.name}",
                "images": len(result["images"]),
                "records": len(frame),
                "file_bytes": size,
                "memory_bytes": int(frame.memory_usage(deep=True).sum()),
            }
            for stage, taken in times.items():
                yield known | {"stage": stage} | spread(taken)


def _table_calls(
    frame: pd.DataFrame, result: Mapping[str, Any], path: Path
) -> dict[str, Callable[[], object]]:
    images, num_classes = result["images"], len(result["data"]["classes"])
    bins = SizeBins()
    return {
        "write": lambda: write_table(frame, path),
        "read": lambda: read_table(path),
        "counts per image": lambda: image_counts(
            frame, images=images, num_classes=num_classes, bins=bins
        ),
    }


def enlarged(run: Run, factor: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The object table and the result of a run with its test images `factor` times.

    The first time they keep their names; images that depend on each other still do.
    """
    frame, result = run.objects(), run.result
    assert result is not None
    endings = ["", *(f"~{copy}" for copy in range(1, factor))]
    frames = [frame.assign(image=frame["image"] + ending) for ending in endings]
    blocks = np.asarray(result["blocks"])
    shift = int(blocks.max()) + 1
    larger = {
        "images": [name + ending for ending in endings for name in result["images"]],
        "blocks": [int(b) for copy in range(factor) for b in blocks + copy * shift],
    }
    return pd.concat(frames, ignore_index=True), {**result, **larger}


def comparison_cost(
    folder: Path,
    compared: Mapping[tuple[str, ...], Sequence[int]] = COMPARED,
    *,
    rounds: int = 3,
) -> Iterator[Row]:
    """Cost of comparing runs, of the bootstrap in it, and of the report at the first factors.

    Each in a process of its own, since the peak of a process never falls.

    Args:
        folder: Finished runs of one experiment.
        compared: Heads of each comparison, and how often the images of their runs are repeated.
        rounds: Of compare and bootstrap; the report is made once.

    Yields:
        runs, images, records (of all runs), stage, seconds (median), fastest, slowest, rounds,
        memory_bytes (peak of the process beyond what it held before).
    """
    for heads, factors in compared.items():
        for factor in factors:
            with TemporaryDirectory() as copy:
                known = _copy(load_runs(folder, heads=heads), Path(copy) / "runs", factor=factor)
                jobs = [("compare", rounds), ("bootstrap of a run", rounds)]
                if factor in factors[:_REPORTED]:
                    jobs.append(("report", 1))
                for stage, number in jobs:
                    yield known | {"stage": stage} | _alone(stage, Path(copy), number)


def _copy(runs: Sequence[Run], folder: Path, *, factor: int) -> Row:
    """Enlarged copies of the runs."""
    records = images = 0
    for run in runs:
        frame, result = enlarged(run, factor)
        copy = Run(folder / run.path.name)
        copy.path.mkdir(parents=True)
        for name in _SMALL_FILES:
            if (run.path / name).exists():
                (copy.path / name).write_bytes((run.path / name).read_bytes())
        write_json(copy.result_path, result)
        write_table(frame, copy.objects_path)
        records, images = records + len(frame), len(result["images"])
    return {"runs": len(runs), "images": images, "records": records}


def _alone(stage: str, folder: Path, rounds: int) -> Row:
    os.environ["OMP_NUM_THREADS"] = "1"  # a thread that waits would count as work
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, stage, folder, rounds).result()


def _measure(stage: str, folder: Path, rounds: int) -> Row:
    runs = folder / "runs"
    calls: dict[str, Callable[[], object]] = {
        "compare": lambda: compare(load_runs(runs)),
        "report": lambda: write_report(runs, folder / "report"),
    }
    if stage == "bootstrap of a run":
        facts = json.loads(next(runs.glob("*/result.json")).read_text(encoding="utf-8"))
        shape = (1, len(facts["images"]), len(facts["data"]["classes"]), SizeBins().num_bins, 4)
        z = np.random.default_rng(0).integers(0, 1000, shape)
        calls[stage] = lambda: resample(z, seeds=[0], blocks=facts["blocks"])
    before = process_peak_memory(torch.device("cpu"))
    taken = []
    for _ in range(rounds):
        start = _with_children()
        calls[stage]()
        taken.append(_with_children() - start)
    return spread(taken) | {"memory_bytes": process_peak_memory(torch.device("cpu")) - before}


def _with_children() -> float:
    """Processor seconds of this process and of those that it has waited for, such as a kernel."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system
