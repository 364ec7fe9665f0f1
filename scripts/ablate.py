"""Run an ablation grid and write its report: python scripts/ablate.py ablation=heads data=scenes.

Ablations stand in experiments/ablation/. Further Hydra overrides go to every cell; one with several
values, such as seed=0,1,2,3, becomes an axis. The same command resumes where it stopped; cells that
failed are left alone then, unless --retry-failed asks for them.

Under --executor slurm it submits the cells that have neither a result nor a job, shows the state of
all, and ends. The same command, later, shows the state and writes the report once no job is left.

Exit code: 0 if all cells are done, or with Slurm if the others are in the queue; 1 if a cell is
missing, failed or interrupted; 2 for a wrong option.
"""

import argparse
import shlex
import signal
import sys
from pathlib import Path

import yaml
from rich.console import Console

from segattn.analysis.crops import collect
from segattn.base.commandline import as_path, plain_errors
from segattn.grid import Cell, expand, run_grid, run_slurm
from segattn.grid.slurm import read_options, requests
from segattn.grid.table import table
from segattn.tracking.login import clear_variables

ROOT = Path(__file__).resolve().parents[1]
_LEFT_TO_SLURM = ("queued", "running", "elsewhere")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", metavar="ablation=NAME [key=value ...]")
    parser.add_argument("--jobs", type=int, help="cells at a time: one per GPU or core")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and stop")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again too")
    parser.add_argument("--executor", choices=["local", "slurm"], default="local")
    parser.add_argument(
        "--slurm-options", type=as_path, metavar="FILE", help="experiments/slurm.yaml"
    )
    arguments = parser.parse_intermixed_args()  # options may stand between the words
    slurm = arguments.executor == "slurm"
    if arguments.slurm_options and not slurm:
        parser.error("--slurm-options needs --executor slurm")
    if arguments.jobs is not None and slurm:
        parser.error("--jobs is for --executor local; the Slurm options have array_parallelism")
    return arguments


def main() -> int:
    arguments = parse()
    for name in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal stops the cells in order too
        if signal.getsignal(name) is signal.SIG_DFL:  # else it was started with nohup
            signal.signal(name, signal.default_int_handler)
    clear_variables()  # the id that an agent of W&B gives is for one run, not for every cell
    script, slurm = ROOT / "scripts" / "train.py", None
    with plain_errors():
        if arguments.executor == "slurm":
            slurm = read_options(arguments.slurm_options or ROOT / "experiments" / "slurm.yaml")
        words = [*(slurm or {}).get("overrides", []), *arguments.overrides]
        cells = expand(words, folder=ROOT / "experiments", here=slurm is None)
        if arguments.dry_run:
            for cell in cells:
                print(shlex.join(["python", "scripts/train.py", *cell.overrides]))
            for _, asked in requests(cells, slurm) if slurm else []:
                print(f"\nan array of Slurm with\n{yaml.safe_dump(asked)}", end="")
            return 0
        again = {"script": script, "retry_failed": arguments.retry_failed}
        if slurm:
            submitted, left = run_slurm(cells, options=slurm, **again), _LEFT_TO_SLURM
            Console().print(table(cells))
        else:
            submitted, left = [], ()
            run_grid(cells, jobs=arguments.jobs, **again)
        if any(cell.state in left for cell in cells):
            print("the same command, later, shows the state, and writes the report after all jobs")
        else:
            write_reports(cells)
    if submitted:
        print(f"new jobs of Slurm, which scancel ends: {' '.join(submitted)}")
    missing = [cell for cell in cells if cell.state not in ("done", *left)]
    for cell in missing:
        print(f"{cell.state} {cell.run.path}: {cell.error} (see {cell.run.log_path})")
    if any(cell.state == "failed" for cell in missing) and not arguments.retry_failed:
        print("the same command with --retry-failed runs failed cells again")
    return 1 if missing else 0


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
