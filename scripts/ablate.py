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

from segattn.analysis.report import write_report
from segattn.gallery import collect
from segattn.grid import Cell, default_jobs, expand, run_grid

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", metavar="ablation=NAME [key=value ...]")
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="cells at a time")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again too")
    arguments = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal stops the cells in order too
        if signal.getsignal(name) is signal.SIG_DFL:  # else it was started with nohup
            signal.signal(name, signal.default_int_handler)
    try:
        cells = expand(arguments.overrides, folder=ROOT / "experiments")
        if arguments.dry_run:
            for cell in cells:
                print(shlex.join(["python", "scripts/train.py", *cell.overrides]))
            return 0
        failed = run_grid(
            cells,
            script=ROOT / "scripts" / "train.py",
            jobs=arguments.jobs,
            retry_failed=arguments.retry_failed,
        )
        write_reports(cells)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")
    for cell in failed:
        print(f"failed {cell.run.path}: {cell.error} (see {cell.run.log_path})")
    if failed and not arguments.retry_failed:
        print("the same command with --retry-failed runs these again")
    return 1 if failed else 0


def write_reports(cells: list[Cell]) -> None:
    """One report per experiment folder that has a finished run."""
    for folder in dict.fromkeys(cell.run.path.parent for cell in cells):
        if any(cell.state == "done" for cell in cells if cell.run.path.parent == folder):
            collect(folder)
            print(f"report: {write_report(folder, folder / 'report')}")


if __name__ == "__main__":
    sys.exit(main())
