"""Add what a report needs from data and checkpoints: crops of objects won and lost.

Example: python scripts/collect.py runs/heads-scenes
"""

import argparse

from segattn.analysis.crops import collect
from segattn.analysis.report import experiment_folders
from segattn.base.commandline import as_path, plain_errors


def main() -> None:
    """Collect into every experiment folder, print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=as_path, help="folder of one or more experiments")
    arguments = parser.parse_args()
    with plain_errors():
        for folder in experiment_folders(arguments.runs) or [arguments.runs]:
            collect(folder)
            print(folder)


if __name__ == "__main__":
    main()
