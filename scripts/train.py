"""Train and test one run: python scripts/train.py head=fla data=scenes seed=0.

Every knob stands in experiments/; `--cfg job` prints the composed config. A finished run returns
at once, a cut-off one goes on from its last epoch.
"""

import sys
import traceback
from pathlib import Path

import hydra
from omegaconf import DictConfig

import segattn
from segattn.config import resolve_config
from segattn.train import train


@hydra.main(version_base="1.3", config_path="../experiments", config_name="train")
def main(composed: DictConfig) -> None:
    try:
        run = train(resolve_config(composed))
    except ValueError as error:
        if not raised_here(error):
            raise
        sys.exit(f"error: {error}")
    print(f"run folder: {run.path}")


def raised_here(error: ValueError) -> bool:
    """Whether segattn itself raised it: then its message says all that a user needs to know."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(Path(segattn.__file__).parent)


if __name__ == "__main__":
    main()
