"""scripts/train.py that halts within an epoch, so that a test can interrupt it there.

`halts` in runs_dir has the epoch for each start, such as "2 4": the third start runs to its end.
"""

import runpy
import sys
import time
from pathlib import Path

from tiny import EXPERIMENTS

from segattn.training.callbacks import StepSeed

runs_dir = Path(next(word.split("=")[1] for word in sys.argv if word.startswith("runs_dir=")))
starts = runs_dir / "starts"
attempt = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (attempt + 1))
halts = [*map(int, (runs_dir / "halts").read_text().split()), -1]
seed_step = StepSeed.on_train_batch_start


def seed_step_or_halt(self, trainer, pl_module, batch, batch_idx):
    seed_step(self, trainer, pl_module, batch, batch_idx)
    if (trainer.current_epoch, batch_idx) == (halts[attempt], 1):
        (runs_dir / f"halted-{attempt}").touch()
        while True:  # SIGTERM ends it
            time.sleep(0.1)


StepSeed.on_train_batch_start = seed_step_or_halt
runpy.run_path(str(EXPERIMENTS.parent / "scripts/train.py"), run_name="__main__")
