"""Compare the finished runs of one or several experiments: the answer here, and report.html.

Example: python scripts/report.py runs/heads-scenes
For results/ it also fills the numbers of README.md and docs/ anew.
"""

import argparse

import readme

from segattn.analysis.report import write_report
from segattn.base.commandline import as_path, plain_errors


def main() -> None:
    """Write the reports, print their paths last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=as_path, help="folder with runs of one or more experiments")
    parser.add_argument("--out", type=as_path, help="folder for the report (default: RUNS/report)")
    arguments = parser.parse_args()
    with plain_errors():
        if arguments.runs.resolve() == readme.ROOT / "results":
            readme.main()
        paths = write_report(arguments.runs, arguments.out or arguments.runs / "report")
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
