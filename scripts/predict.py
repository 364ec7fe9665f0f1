"""Predict a folder of your own images: class indices, and pictures with the classes' colours.

    python scripts/predict.py checkpoint=RUN/checkpoints/last.ckpt images=FOLDER out=FOLDER
    python scripts/predict.py ... protocol=multiscale
    python scripts/predict.py ... protocol=sliding 'protocol.crop=[512,512]' protocol.flip=true
    python scripts/predict.py ... format=cityscapes

Writes out/labels/NAME.png (a pixel is the index of its class), out/overlays/NAME.jpg and
out/predictions.json, which says what the indices mean. Images of any size and of any format that
Pillow reads; each is predicted as it is stored, like the images of a data set, whatever its EXIF
orientation. The protocol is the checkpoint's own unless another is named (experiments/protocol/) or
single knobs are. format=cityscapes writes the files that the Cityscapes server and its evaluation
script take.
"""

import sys
from pathlib import Path

from segattn.base.commandline import parse_words, plain_errors, read_words
from segattn.config.compose import compose_part
from segattn.evaluation.predict import Outcome, predict_folder

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def main() -> int:
    words = parse_words(__doc__)
    with plain_errors():
        outcome = run(words)
    report(outcome)
    return 1 if outcome.problems else 0


def run(words: list[str]) -> Outcome:
    protocol = [word for word in words if word.startswith(("protocol=", "protocol."))]
    rest = [word for word in words if word not in protocol]
    given = read_words(rest, needed=("checkpoint", "images", "out"), optional=("format",))
    return predict_folder(
        Path(given["checkpoint"]),
        images=Path(given["images"]),
        out=Path(given["out"]),
        format=given.get("format", "png"),
        protocol=compose_part(protocol, folder=EXPERIMENTS).get("protocol"),
    )


def report(outcome: Outcome) -> None:
    if outcome.ignored:
        names = ", ".join(map(str, outcome.ignored[:3])) + ", ..." * (len(outcome.ignored) > 3)
        print(f"not images, left out: {len(outcome.ignored)} ({names})")
    if outcome.num_turned:
        print(
            f"{outcome.num_turned} of the images have an EXIF orientation and were predicted as "
            "stored, as data sets are; turn photographs upright first (mogrify "
            "-auto-orient) for a network that knows upright ones"
        )
    print(f"predicted {outcome.num_done} image{'s' * (outcome.num_done != 1)}")
    for problem in outcome.problems:
        print(f"failed: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
