"""Add what a report needs from data and checkpoints: crops of objects won and lost.

Example: python scripts/collect.py runs/heads-scenes
"""

import argparse
import sys
from pathlib import Path

from segattn.analysis.crops import collect
from segattn.analysis.report import experiment_folders


def main() -> int:
    """Collect into every experiment folder, print it; 1 for a user error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder of one or more experiments")
    arguments = parser.parse_args()
    try:
        for folder in experiment_folders(arguments.runs) or [arguments.runs]:
            collect(folder)
            print(folder)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
