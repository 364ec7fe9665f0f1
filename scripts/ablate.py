"""Run an ablation grid and write its report: python scripts/ablate.py ablation=heads data=scenes.

Ablations stand in experiments/ablation/. Further Hydra overrides go to every cell; one with several
values, such as seed=0,1,2,3, becomes an axis. Start it again to go on where it stopped; cells that
failed are left alone then, unless --retry-failed asks for them.
"""

import argparse
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from segattn.analysis.crops import collect
from segattn.base.commandline import as_path, plain_errors
from segattn.grid import Cell, expand, run_grid
from segattn.grid.slurm import requests
from segattn.grid.slurm_options import read_options
from segattn.tracking.login import clear_variables

ROOT = Path(__file__).resolve().parents[1]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", metavar="ablation=NAME [key=value ...]")
    jobs = "cells at a time: one per GPU or core, or array_parallelism of the Slurm options"
    parser.add_argument("--jobs", type=int, help=jobs)
    parser.add_argument("--dry-run", action="store_true", help="print what would run and stop")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again too")
    parser.add_argument("--executor", choices=["local", "slurm"], default="local")
    parser.add_argument(
        "--slurm-options", type=as_path, metavar="FILE", help="experiments/slurm.yaml"
    )
    arguments = parser.parse_intermixed_args()  # options may stand between the words
    if arguments.slurm_options and arguments.executor != "slurm":
        parser.error("--slurm-options needs --executor slurm")
    return arguments


def slurm_options(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """None for the cells to run here."""
    if arguments.executor == "local":
        return None
    options = read_options(arguments.slurm_options or ROOT / "experiments" / "slurm.yaml")
    return options if arguments.jobs is None else options | {"array_parallelism": arguments.jobs}


def show(cells: list[Cell], slurm: dict[str, Any] | None) -> None:
    """What would be run, and what of Slurm would be asked for."""
    for cell in cells:
        print(shlex.join(["python", "scripts/train.py", *cell.overrides]))
    if slurm:
        for asked in requests(cells, slurm):
            print(f"\nan array of Slurm with\n{yaml.safe_dump(asked)}", end="")


def main() -> int:
    arguments = parse()
    for name in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal stops the cells in order too
        if signal.getsignal(name) is signal.SIG_DFL:  # else it was started with nohup
            signal.signal(name, signal.default_int_handler)
    clear_variables()  # the id that an agent of W&B gives is for one run, not for every cell
    with plain_errors():
        slurm = slurm_options(arguments)
        words = [*(slurm or {}).get("overrides", []), *arguments.overrides]
        cells = expand(words, folder=ROOT / "experiments", here=slurm is None)
        if arguments.dry_run:
            show(cells, slurm)
            return 0
        failed = run_grid(
            cells,
            script=ROOT / "scripts" / "train.py",
            jobs=slurm["array_parallelism"] if slurm else arguments.jobs,
            retry_failed=arguments.retry_failed,
            slurm=slurm,
        )
        write_reports(cells)
    for cell in failed:
        print(f"{cell.state} {cell.run.path}: {cell.error} (see {cell.run.log_path})")
    if failed and not arguments.retry_failed:
        print("the same command with --retry-failed runs these again")
    return 1 if failed else 0


def write_reports(cells: list[Cell]) -> None:
    """One report per experiment folder that has a finished run."""
    try:
        from segattn.analysis.report import write_report
    except ModuleNotFoundError as error:  # a machine that only trains
        print(f"no report: {error.name} is not installed; scripts/report.py writes it elsewhere")
        return
    for folder in dict.fromkeys(cell.run.path.parent for cell in cells):
        if any(cell.state == "done" for cell in cells if cell.run.path.parent == folder):
            collect(folder)
            for path in write_report(folder, folder / "report"):
                print(f"report: {path}")


if __name__ == "__main__":
    sys.exit(main())
