"""The grid: an ablation's axes expanded into cells, one process per cell, here or under Slurm.

A cell is a run of scripts/train.py with its own folder, so a cell that fails or is killed cannot
harm another. The run folders alone record which cells are done, failed or taken, so any number of
drivers may work on one grid, and a second start resumes where the first one stopped.
"""

from segattn.grid.cells import Cell, State, expand
from segattn.grid.local import default_jobs, run_grid
from segattn.grid.slurm import run_slurm

__all__ = ["Cell", "State", "default_jobs", "expand", "run_grid", "run_slurm"]
