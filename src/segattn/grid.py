"""The grid: an ablation's axes expanded into cells, one subprocess per cell.

A cell is a run of scripts/train.py with its own folder, so one that fails, or is killed, cannot
harm another; a second start skips what is done and resumes what is not.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from segattn.config import compose_config, differences
from segattn.hardware import num_cores
from segattn.runs import Run
from segattn.train import build_data, run_folder

# what one report compares; each value of another axis has a report of its own
_COMPARED_AXES = ("head", "seed")
_NAMED_GROUPS = ("data", "encoder")  # config groups that can be told apart by a name
_POLL_SECONDS = 0.5
_STATE_STYLES = {"done": "green", "failed": "red", "running": "yellow", "pending": "dim"}


@dataclass
class Cell:
    """One run of the grid.

    Attributes:
        overrides: What scripts/train.py is called with.
        config: What they compose to.
        run: Its folder.
        state: pending, running, done or failed.
        error: Why it failed.
    """

    overrides: list[str]
    config: dict[str, Any]
    run: Run
    state: str = "pending"
    error: str = ""


def expand(overrides: Sequence[str], *, folder: Path) -> list[Cell]:
    """Cells of an ablation: the product of its axes.

    Heads, their knobs and seeds are compared within one experiment folder; each combination of
    other axes gets a folder, and so a report, of its own.

    Args:
        overrides: "ablation=NAME" for `folder`/ablation/NAME.yaml, and Hydra overrides for every
            cell; one with several values, such as "seed=0,1,2", replaces or adds an axis. A value
            may bring knobs along: "fla head.published_batch_mixing=true".
        folder: The config folder.

    Raises:
        ValueError: No such ablation, a config that does not compose, or a run folder that holds
            another experiment.
    """
    name, rest = _take_ablation(overrides)
    ablation = _load_ablation(name, folder=folder)
    axes = {key: [str(value) for value in values] for key, values in ablation["axes"].items()}
    fixed = [str(override) for override in ablation.get("overrides", [])]
    for override in rest:
        key, _, value = override.partition("=")
        if "," in value and value[0] not in "[{('\"":
            axes[key] = value.split(",")
        else:
            axes.pop(key, None)
            fixed.append(override)
    named = [o.split("=", 1)[1] for o in fixed if o.startswith("experiment=")]
    fixed = [override for override in fixed if not override.startswith("experiment=")]
    fixed.append(_experiment_override(named[-1] if named else name, axes, named=bool(named)))
    cells = [
        _make_cell([*fixed, *_cell_overrides(axes, values)], folder)
        for values in itertools.product(*axes.values())
    ]
    _check_cells(cells)
    return cells


def _take_ablation(overrides: Sequence[str]) -> tuple[str, list[str]]:
    names = [o.split("=", 1)[1] for o in overrides if o.startswith("ablation=")]
    if len(names) != 1:
        raise ValueError("name one ablation, e.g. ablation=heads; they stand in ablation/*.yaml")
    return names[0], [o for o in overrides if not o.startswith("ablation=")]


def _load_ablation(name: str, *, folder: Path) -> dict[str, Any]:
    path = folder / "ablation" / f"{name}.yaml"
    if not path.is_file():
        choices = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ValueError(f"unknown ablation {name!r}; choose one of {choices}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    unknown = set(content) - {"axes", "overrides"}
    if unknown or not content.get("axes"):
        raise ValueError(f"{path} must hold `axes`, and may hold `overrides`; got {set(content)}")
    return dict(content)


def _experiment_override(name: str, axes: Iterable[str], *, named: bool) -> str:
    """The experiment shows every axis that is not compared, so that no two cells share a folder."""
    shown = "" if named else "-${data.name}"
    for key in axes:
        if key in _COMPARED_AXES or key.startswith("head.") or (key == "data" and not named):
            continue
        if "." not in key and key not in _NAMED_GROUPS:
            raise ValueError(
                f"{key} cannot be an axis; head, seed, data, encoder and single knobs such as "
                f"optimizer.lr can"
            )
        value = f"{key}.name" if key in _NAMED_GROUPS else key
        shown += f"-{key.rsplit('.', 1)[-1]}_${{{value}}}"
    return f"experiment={name}{shown}"


def _cell_overrides(axes: Iterable[str], values: Sequence[str]) -> list[str]:
    """Overrides of one cell; the run's name shows the knobs in which its head differs."""
    chosen = [
        override
        for key, value in zip(axes, values, strict=True)
        for override in f"{key}={value}".split()
    ]
    knobs = [o.removeprefix("head.").replace("=", "_") for o in chosen if o.startswith("head.")]
    if not knobs:
        return chosen
    shown = "-".join(["${head.name}", *knobs, "${encoder.name}", "${data.name}", "s${seed}"])
    return [*chosen, f"name={shown}"]


def _make_cell(overrides: list[str], folder: Path) -> Cell:
    config = compose_config(overrides, folder=folder)
    return Cell(overrides, config, run_folder(config))


def _check_cells(cells: Sequence[Cell]) -> None:
    for cell in cells:
        if not cell.run.config_path.exists():
            continue
        changes = differences(cell.run.config, cell.config)
        if changes:
            raise ValueError(
                f"{cell.run.path} holds a run with another config:\n  "
                + "\n  ".join(changes)
                + "\nGive this grid a name of its own (experiment=NAME), or delete that folder."
            )


def default_jobs() -> int:
    """One cell per core on a CPU, one at a time on a GPU."""
    return 1 if torch.cuda.is_available() else num_cores()


def run_grid(cells: Sequence[Cell], *, script: Path, jobs: int) -> list[Cell]:
    """Run every cell that is not done, `jobs` at a time, and show the state of all.

    Args:
        cells: From `expand`.
        script: scripts/train.py.
        jobs: Processes at a time; each gets its share of the cores.

    Returns:
        The cells that failed.

    Raises:
        ValueError: `jobs` is below 1, or the data is missing or damaged.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    for cell in cells:
        if cell.run.result is not None:
            cell.state = "done"
    _prepare_data([cell for cell in cells if cell.state != "done"])
    console = Console()
    # a log file has no place for a table that redraws itself: it gets a line per change instead
    display = Live(_table(cells), console=console) if console.is_terminal else nullcontext()
    with display as live:

        def show(cell: Cell | None = None) -> None:
            if live is not None:
                live.update(_table(cells))
            elif cell is not None:
                _print_change(console, cell)

        _work_off(cells, show, script=script, jobs=jobs)
    return [cell for cell in cells if cell.state == "failed"]


def _work_off(
    cells: Sequence[Cell], show: Callable[[Cell | None], None], *, script: Path, jobs: int
) -> None:
    queue = [cell for cell in cells if cell.state != "done"]
    running: list[Started] = []
    threads = max(1, num_cores() // jobs)
    try:
        while queue or running:
            while queue and len(running) < jobs:
                running.append(_start(queue.pop(0), script, threads))
                show(running[-1][0])
            time.sleep(_POLL_SECONDS)
            for entry in [entry for entry in running if entry[1].poll() is not None]:
                running.remove(entry)
                _finish(*entry)
                show(entry[0])
            show(None)
    finally:  # Ctrl-C: the cells stop too, and the same command goes on later
        for _, process, log in running:
            process.terminate()
            process.wait()
            log.close()


def _prepare_data(cells: Sequence[Cell]) -> None:
    """Find or draw the data once, before many processes want it."""
    prepared: list[dict[str, Any]] = []
    for cell in cells:
        if cell.config["data"] not in prepared:
            build_data(cell.config).prepare_data()
            prepared.append(cell.config["data"])


Started = tuple[Cell, "subprocess.Popen[bytes]", IO[bytes]]


def _start(cell: Cell, script: Path, threads: int) -> Started:
    cell.run.path.mkdir(parents=True, exist_ok=True)
    cell.run.status_path.unlink(missing_ok=True)  # an earlier attempt's error is not this one's
    log = cell.run.log_path.open("ab")
    process = subprocess.Popen(
        [sys.executable, str(script), *cell.overrides],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"},
    )
    cell.state = "running"
    return cell, process, log


def _finish(cell: Cell, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    log.close()
    if process.returncode == 0 and cell.run.result is not None:
        cell.state = "done"
        return
    cell.state = "failed"
    # a killed process could not say why: its status still reads "running"
    told = cell.run.status.get("error") if cell.run.status["state"] == "failed" else None
    cell.error = told or f"exit code {process.returncode}"


def _print_change(console: Console, cell: Cell) -> None:
    detail = f": {cell.error} (see {cell.run.log_path})" if cell.error else ""
    console.print(
        f"[{time.strftime('%H:%M:%S')}] {cell.run.path.name} {cell.state}{detail}",
        markup=False,
        soft_wrap=True,
    )


def _table(cells: Sequence[Cell]) -> Table:
    done = sum(cell.state == "done" for cell in cells)
    table = Table(title=f"{done} of {len(cells)} cells done", title_justify="left")
    for heading in ("cell", "state", "epoch", "mIoU"):
        table.add_column(heading)
    for cell in cells:
        table.add_row(
            cell.run.path.name,
            f"[{_STATE_STYLES[cell.state]}]{cell.state}",
            *_progress(cell),
        )
    return table


def _progress(cell: Cell) -> tuple[str, str]:
    status = {} if cell.state == "pending" else cell.run.status
    epoch = f"{status['epoch']}/{status['max_epochs']}" if "max_epochs" in status else ""
    scores = status.get("score", {}).items()
    return epoch, "  ".join(f"{key.removesuffix('/miou')} {value:.3f}" for key, value in scores)
