"""Run cells as processes of this machine, each with its share of cores and GPUs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from segattn.base.errors import UserError
from segattn.base.hardware import CORES, num_cores
from segattn.grid.cells import Cell, select
from segattn.grid.failures import failure
from segattn.grid.table import Show, display

_POLL_SECONDS = 0.5
_SIGNALLED = {code for s in (signal.SIGTERM, signal.SIGINT) for code in (-s, 128 + s)}
_STOP_SECONDS = 30  # for the step that is under way, and the workers of the loader


@dataclass
class _Process:
    cell: Cell
    slot: int
    popen: "subprocess.Popen[bytes]"
    log: IO[bytes]
    before: dict[str, Any]  # status of the run before this attempt


def run_grid(
    cells: Sequence[Cell], *, script: Path, jobs: int | None = None, retry_failed: bool = False
) -> None:
    """Run every cell that is neither done nor failed, `jobs` at a time (`default_jobs`).

    Afterwards the state of each cell says how it ended. An interruption stops the cells that run.

    Raises:
        UserError: `jobs` is below 1, data is missing or damaged, or there are too few GPUs.
    """
    jobs = default_jobs(cells) if jobs is None else jobs
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    for cell in cells:
        cell.look()
    todo = select(cells, {"pending", "interrupted", "elsewhere"}, retry_failed=retry_failed)
    with display(cells) as show:
        _run(todo, show, script=script, jobs=jobs)
    for cell in cells:
        if cell.state == "done":  # a result may have been deleted since
            cell.look()


def default_jobs(cells: Sequence[Cell]) -> int:
    """Return how many cells there are GPUs for, or cores on a machine without a GPU."""
    there = len(_visible_gpus()) if torch.cuda.is_available() else num_cores()
    return max(there // _most_devices(cells), 1)


def _run(cells: Sequence[Cell], show: Show, *, script: Path, jobs: int) -> None:
    queue, running = list(cells), list[_Process]()
    each = _most_devices(cells)
    if torch.cuda.is_available() and each > len(_visible_gpus()):
        raise UserError(f"trainer.devices={each}, but there are {len(_visible_gpus())} GPUs here")
    try:
        while queue or running:
            free = [slot for slot in range(jobs) if slot not in {p.slot for p in running}]
            while free and (cell := _take_free(queue, show)):
                running.append(_start(cell, script, slot=free.pop(0), jobs=jobs, each=each))
                show(cell)
            time.sleep(_POLL_SECONDS)
            for process in [p for p in running if p.popen.poll() is not None]:
                running.remove(process)
                _end(process)
                if process.cell.state == "elsewhere":
                    queue.append(process.cell)
                show(process.cell)
            show(None)
    finally:
        _stop(running)
        show(None)


def _take_free(queue: list[Cell], show: Show) -> Cell | None:
    """Remove and return the first cell to run; cells of other drivers wait in the queue.

    A cell that another driver has finished, or that failed there, is removed and not returned.
    """
    for cell in list(queue):
        before = cell.state
        cell.look()
        if cell.state == "elsewhere":
            if before != "elsewhere":
                show(cell)
            continue
        queue.remove(cell)
        failed_there = cell.state == "failed" != before
        if cell.state != "done" and not failed_there:
            return cell
        show(cell)
    return None


def _most_devices(cells: Sequence[Cell]) -> int:
    return max((cell.config["trainer"]["devices"] for cell in cells), default=1)


def _start(cell: Cell, script: Path, *, slot: int, jobs: int, each: int) -> _Process:
    cell.run.path.mkdir(parents=True, exist_ok=True)
    log = cell.run.log_path.open("ab")
    cell.state, cell.error = "running", ""
    before = cell.run.status
    share = _share(cell, slot=slot, jobs=jobs, each=each)
    popen = subprocess.Popen(
        [sys.executable, str(script), *cell.overrides],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **share, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # Ctrl-C reaches the driver alone, which then stops its cells
    )
    return _Process(cell, slot, popen, log, before)


def _share(cell: Cell, *, slot: int, jobs: int, each: int) -> dict[str, str]:
    """Return the variables that give a slot its cores, and GPUs of its own if there are enough."""
    devices = cell.config["trainer"]["devices"]
    share = dict.fromkeys((CORES, "OMP_NUM_THREADS"), str(max(1, num_cores() // (jobs * devices))))
    if not torch.cuda.is_available():
        return share
    gpus = _visible_gpus()
    mine = [gpus[(slot * each + offset) % len(gpus)] for offset in range(devices)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine), **share}


def _visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, by the names in CUDA_VISIBLE_DEVICES."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _end(process: _Process) -> None:
    """Set the state of a cell whose process has ended."""
    process.log.close()
    _kill_all(process)
    cell, code, before = process.cell, process.popen.returncode, process.before
    cell.look()
    if cell.state in ("done", "elsewhere") or cell.run.result_path.exists():
        return
    status = cell.run.status
    # after SIGINT the exit code is the same as after any error
    interrupted = status["state"] == "interrupted" and status != before
    if code in _SIGNALLED or interrupted:
        cell.state, cell.error = "interrupted", "ended by a signal"
    else:
        cell.state, cell.error = "failed", failure(cell.run, code, before=before)


def _kill_all(process: _Process) -> None:
    """Kill what the process of a cell has left, such as the processes of other devices."""
    with suppress(ProcessLookupError):
        os.killpg(process.popen.pid, signal.SIGKILL)


def _stop(running: Sequence[_Process]) -> None:
    for process in running:
        process.popen.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(max(deadline - time.monotonic(), 0))
        _kill_all(process)
        process.popen.wait()
        process.log.close()
        process.cell.look()
