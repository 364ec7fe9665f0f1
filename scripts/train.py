"""Train and test one run: python scripts/train.py head=fla data=scenes seed=0.

Every knob stands in experiments/; `--cfg job` prints the composed config. A finished run returns
at once, a cut-off one goes on from its last epoch.
"""

import hydra
from omegaconf import DictConfig

from segattn.commandline import plain_errors
from segattn.config import resolve_config
from segattn.train import train


@hydra.main(version_base="1.3", config_path="../experiments", config_name="train")
def main(composed: DictConfig) -> None:
    with plain_errors():
        run = train(resolve_config(composed))
    print(f"run folder: {run.path}")


if __name__ == "__main__":
    main()
