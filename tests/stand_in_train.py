"""Stands for scripts/train.py in tests of the grid: leaves what that leaves, in no time.

It loads no torch, holds the run's lock, as training does, and notes each piece of work in work.txt
beside the run folders. Files in runs_dir steer it: `schema` (of a result), `seconds` (of a cell, in
tenths that look like epochs), and `fault-HEAD-SEED` or `fault-any` ("error", "SIGKILL", "SIGTERM",
"no result" with exit code 0, "at exit" after the result and with a child left behind, or the share
that fails).
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from segattn.base.lock import Busy, hold

EPOCHS = 10
overrides = dict(word.split("=", 1) for word in sys.argv[1:])
runs_dir, head, seed = Path(overrides["runs_dir"]), overrides["head"], overrides["seed"]
folder = runs_dir / "grid" / f"{head}-resnet18-scenes-s{seed}"


def note(event):
    with (folder.parent / "work.txt").open("a") as file:
        file.write(f"{event} {head}-{seed}\n")


def tell(state, **details):
    status = {"state": state, "max_epochs": EPOCHS, "updated": time.time(), **details}
    draft = folder / f"draft-{os.getpid()}"
    draft.write_text(json.dumps(status))
    draft.replace(folder / "status.json")


def steering(name):
    path = runs_dir / name
    return path.read_text() if path.exists() else ""


def fail_as_told():
    fault = steering(f"fault-{head}-{seed}") or steering("fault-any")
    if fault in ("SIGKILL", "SIGTERM"):
        os.kill(os.getpid(), getattr(signal, fault))
    if fault == "no result":
        sys.exit(0)
    if fault == "error" or (fault[:1].isdigit() and random.random() < float(fault)):
        note("failed")
        tell("failed", epoch=0, error="ValueError: bad")
        sys.exit("error: bad")


def main():
    with hold(folder / "lock", seconds=2):
        if (folder / "result.json").exists():
            return
        note("started")
        (folder / "gpus.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        for epoch in range(EPOCHS + 1):
            tell("running", epoch=epoch)
            time.sleep(float(steering("seconds") or 0) / EPOCHS)
        fail_as_told()
        (folder / "result.json").write_text(json.dumps({"schema": int(steering("schema"))}))
        tell("done", epoch=EPOCHS)
        note("done")
    if steering(f"fault-{head}-{seed}") == "at exit":
        (folder / "child.txt").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        sys.exit(1)


try:
    main()
except Busy as error:
    sys.exit(f"error: {error}")
