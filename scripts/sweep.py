"""Print the commands of a W&B sweep and check that each composes; needs no login.

Example: python scripts/sweep.py experiments/sweep/heads.yaml

Then `wandb sweep FILE` makes the sweep, and prints the `wandb agent` command that works it off.
"""

import argparse
import shlex
import sys
from pathlib import Path

from segattn.sweep import expand_sweep

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Print one command per line; 1 for a user error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="of experiments/sweep")
    arguments = parser.parse_args()
    try:
        for command in expand_sweep(arguments.file, folder=ROOT / "experiments"):
            print(shlex.join(command))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
