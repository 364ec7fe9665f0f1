"""Cells as jobs of a Slurm cluster: one array for all that need the same, and following them."""

import itertools
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segattn.base.errors import UserError
from segattn.base.runs import read_json, write_json
from segattn.grid.cells import Cell, State
from segattn.grid.failures import failure
from segattn.grid.local import take_free
from segattn.grid.slurm_job import CellJob
from segattn.grid.slurm_options import check_slurm, import_submitit
from segattn.grid.table import Show

_POLL_SECONDS = 3
_RUNNING = ("RUNNING", "COMPLETING")
_ENDED = {
    "": "is no longer in the queue",
    "CANCELLED": "was cancelled",
    "COMPLETED": "ended without a result",
    "DEADLINE": "met its deadline",
    "BOOT_FAIL": "found no node that starts",
    "FAILED": "failed",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "ran out of memory; raise mem_gb",
    "PREEMPTED": "was pre-empted, and this cluster does not requeue",
    "TIMEOUT": "ran out of time before it could be requeued; raise timeout_min or signal_delay_s",
}


@dataclass
class _Job:
    """`id` as squeue has it, such as 12_3."""

    cell: Cell
    id: str
    seen_ended: bool = False
    before: dict[str, Any] = field(init=False)  # status of the run

    def __post_init__(self) -> None:
        self.before = self.cell.run.status


def run_slurm(cells: Sequence[Cell], show: Show, *, script: Path, options: dict[str, Any]) -> None:
    """Submit cells and follow them until all have ended; an interruption leaves them in the queue.

    Args:
        cells: Those to run. One whose job is in the queue already is followed; one that another
            driver runs is waited for, and submitted if that fails to.
        show: Told of every change.
        script: scripts/train.py, by its path on all nodes.
        options: From `read_options`.

    Raises:
        KeyboardInterrupt: The message says what becomes of the jobs.
        UserError: Slurm is not there, does not answer or refuses a job, or a cell leaves open
            what it needs.
    """
    check_slurm()
    waiting, jobs = list(cells), list[_Job]()
    jobs += _join(waiting, _read_queue())
    try:
        while waiting or jobs:
            free = list(iter(lambda: take_free(waiting, show), None))
            for group in _groups(free):
                jobs += _submit(group, script, options)
            for cell in free:
                show(cell)
            time.sleep(_POLL_SECONDS)
            for job in _follow(jobs, show):
                jobs.remove(job)
                if job.cell.state == "elsewhere":
                    waiting.append(job.cell)
            show(None)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(_farewell(jobs)) from error


def requests(cells: Sequence[Cell], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What would be asked of Slurm for each array of cells, by submitit's names.

    Raises:
        UserError: A cell leaves open what it needs.
    """
    return [_request(group, options) for group in _groups(cells)]


def _read_queue() -> dict[str, str]:
    """State by id of all jobs of this user, those that ended minutes ago included."""
    words = ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"Slurm does not answer: {done.stderr.strip()}")
    return dict(line.split() for line in done.stdout.splitlines())


def _join(waiting: list[Cell], states: Mapping[str, str]) -> list[_Job]:
    """Take the cells whose job is in the queue out of `waiting`."""
    jobs = []
    for cell in list(waiting):
        path = cell.run.slurm_path
        known = read_json(path) if path.exists() else {}
        if states.get(known.get("job", ""), "") not in _ENDED:
            waiting.remove(cell)
            jobs.append(_Job(cell, known["job"]))
    return jobs


def _groups(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Cells that need the same, since an array has one request."""

    def needs(cell: Cell) -> tuple[Any, ...]:
        trainer = cell.config["trainer"]
        if "auto" in (trainer["accelerator"], trainer["precision"]):
            raise UserError(
                "what `auto` stands for depends on the node, so for Slurm say trainer.accelerator="
                "gpu or cpu and trainer.precision=bf16 or fp32, here or in the options' `overrides`"
            )
        return (trainer["accelerator"], trainer["num_nodes"], trainer["devices"])

    for _, group in itertools.groupby(sorted(cells, key=needs), key=needs):
        yield list(group)


def _request(group: Sequence[Cell], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the array of one group."""
    asked = {k: v for k, v in options.items() if k not in ("overrides", "max_num_timeout")}
    trainer = group[0].config["trainer"]
    asked["srun_args"] = [*asked.get("srun_args", []), "--kill-on-bad-exit=1"]
    if "cpus_per_task" in asked:  # srun does not take it from sbatch
        asked["srun_args"].append(f"--cpus-per-task={asked['cpus_per_task']}")
    if trainer["accelerator"] == "gpu" and "gres" not in asked:
        asked["gpus_per_node"] = trainer["devices"]
    asked["additional_parameters"] = {"requeue": True, **asked.get("additional_parameters", {})}
    asked |= {"nodes": trainer["num_nodes"], "tasks_per_node": trainer["devices"]}
    return asked | {"stderr_to_stdout": True}


def _folder(cell: Cell) -> Path:
    """Of what submitit writes; no experiment can have this name."""
    return Path(cell.config["runs_dir"]) / ".slurm"


def _submit(group: Sequence[Cell], script: Path, options: Mapping[str, Any]) -> list[_Job]:
    submitit = import_submitit()
    for cell in group:
        cell.run.path.mkdir(parents=True, exist_ok=True)
    commands = [[sys.executable, str(script), *cell.overrides] for cell in group]
    calls = [CellJob(words, cell.run) for words, cell in zip(commands, group, strict=True)]
    again = {"slurm_max_num_timeout": options["max_num_timeout"]}
    executor = submitit.AutoExecutor(_folder(group[0]), cluster="slurm", **again)
    asked = {f"slurm_{name}": value for name, value in _request(group, options).items()}
    try:
        executor.update_parameters(**asked)
        submitted = executor.submit_array(calls)
    except (submitit.core.utils.FailedJobError, NameError) as error:
        raise UserError(f"Slurm refuses the jobs: {error}; see the Slurm options") from error
    jobs = []
    for cell, job in zip(group, submitted, strict=True):
        write_json(cell.run.slurm_path, {"job": job.job_id})
        cell.state, cell.error = "queued", ""
        jobs.append(_Job(cell, job.job_id))
    return jobs


def _follow(jobs: Sequence[_Job], show: Show) -> list[_Job]:
    """Bring the cells up to date; the jobs that have ended."""
    try:
        states = _read_queue()
    except ValueError:  # as while its controller is restarted
        return []
    ended = []
    for job in jobs:
        before, state = job.cell.state, states.get(job.id, "")
        if state in _ENDED and (job.seen_ended or job.cell.run.result is not None):
            _end(job, state)
            ended.append(job)
        elif state in _ENDED:
            job.seen_ended = True  # a shared disk may take a moment to show the result
        else:
            _note_progress(job, "running" if state in _RUNNING else "queued")
        if job.cell.state != before:
            show(job.cell)
    return ended


def _note_progress(job: _Job, state: State) -> None:
    cell = job.cell
    if state == "running" != cell.state:
        cell.started, cell.first_epoch = time.time(), cell.run.status.get("epoch", 0)
    cell.state, cell.error, job.seen_ended = state, "", False


def _end(job: _Job, state: str) -> None:
    cell = job.cell
    cell.look()
    if cell.state == "done":
        cell.seconds = time.time() - cell.started if cell.started else 0
    elif cell.state != "elsewhere":
        cell.state = "failed"
        cell.error = failure(cell.run, _describe(job, state), before=job.before)


def _describe(job: _Job, state: str) -> str:
    """What Slurm says of a job that left no result, or submitit where it caught an error."""
    folder = _folder(job.cell)
    said = f"Slurm job {job.id} {_ENDED[state]}"
    for path in sorted(folder.glob(f"{job.id}_*_result.pkl")):
        outcome, trace = pickle.loads(path.read_bytes())  # our own job wrote it
        if outcome == "error":
            return f"{said}: {trace.strip().splitlines()[-1]}"
    return f"{said}; its own log is {folder / f'{job.id}_0_log.out'}"


def _farewell(jobs: Sequence[_Job]) -> str:
    ids = " ".join(dict.fromkeys(job.id.split("_")[0] for job in jobs))
    if not ids:
        return ""
    return f"the jobs stay with Slurm: the same command follows them again, scancel {ids} ends them"
