"""Working off a grid: what is to be run, the data it needs, and who runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from segattn.base.errors import UserError
from segattn.base.hardware import num_cores
from segattn.grid.cells import Cell
from segattn.grid.local import devices_of, run_local, visible_gpus
from segattn.grid.slurm import run_slurm
from segattn.grid.table import display
from segattn.training.build import build_data


def default_jobs(cells: Sequence[Cell]) -> int:
    """As many cells as there are GPUs for, or cores where there is no GPU."""
    there = len(visible_gpus()) if torch.cuda.is_available() else num_cores()
    return max(there // devices_of(cells), 1)


def run_grid(
    cells: Sequence[Cell],
    *,
    script: Path,
    jobs: int | None = None,
    retry_failed: bool = False,
    slurm: dict[str, Any] | None = None,
) -> list[Cell]:
    """Run every cell that is neither done nor failed, and show the state of all.

    Args:
        cells: From `expand`.
        script: scripts/train.py.
        jobs: Cells at a time, None for `default_jobs`; each gets its share of the cores, and GPUs
            of its own while there are enough.
        retry_failed: Run cells again that failed before; the others go on after an interruption
            without being asked.
        slurm: Options of `segattn.grid.slurm_options`, to run them as jobs of Slurm instead of
            here; `jobs` then is how many run at a time.

    Returns:
        The cells that failed, now or before, and those that somebody ended from outside.

    Raises:
        UserError: `jobs` is below 1, the data is missing or damaged, or Slurm refuses.
    """
    jobs = default_jobs(cells) if jobs is None else jobs
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    for cell in cells:
        cell.look()
    skipped = {"done"} if retry_failed else {"done", "failed"}
    todo = [cell for cell in cells if cell.state not in skipped]
    _prepare_data(todo)
    with display(cells, jobs=jobs) as show:
        if slurm is None:
            run_local(todo, show, script=script, jobs=jobs)
        else:
            options = slurm | {"array_parallelism": jobs}
            run_slurm(todo, show, script=script, options=options)
    return [cell for cell in cells if cell.state in ("failed", "interrupted")]


def _prepare_data(cells: Sequence[Cell]) -> None:
    """Find or draw the data once, before many processes want it."""
    prepared: list[dict[str, Any]] = []
    for cell in cells:
        if cell.config["data"] not in prepared:
            build_data(cell.config).prepare_data()
            prepared.append(cell.config["data"])
