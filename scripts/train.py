"""Train and test one run: python scripts/train.py head=fla data=scenes seed=0.

Every knob stands in experiments/; `--cfg job` prints the composed config. A finished run returns
at once, a cut-off one goes on from its last epoch.
"""

import sys

import hydra
from omegaconf import DictConfig

from segattn.config import resolve_config
from segattn.train import train


@hydra.main(version_base="1.3", config_path="../experiments", config_name="train")
def main(composed: DictConfig) -> None:
    try:
        run = train(resolve_config(composed))
    except ValueError as error:  # a user's mistake: the message says it all
        sys.exit(f"error: {error}")
    print(f"run folder: {run.path}")


if __name__ == "__main__":
    main()
