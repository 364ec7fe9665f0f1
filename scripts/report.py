"""Compare the finished runs of one or several experiments: tables, figures and report.html.

Example: python scripts/report.py runs/heads-scenes
"""

import argparse
from pathlib import Path

from segattn.analysis.report import write_report
from segattn.commandline import plain_errors


def main() -> None:
    """Write the report, print its path last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with runs of one or more experiments")
    parser.add_argument("--out", type=Path, help="folder for the report (default: RUNS/report)")
    arguments = parser.parse_args()
    with plain_errors():
        path = write_report(arguments.runs, arguments.out or arguments.runs / "report")
    print(path)


if __name__ == "__main__":
    main()
