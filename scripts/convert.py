"""Make a run folder of published weights, for evaluate.py, predict.py and export.py.

    python scripts/convert.py published=danet_resnet101 weights=FILE recipe=danet_cityscapes ...

`published` names a model in segattn.models.published. The other words are as for
scripts/train.py: which model of ours the weights belong to, and with data.root where a test finds
the data.
"""

from pathlib import Path

from segattn.base.commandline import parse_words, plain_errors, read_words
from segattn.config.compose import compose_config
from segattn.evaluation.published_run import import_published

ROOT = Path(__file__).resolve().parents[1]
OWN = ("published=", "weights=")
NAME = "name=${head.name}-${encoder.name}-${data.name}"


def main() -> None:
    words = parse_words(__doc__)
    with plain_errors():
        given = read_words([w for w in words if w.startswith(OWN)], needed=("published", "weights"))
        overrides = ["experiment=published", NAME, *(w for w in words if not w.startswith(OWN))]
        config = compose_config(overrides, folder=ROOT / "experiments")
        run = import_published(given["published"], Path(given["weights"]), config)
    print(f"checkpoint: {run.checkpoint_path}")


if __name__ == "__main__":
    main()
