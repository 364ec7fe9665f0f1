"""Submit cells to Slurm, one array for all that need the same, and read their state later."""

import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from segattn.base.errors import UserError
from segattn.base.files import read_yaml
from segattn.base.lock import hold
from segattn.base.runs import read_json, write_json
from segattn.grid.cells import Cell, select
from segattn.training.train import claim

# in every other state of squeue a job runs or will run
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
}
_NUMBERS = {"timeout_min": 1, "max_num_timeout": 0, "array_parallelism": 1}  # and their least value


def read_options(path: Path) -> dict[str, Any]:
    """Return the options of a file such as experiments/slurm.yaml, without null options.

    Raises:
        UserError: The file does not exist, or a required option is missing or wrong. submitit
            checks the others when cells are submitted.
    """
    content = read_yaml(path) if path.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("overrides") or [], list):
        raise UserError(f"{path} must be a file of Slurm options, in which overrides are a list")
    for name, least in _NUMBERS.items():
        value = content.get(name)
        if type(value) is not int or value < least:
            raise UserError(f"{path}: {name} must be a whole number from {least}, got {value!r}")
    return {name: value for name, value in content.items() if value is not None}


def run_slurm(
    cells: Sequence[Cell],
    *,
    script: Path,
    options: Mapping[str, Any],
    retry_failed: bool = False,
) -> list[str]:
    """Submit the cells that have neither a result nor a job, and set the state of all.

    Returns the ids of the new jobs. `script` is the path of scripts/train.py on all nodes.

    Raises:
        UserError: Slurm does not answer or refuses a job, data is missing or damaged, or a run
            folder holds another config. The next call submits what is left.
    """
    with hold(_folder(cells) / "lock", seconds=60):  # a second driver would submit the same cells
        _look(cells)
        todo = select(cells, {"pending", "interrupted"}, retry_failed=retry_failed)
        arrays = requests(todo, options)
        for cell in todo:
            claim(cell.run, cell.config)
        limit = options["max_num_timeout"]
        return [_submit(group, asked, script, limit=limit) for group, asked in arrays]


def requests(
    cells: Sequence[Cell], options: Mapping[str, Any]
) -> list[tuple[list[Cell], dict[str, Any]]]:
    """Return the cells of each array, and what it asks of Slurm by submitit's names.

    Raises:
        UserError: The config of a cell leaves open what the cell needs.
    """

    def needs(cell: Cell) -> tuple[Any, ...]:
        trainer = cell.config["trainer"]
        if "auto" in (trainer["accelerator"], trainer["precision"]):
            raise UserError(
                "`auto` depends on the node, so for Slurm set trainer.accelerator=gpu or cpu and "
                "trainer.precision=bf16 or fp32, here or in `overrides` of the Slurm options"
            )
        return (trainer["accelerator"], trainer["num_nodes"], trainer["devices"])

    groups = [list(group) for _, group in groupby(sorted(cells, key=needs), key=needs)]
    return [(group, _request(group[0].config["trainer"], options)) for group in groups]


def _request(trainer: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, and what follows from the config where they say nothing else."""
    asked = {k: v for k, v in options.items() if k not in ("overrides", "max_num_timeout")}
    asked["srun_args"] = [*asked.get("srun_args", []), "--kill-on-bad-exit=1"]
    if "cpus_per_task" in asked:  # srun does not take it from sbatch
        asked["srun_args"].append(f"--cpus-per-task={asked['cpus_per_task']}")
    asked["additional_parameters"] = {"requeue": True, **asked.get("additional_parameters", {})}
    follows = {"nodes": trainer["num_nodes"], "tasks_per_node": trainer["devices"]}
    if trainer["accelerator"] == "gpu" and "gres" not in asked:
        follows["gpus_per_node"] = trainer["devices"]
    return {**follows, "stderr_to_stdout": True, **asked}


def _folder(cells: Sequence[Cell]) -> Path:
    """Return the folder of submitit's files; no experiment can have its name."""
    return Path(cells[0].config["runs_dir"]) / ".slurm"


def _look(cells: Sequence[Cell]) -> None:
    """Set the state of all cells from Slurm's queue and the run folders.

    A cell whose job has left the queue without a result is failed, whatever ended the job.
    """
    queue = _read_queue()  # before the folders, since a job may end in between
    for cell in cells:
        cell.look()
        path = cell.run.slurm_path
        known = read_json(path) if path.exists() else {}
        state = queue.get((known.get("name"), known.get("task")), "COMPLETED")
        if cell.state == "done":
            continue
        if state not in _ENDED:
            cell.state = "running" if state in ("RUNNING", "COMPLETING") else "queued"
            cell.error = ""
        elif "job" in known and cell.state in ("pending", "interrupted"):
            log = _folder(cells) / f"{known['job']}_0_log.out"
            cell.state = "failed"
            cell.error = f"Slurm job {known['job']} ended without a result; its log is {log}"


def _read_queue() -> dict[tuple[Any, Any], str]:
    """Return the state of each job of this user by its name and its index in the array.

    The id of a job would not do, since Slurm gives it to another job one day.
    """
    words = ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T %j"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
        return {(name, int(job.partition("_")[2] or 0)): state for job, state, name in rows}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise UserError(
            f"Slurm does not answer ({said}), so nothing was submitted. Try again, on a login node "
            "of the cluster; --executor local runs the grid on this machine"
        ) from error


def _submit(group: Sequence[Cell], asked: dict[str, Any], script: Path, *, limit: int) -> str:
    """Submit one array and return its id.

    slurm.json has the name of the job before Slurm has the job. So a job that Slurm accepts while
    sbatch fails, or this process is killed, is found in the queue by the next driver.
    """
    try:
        import submitit

        from segattn.grid.slurm_job import CellJob
    except ImportError as error:
        install = 'pip install -c constraints.txt -e ".[slurm]"'
        raise UserError(f"--executor slurm needs submitit; install it with {install}") from error
    asked["name"] = f"{asked.get('name', 'segattn')}-{uuid.uuid4().hex[:8]}"
    entries = [{"name": asked["name"], "task": task} for task in range(len(group))]
    calls = [CellJob([sys.executable, str(script), *c.overrides], c.run) for c in group]
    again = {"slurm_max_num_timeout": limit}
    try:
        executor = submitit.AutoExecutor(_folder(group), cluster="slurm", **again)
        executor.update_parameters(**{f"slurm_{key}": value for key, value in asked.items()})
        for cell, entry in zip(group, entries, strict=True):
            write_json(cell.run.slurm_path, entry)
        jobs = executor.submit_array(calls)
    except (RuntimeError, NameError) as error:
        raise UserError(f"Slurm refuses the jobs: {error}; see the Slurm options") from error
    for cell, entry, job in zip(group, entries, jobs, strict=True):
        write_json(cell.run.slurm_path, {**entry, "job": job.job_id})
        cell.state, cell.error = "queued", ""
    return str(jobs[0].job_id).partition("_")[0]
