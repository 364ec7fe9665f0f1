"""The run folder: the truth of one run. W&B, reports and notebooks are views of it.

config.yaml      the resolved config, written once
data.json        fingerprints of the data that the run began with
status.json      state (running | interrupted | failed | done), progress, error
lock             held by the process that works on the run (segattn.base.lock)
slurm.json       name and id of the last Slurm job of the run (segattn.grid.slurm)
metrics.jsonl    one line per logged step or epoch
result.json      final scores, cost and environment; its presence means "done"
objects.parquet  one row per object of the test split (segattn.metrics.table)
examples.npz     a few test images with labels and predictions
attention.npz    the attention on them (segattn.models.attention_maps); heads with attention only
checkpoints/     last.ckpt, and with callbacks.best best.ckpt
log.txt          what the run printed when the grid started it
"""

import json
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError, one_line
from segattn.base.files import atomic_path, walk
from segattn.metrics.table import read_table

RESULT_SCHEMA = 3
CROPS_FILE = "crops.npz"
LEGEND = "predictions.json"  # what the values of predicted label maps mean


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` atomically; NaN is written as null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(nan_to_none(content), indent=2, allow_nan=False) + "\n")


def nan_to_none(value: Any) -> Any:
    """`value` with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


class _File:
    """A file of a run folder, by the name of an attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: "Run", owner: type) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class Run:
    """One run folder; files are read when asked for.

    Raises:
        UserError: A file is missing or damaged; the message names the file.
    """

    path: Path

    config_path = _File("config.yaml")
    data_path = _File("data.json")
    status_path = _File("status.json")
    lock_path = _File("lock")
    slurm_path = _File("slurm.json")
    metrics_path = _File("metrics.jsonl")
    result_path = _File("result.json")
    objects_path = _File("objects.parquet")
    examples_path = _File("examples.npz")
    attention_path = _File("attention.npz")
    checkpoint_path = _File("checkpoints/last.ckpt")
    best_path = _File("checkpoints/best.ckpt")
    log_path = _File("log.txt")

    @property
    def tested_checkpoint(self) -> Path:
        """The checkpoint whose weights result.json scores.

        best.ckpt with callbacks.best, else last.ckpt.
        """
        best = (self.config.get("callbacks") or {}).get("best")
        return self.best_path if best else self.checkpoint_path

    @property
    def written(self) -> tuple[Path, ...]:
        """What the process that holds the lock writes."""
        evidence = (self.objects_path, self.examples_path, self.attention_path)
        facts = (self.config_path, self.data_path, self.status_path, self.result_path)
        return (*facts, *evidence, self.checkpoint_path)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values."""
        try:
            return _a_dict(yaml.safe_load(_read_text(self.config_path)), self.config_path)
        except yaml.YAMLError as error:
            raise UserError(f"{self.config_path} is not valid YAML ({one_line(error)})") from error

    @property
    def status(self) -> dict[str, Any]:
        """`state` is pending, running, interrupted, failed or done, as the run last said.

        A killed run keeps the state "running"; `segattn.base.lock.is_held` shows whether it runs.
        """
        if not self.status_path.exists():
            return {"state": "pending"}
        return read_json(self.status_path)

    @property
    def result(self) -> dict[str, Any] | None:
        """The final result, None while unfinished."""
        if not self.result_path.exists():
            return None
        result = read_json(self.result_path)
        if result.get("schema") != RESULT_SCHEMA:
            raise UserError(
                f"{self.result_path} has schema {result.get('schema')!r}, this version of segattn "
                f"reads {RESULT_SCHEMA}: scores by object size are defined anew (fixed classes, "
                "thin without rounding). Run it again, or read it with the version that wrote it."
            )
        return result

    def metrics(self) -> pd.DataFrame:
        """Logged values as a frame, one row per (epoch, step).

        A resumed run logs the interrupted epoch again; the later row counts.
        """
        if not self.metrics_path.exists():
            return pd.DataFrame(columns=["epoch", "step"])
        lines = _read_text(self.metrics_path).splitlines()
        rows = [row for row in map(_parse_line, lines) if row]
        frame = pd.DataFrame(rows).apply(pd.to_numeric)  # a column of nulls is not numeric
        if frame.empty:
            return pd.DataFrame(columns=["epoch", "step"])
        # last() skips NaN column by column, so train and val rows of one step become one row
        return frame.groupby(["epoch", "step"], as_index=False).last()

    def objects(self) -> pd.DataFrame:
        """The object table of the test split."""
        try:
            return read_table(self.objects_path)
        except FileNotFoundError as error:
            raise UserError(f"{self.objects_path} is missing; run this cell again") from error
        except ValueError as error:  # the room of the metrics has no errors of a user's
            raise UserError(str(error)) from error

    def examples(self) -> dict[str, np.ndarray]:
        """Images uint8 [K, H, W, 3], labels and predictions uint8 [K, H, W], names [K]."""
        return _read_arrays(self.examples_path)

    def attention(self) -> dict[str, np.ndarray]:
        """Attention maps of the examples; see `segattn.models.attention_maps` for the keys."""
        return _read_arrays(self.attention_path)


def load_runs(folder: Path, *, heads: Collection[str] | None = None) -> list[Run]:
    """Return every run folder at or below `folder`, sorted by path.

    Args:
        folder: Folder with run folders.
        heads: Names of the heads to keep, such as ("danet", "fla"); None keeps all.

    Raises:
        UserError: `folder` does not exist, or has no run of a head of `heads`.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder of runs: {folder}. Start one with `make ablation`.")
    runs = [Run(path) for path in sorted(_run_folders(folder))]
    if heads is None:
        return runs
    names = [run.config["head"]["name"] for run in runs]
    for head in heads:
        check_choice(f"head of the runs in {folder}", head, set(names))
    return [run for run, name in zip(runs, names, strict=True) if name in heads]


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders with a config.yaml, behind links too; not those inside: W&B keeps one of its own."""
    for path, folders, files in walk(folder):
        if "config.yaml" in files:
            folders.clear()
            yield path


def read_crops(folder: Path) -> dict[str, np.ndarray]:
    """The crops that `segattn.analysis.crops` left in an experiment's folder; {} without any."""
    path = folder / CROPS_FILE
    return _read_arrays(path) if path.exists() else {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:
            return dict(archive)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The names and values of a JSON file.

    Raises:
        UserError: It cannot be read, or holds something else.
    """
    try:
        return _a_dict(json.loads(_read_text(path)), path)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}); delete it and run again") from error


def _a_dict(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no names and values; delete it and run again")
    return content


def _parse_line(line: str) -> dict[str, Any]:
    # a killed process can leave half a line; the resumed run logs that row again
    try:
        return dict(json.loads(line))
    except json.JSONDecodeError:
        return {}
