"""Compare the finished runs of one or several experiments: tables, figures and report.html.

Example: python scripts/report.py runs/scenes_heads
"""

import argparse
import sys
from pathlib import Path

from segattn.analysis.report import write_report


def main() -> int:
    """Write the report, print its path last; 1 for a user error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with runs of one or more experiments")
    parser.add_argument("--out", type=Path, help="folder for the report (default: RUNS/report)")
    arguments = parser.parse_args()
    try:
        path = write_report(arguments.runs, arguments.out or arguments.runs / "report")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
