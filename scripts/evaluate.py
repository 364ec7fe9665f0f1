"""Test a checkpoint again: python scripts/evaluate.py checkpoint=RUN/checkpoints/last.ckpt.

    python scripts/evaluate.py checkpoint=... protocol=multiscale
    python scripts/evaluate.py checkpoint=... data=cityscapes data.root=PATH out=FOLDER

Leaves result.json and the object table as the end of training does, in a run folder of its own
below `out`, so that scripts/report.py compares what was evaluated alike.
"""

import sys
from pathlib import Path

from segattn.evaluate import evaluate

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    given = dict(a.split("=", 1) for a in sys.argv[1:] if a.startswith(("checkpoint=", "out=")))
    overrides = [a for a in sys.argv[1:] if not a.startswith(("checkpoint=", "out="))]
    if "checkpoint" not in given:
        sys.exit(__doc__)
    try:
        run = evaluate(
            Path(given["checkpoint"]),
            overrides,
            folder=ROOT / "experiments",
            out=Path(given["out"]) if "out" in given else None,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"run folder: {run.path}")


if __name__ == "__main__":
    main()
