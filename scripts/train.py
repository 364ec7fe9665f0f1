"""Train and test one run: python scripts/train.py head=fla data=scenes seed=0.

Every knob stands in experiments/; `--cfg` prints the composed config. A finished run returns at
once, a cut-off one goes on from its last epoch.
"""

import argparse
from pathlib import Path

import yaml

from segattn.base.commandline import plain_errors
from segattn.base.distributed import is_main
from segattn.config.compose import compose_config
from segattn.training.train import train

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--cfg", action="store_true", help="print the config and stop")
    arguments = parser.parse_args()
    # composed without Hydra's own main(), which would run code that a config names
    with plain_errors():
        config = compose_config(arguments.overrides, folder=ROOT / "experiments")
        if arguments.cfg:
            print(yaml.safe_dump(config, sort_keys=False), end="")
            return
        run = train(config)
    if is_main() and run.path.exists():  # trainer.fast_dev_run leaves none
        print(f"run folder: {run.path}")


if __name__ == "__main__":
    main()
