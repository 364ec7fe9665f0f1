"""The grid: an ablation's axes expanded into cells, one process per cell, here or under Slurm.

A cell is a run of scripts/train.py with its own folder, so one that fails, or is killed, cannot
harm another. What is done, failed or taken stands in the run folders alone: any number of drivers
may work on one grid, and a second start goes on where the first one stopped.
"""

from segattn.grid.cells import Cell, State, expand
from segattn.grid.drive import default_jobs, run_grid

__all__ = ["Cell", "State", "default_jobs", "expand", "run_grid"]
