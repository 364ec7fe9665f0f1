"""A run that is killed at any moment ends as one that never was."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segattn.base.runs import Run

CHAOS = Path(__file__).parents[1] / "chaos.py"
SAME = ("scores", "confusion", "images", "num_images", "metric", "training")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_twenty_moments_the_run_ends_with_the_same_bits(tmp_path, workers):
    seed, log, errors = random.randrange(10**6), tmp_path / "told.txt", tmp_path / "errors.txt"
    command = [sys.executable, str(CHAOS), str(tmp_path), str(workers), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # no pipes: a worker of a killed run may outlive all, and would hold them open
    with log.open("w") as out, errors.open("w") as err:
        done = subprocess.run(command, env=environment, stdout=out, stderr=err, check=False)
    assert done.returncode == 0, f"chaos.py with seed {seed}:\n{errors.read_text()}"
    told = json.loads(log.read_text().splitlines()[-1])
    assert len(told["kills"]) == 20
    print(f"seed {seed}: {told}")  # shown where an assertion below fails
    whole = Run(Path(told["folder"]) / "whole")
    for name in told["names"]:
        _assert_equal(Run(whole.path.with_name(name)), whole)


def _assert_equal(run: Run, whole: Run) -> None:
    weights, expected = (torch.load(r.checkpoint_path, weights_only=True) for r in (run, whole))
    assert weights["global_step"] == expected["global_step"]
    assert weights["state_dict"].keys() == expected["state_dict"].keys()
    for key, value in expected["state_dict"].items():
        assert torch.equal(weights["state_dict"][key], value), key
    assert str(weights["optimizer_states"]) == str(expected["optimizer_states"])
    assert run.metrics().equals(whole.metrics())
    assert run.objects_path.read_bytes() == whole.objects_path.read_bytes()
    for key in SAME:
        assert run.result[key] == whole.result[key], key
    left = [path.name for path in run.path.rglob("*") if "draft" in path.name]
    assert left == []
