"""Test a checkpoint again: python scripts/evaluate.py checkpoint=RUN/checkpoints/last.ckpt.

    python scripts/evaluate.py checkpoint=... protocol=multiscale
    python scripts/evaluate.py checkpoint=... data=cityscapes data.root=PATH out=FOLDER

Leaves result.json and the object table as the end of training does, in a run folder of its own
below `out`, so that scripts/report.py compares what was evaluated alike.
"""

import sys
from pathlib import Path

from segattn.commandline import plain_errors, read_words
from segattn.distributed import is_main
from segattn.evaluate import evaluate

ROOT = Path(__file__).resolve().parents[1]
OWN = ("checkpoint=", "out=")


def main() -> None:
    words = sys.argv[1:]
    with plain_errors():
        own = [word for word in words if word.startswith(OWN)]
        given = read_words(own, needed=("checkpoint",), optional=("out",))
        run = evaluate(
            Path(given["checkpoint"]),
            [word for word in words if not word.startswith(OWN)],
            folder=ROOT / "experiments",
            out=Path(given["out"]) if "out" in given else None,
        )
    if is_main():
        print(f"run folder: {run.path}")


if __name__ == "__main__":
    main()
