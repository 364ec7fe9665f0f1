"""Cells as processes of this machine: a number of slots, each with its share of cores and GPUs."""

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
from segattn.grid.cells import Cell
from segattn.grid.failures import describe_exit, failure
from segattn.grid.table import Show

_POLL_SECONDS = 0.5
_SIGNALLED = {code for s in (signal.SIGTERM, signal.SIGINT) for code in (-s, 128 + s)}
_STOP_SECONDS = 30  # for the step that is under way, and the workers of the loader


@dataclass
class _Process:
    cell: Cell
    slot: int
    popen: "subprocess.Popen[bytes]"
    log: IO[bytes]
    before: dict[str, Any]  # status of the run


def run_local(cells: Sequence[Cell], show: Show, *, script: Path, jobs: int) -> None:
    """Run cells, `jobs` at a time, until none is left; an interruption stops those that run.

    Args:
        cells: Those to run. One that another driver runs is waited for, and run if that fails to.
        show: Told of every change.
        script: scripts/train.py.
        jobs: Processes at a time.

    Raises:
        UserError: A cell wants more GPUs than there are.
    """
    queue, running = list(cells), list[_Process]()
    each = devices_of(cells)
    if torch.cuda.is_available() and each > len(visible_gpus()):
        raise UserError(f"trainer.devices={each}, but there are {len(visible_gpus())} GPUs here")
    try:
        while queue or running:
            free = [slot for slot in range(jobs) if slot not in {p.slot for p in running}]
            while free and (cell := take_free(queue, show)):
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


def take_free(queue: list[Cell], show: Show) -> Cell | None:
    """Take the first cell that nobody runs out of the queue, and those that another has ended."""
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


def devices_of(cells: Sequence[Cell]) -> int:
    """The most that a cell takes."""
    return max((cell.config["trainer"]["devices"] for cell in cells), default=1)


def _start(cell: Cell, script: Path, *, slot: int, jobs: int, each: int) -> _Process:
    cell.run.path.mkdir(parents=True, exist_ok=True)
    log = cell.run.log_path.open("ab")
    cell.state, cell.error = "running", ""
    before = cell.run.status
    cell.started, cell.first_epoch = time.time(), before.get("epoch", 0)
    popen = subprocess.Popen(
        [sys.executable, str(script), *cell.overrides],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            **_share(cell, slot=slot, jobs=jobs, each=each),
            "PYTHONUNBUFFERED": "1",
        },
        start_new_session=True,  # Ctrl-C is for the driver, which ends its cells in order
    )
    return _Process(cell, slot, popen, log, before)


def _share(cell: Cell, *, slot: int, jobs: int, each: int) -> dict[str, str]:
    """Environment that gives a slot its cores, and GPUs of its own as far as there are enough."""
    devices = cell.config["trainer"]["devices"]
    share = dict.fromkeys((CORES, "OMP_NUM_THREADS"), str(max(1, num_cores() // (jobs * devices))))
    if not torch.cuda.is_available():
        return share
    gpus = visible_gpus()
    mine = [gpus[(slot * each + offset) % len(gpus)] for offset in range(devices)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine), **share}


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _end(process: _Process) -> None:
    """Note how a process ended."""
    process.log.close()
    _kill_all(process)
    cell, code = process.cell, process.popen.returncode
    cell.look()
    if cell.state == "done":  # whatever happened after it
        cell.seconds = time.time() - cell.started
    elif code in _SIGNALLED or _says_interrupted(process):  # not by this driver
        cell.state, cell.error = "interrupted", "ended by a signal"
    elif cell.state != "elsewhere":
        cell.state = "failed"
        cell.error = failure(cell.run, describe_exit(code), before=process.before)


def _says_interrupted(process: _Process) -> bool:
    """Whether this attempt said so, as after SIGINT, whose exit code is that of any error."""
    status = process.cell.run.status
    return status["state"] == "interrupted" and status != process.before


def _kill_all(process: _Process) -> None:
    """A process, and what it has started, such as the processes of other devices."""
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
