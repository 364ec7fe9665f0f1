"""Print the commands of a W&B sweep and check that each composes; needs no login.

Example: python scripts/sweep.py experiments/sweep/heads.yaml

Then `wandb sweep FILE` makes the sweep, and prints the `wandb agent` command that works it off.
"""

import argparse
import shlex
from pathlib import Path

from segattn.base.commandline import as_path, plain_errors
from segattn.grid.sweep import expand_sweep

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print one command per line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=as_path, help="of experiments/sweep")
    arguments = parser.parse_args()
    with plain_errors():
        for command in expand_sweep(arguments.file, folder=ROOT / "experiments"):
            print(shlex.join(command))


if __name__ == "__main__":
    main()
