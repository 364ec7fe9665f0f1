"""Publish finished run folders to W&B: one run each, and a comparison of each experiment.

Example: python scripts/publish.py runs/heads-scenes

Start it again at any time: a run that W&B has with the same result stays as it is, any other one is
replaced as a whole.
"""

import argparse

from segattn.analysis.publish import MODES, publish
from segattn.base.commandline import as_path, plain_errors


def main() -> None:
    """Publish, a line per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=as_path, help="folder with runs of one or more experiments")
    parser.add_argument("--project", help="default: logger.project of each run's config")
    parser.add_argument("--entity", help="user or team (default: your login's)")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="online",
        help="offline: write files for `wandb sync`; auto: offline where nobody is logged in",
    )
    parser.add_argument(
        "--no-media",
        action="store_true",
        help="numbers alone; pictures hold images of the data set, which its licence must allow",
    )
    arguments = parser.parse_args()
    with plain_errors():
        publish(
            arguments.runs,
            project=arguments.project,
            entity=arguments.entity,
            mode=arguments.mode,
            media=not arguments.no_media,
        )


if __name__ == "__main__":
    main()
