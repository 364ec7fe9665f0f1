"""Check a data set before training on it: python scripts/check_data.py data=camvid data.root=...

Reads every image and label. Prints what the splits hold, names every file that is missing,
damaged or wrong, draws eight images with their labels, and ends with a verdict; the exit code is 0
if it is OK, 1 if there are problems. data.KNOB=VALUE sets a knob of experiments/data/NAME.yaml.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from segattn.base.commandline import as_path, plain_errors
from segattn.base.errors import UserError
from segattn.base.hardware import num_cores
from segattn.config.compose import compose_part
from segattn.data.check import check
from segattn.data.check_shown import show, write_picture
from segattn.data.draft import write_classes

FOLDER = Path(__file__).resolve().parents[1] / "experiments"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", metavar="data=NAME [data.KNOB=VALUE ...]")
    parser.add_argument("--jobs", type=int, default=num_cores(), help="reading processes")
    parser.add_argument(
        "--picture", type=as_path, default="runs/check_data.png", help="the images and labels"
    )
    parser.add_argument(
        "--write-classes", action="store_true", help="draft classes.yaml of own data, and stop"
    )
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs must be 1 or more, got {arguments.jobs}")
    with plain_errors():
        data = compose_data(arguments.overrides)
        name = data.pop("name")
        if arguments.write_classes:
            print(
                f"drafted {write_classes(name, data)}; edit it, then check again without the option"
            )
            return 0
        found = check(name, data, jobs=arguments.jobs)
        console = Console(width=None if sys.stdout.isatty() else 100)
        if found.splits and write_picture(found.splits[0].source, arguments.picture):
            print(f"{found.splits[0].title}: images and labels in {arguments.picture}")
        show(found, console)
    return 1 if found.problems else 0


def compose_data(overrides: list[str]) -> dict[str, Any]:
    """The data section alone: other sections need no values for a check."""
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("data=")]
    knobs = [o for o in overrides if not o.startswith("data=")]
    if len(chosen) != 1:
        raise UserError(f"name one data set, e.g. data=camvid; got {len(chosen)}")
    if others := [knob for knob in knobs if not knob.lstrip("+").startswith("data.")]:
        raise UserError(f"only data=NAME and data.KNOB=VALUE have an effect here; drop {others}")
    return dict(compose_part(overrides, folder=FOLDER)["data"])


if __name__ == "__main__":
    sys.exit(main())
