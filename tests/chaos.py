"""Kills one run again and again, at random and at chosen moments, and lets it go on.

Started by test_chaos.py as a process of its own: it imports everything once and forks a child for
every attempt, so that kills fall into the run and not into imports. Prints one JSON object.
"""

import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from tiny import tiny_config

from segattn.base import files
from segattn.base.runs import Run
from segattn.training.train import run_folder, train

# what each plan makes the child do to itself; "random" is killed from outside
PLANS = [
    *["random"] * 3,
    *["half of last.ckpt", "last.ckpt unnamed", "last.ckpt named"],
    *["random"] * 8,
    *[
        "objects.parquet unnamed",
        "half of result.json",
        "result.json unnamed",
        "status.json unnamed",
    ],
    *["random"] * 2,
]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(plan):
    """Patch this process so that it dies as `plan` says."""
    if plan == "half of last.ckpt":
        whole = torch.save

        def save_half(checkpoint, file):
            buffer = io.BytesIO()
            whole(checkpoint, buffer)
            file.write(buffer.getvalue()[: buffer.tell() // 2])
            file.flush()
            die()

        torch.save = save_half
    elif plan == "half of result.json":
        whole_text = Path.write_text

        def write_half(path, text, **options):
            if "result" not in path.name:
                return whole_text(path, text, **options)
            whole_text(path, text[: len(text) // 2], **options)
            return die()

        Path.write_text = write_half
    elif plan.endswith(" unnamed"):
        name, flush, calls = plan.removesuffix(" unnamed"), files._flush, []

        def flush_and_die(path):
            calls.append(path)
            # status.json is written all the time: die at its last, when result.json is there
            done = (path.parent / "result.json").exists()
            if name.split(".")[0] in path.name and (not name.startswith("status") or done):
                die()
            return flush(path)

        files._flush = flush_and_die
    elif plan == "last.ckpt named":
        name_it = os.replace

        def name_and_die(draft, path):
            name_it(draft, path)
            if Path(path).name == "last.ckpt":
                die()

        os.replace = name_and_die


def attempt(config, plan, delay):
    """Start or go on; True if the run came to its end, False if it was killed."""
    child = os.fork()
    if child == 0:
        arm(plan)
        try:
            train(config)
        finally:
            os._exit(0 if run_folder(config).status["state"] == "done" else 1)
    if plan == "random":
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)  # one that has ended is a zombie until waited for
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, f"the run failed: {run_folder(config).status}"
    return os.WIFEXITED(status)


def check(run: Run):
    """Whatever is there is whole."""
    if run.checkpoint_path.exists():
        torch.load(run.checkpoint_path, weights_only=True)
    for read in (lambda: run.status, lambda: run.result, run.metrics):
        read()
    if run.objects_path.exists():
        run.objects()


def where(run: Run):
    if run.result is not None:
        return "after the result"
    if run.objects_path.exists():
        return "before the result"
    epoch = run.status.get("epoch", 0)
    return f"epoch {epoch}" if run.status["state"] != "pending" else "at the start"


def main(folder: str, workers: str, seed: str):
    rng = random.Random(int(seed))
    words = (
        "head=fla",
        "head.dropout=0.2",
        "trainer.max_epochs=8",
        f"loader.num_workers={workers}",
    )
    base = tiny_config(Path(folder), *words, "augment.crop=[48,64]", "augment.jitter=0.2")
    started = time.monotonic()
    assert attempt({**base, "name": "whole"}, "none", 0)
    seconds = time.monotonic() - started
    kills, names, number = [], [], 0
    while len(kills) < len(PLANS):
        config = {**base, "name": f"killed-{number}"}
        number += 1
        names.append(config["name"])
        ended = False
        while not ended and len(kills) < len(PLANS):
            plan = PLANS[len(kills)]
            ended = attempt(config, plan, rng.uniform(0, 0.6 * seconds))
            if not ended:
                kills.append((plan, where(run_folder(config))))
                check(run_folder(config))
        assert attempt(config, "none", 0)
    print(json.dumps({"kills": kills, "names": names, "folder": str(run_folder(base).path.parent)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
