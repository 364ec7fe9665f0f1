"""A run small enough for a test: tiny scenes, a thin head, one thread."""

import runpy
import sys
from pathlib import Path

import torch

from segattn.base.runs import Run
from segattn.config.compose import compose_config

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def tiny_overrides(folder: Path, *overrides: str) -> list[str]:
    """Overrides for a run of two epochs of two steps, with everything below `folder`."""
    return [
        "head=fcn",
        "head.channels=8",
        f"runs_dir={folder / 'runs'}",
        f"data.root={folder / 'scenes'}",
        "data.height=64",
        "data.width=96",
        "data.num_train=8",
        "data.num_val=2",
        "data.num_test=4",
        "loader.batch_size=4",
        "loader.num_workers=0",
        "num_examples=2",
        "trainer.max_epochs=2",
        "trainer.precision=fp32",
        "logger=none",
        *overrides,
    ]


def own_overrides(folder: Path, *overrides: str) -> list[str]:
    """Overrides for a run of one epoch on data that `overrides` name."""
    return [
        "head=fcn",
        "head.channels=8",
        "encoder=test_resnet",
        "encoder.depth=3",
        "loader.num_workers=0",
        "loader.batch_size=4",
        "trainer.max_epochs=1",
        "trainer.precision=fp32",
        "logger=none",
        f"runs_dir={folder / 'runs'}",
        *overrides,
    ]


def tiny_config(folder: Path, *overrides: str) -> dict:
    """The composed config of `tiny_overrides`."""
    return compose_config(tiny_overrides(folder, *overrides), folder=EXPERIMENTS)


def call_script(monkeypatch, name: str, *words: object) -> int | str:
    """A script in this process, which has imported what takes seconds; how it exits."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    try:
        runpy.run_path(str(EXPERIMENTS.parent / "scripts" / name), run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Of its last checkpoint."""
    return torch.load(run.checkpoint_path, weights_only=True)["state_dict"]
