"""Test a checkpoint again, or score predictions that any other code has made.

    python scripts/evaluate.py checkpoint=RUN/checkpoints/last.ckpt protocol=multiscale
    python scripts/evaluate.py checkpoint=... data=cityscapes data.root=PATH out=FOLDER
    python scripts/evaluate.py predictions=FOLDER data=ade20k data.root=PATH out=runs/NAME

Leaves result.json and the object table as the end of training does, in a run folder of its own
below `out`, so that scripts/report.py compares what was evaluated alike. Predictions are PNG label
maps named after their images, with the numbers of the data set's own label files; values=classes
says that they are indices from 0. name= and seed= say what reports call them.
"""

from pathlib import Path

from segattn.base.commandline import parse_words, plain_errors, read_words
from segattn.base.distributed import is_main
from segattn.base.errors import UserError
from segattn.base.runs import Run
from segattn.evaluation.evaluate import evaluate
from segattn.evaluation.score import score_predictions

ROOT = Path(__file__).resolve().parents[1]
OWN = ("checkpoint=", "out=")
OF_PREDICTIONS = ("predictions", "out", "name", "seed", "values")


def score(words: list[str]) -> Run:
    own = [word for word in words if word.partition("=")[0] in OF_PREDICTIONS]
    given = read_words(own, needed=("predictions", "out"), optional=OF_PREDICTIONS[2:])
    seed = given.get("seed", "0")
    if not seed.isdecimal():
        raise UserError(f"seed must be a whole number, got {seed!r}")
    return score_predictions(
        Path(given["predictions"]),
        [word for word in words if word not in own],
        folder=ROOT / "experiments",
        out=Path(given["out"]),
        name=given.get("name"),
        seed=int(seed),
        values=given.get("values", "official"),
    )


def evaluate_again(words: list[str]) -> Run:
    own = [word for word in words if word.startswith(OWN)]
    given = read_words(own, needed=("checkpoint",), optional=("out",))
    return evaluate(
        Path(given["checkpoint"]),
        [word for word in words if not word.startswith(OWN)],
        folder=ROOT / "experiments",
        out=Path(given["out"]) if "out" in given else None,
    )


def main() -> None:
    words = parse_words(__doc__)
    with plain_errors():
        given = any(word.startswith("predictions=") for word in words)
        run = score(words) if given else evaluate_again(words)
    if is_main():
        print(f"run folder: {run.path}")


if __name__ == "__main__":
    main()
