"""Every sweep file expands to the commands that W&B's agent would run, and they compose."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml
from tiny import EXPERIMENTS
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from segattn.config.compose import compose_config
from segattn.grid.sweep import expand_sweep
from segattn.training.train import run_folder

SWEEPS = sorted((EXPERIMENTS / "sweep").glob("*.yaml"))
SCRIPT = EXPERIMENTS.parent / "scripts" / "sweep.py"


def write(path: Path, **changes) -> Path:
    sweep = yaml.safe_load((EXPERIMENTS / "sweep" / "heads.yaml").read_text()) | changes
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return path


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_gives_runs_of_their_own(path):
    commands = expand_sweep(path, folder=EXPERIMENTS)
    expected = 1
    for parameter in yaml.safe_load(path.read_text())["parameters"].values():
        expected *= len(parameter["values"])
    configs = [compose_config(command[3:], folder=EXPERIMENTS) for command in commands]
    assert len({run_folder(config).path for config in configs}) == len(commands) == expected
    assert all(config["logger"]["mode"] == "online" for config in configs)


def test_sweep_over_heads_covers_them_and_seeds():
    commands = expand_sweep(EXPERIMENTS / "sweep" / "heads.yaml", folder=EXPERIMENTS)
    words = {word for command in commands for word in command}
    assert len({word for word in words if word.startswith("head=")}) == 6
    assert {"seed=0", "seed=1"} <= words


def test_learning_rates_are_told_apart_by_their_folder():
    commands = expand_sweep(EXPERIMENTS / "sweep" / "learning_rate.yaml", folder=EXPERIMENTS)
    for command in commands:
        config = compose_config(command[3:], folder=EXPERIMENTS)
        rate = config["optimizer"]["lr"]
        assert config["experiment"] == f"sweep_lr-scenes-lr_{rate}"
        assert f"optimizer.lr={rate}" in command


def test_commands_are_put_together_as_by_the_agent(tmp_path):
    values = {"head": "fla", "optimizer.lr": 0.0005, "loader.cache": False, "seed": 3}
    parameters = {name: {"value": value} for name, value in values.items()}
    command = ["${env}", "${interpreter}", "${program}", "name=x-${seed}", "${args_no_hyphens}"]
    path = write(tmp_path / "sweep.yaml", parameters=parameters, command=command)
    (words,) = expand_sweep(path, folder=EXPERIMENTS)
    theirs = create_sweep_command_args({"args": parameters})["args_no_hyphens"]
    assert words == ["/usr/bin/env", "python", "scripts/train.py", "name=x-${seed}", *theirs]
    assert compose_config(words[3:], folder=EXPERIMENTS)["name"] == "x-3"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bayes"}, "must have method: grid, got 'bayes'"),
        ({"program": "train.py"}, r"must have program: scripts/train\.py, got 'train\.py'"),
        ({"parameters": {"seed": {"min": 0, "max": 9}}}, "seed needs `values`"),
        ({"parameters": {"head": {"values": ["fcn", "fla2"]}}}, "fla2"),
        (
            {"parameters": {"optimizer.lr": {"values": [0.1, 0.2]}}},
            "share the run folder runs/sweep",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        expand_sweep(write(tmp_path / "sweep.yaml", **changes), folder=EXPERIMENTS)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*nowhere\.yaml"):
        expand_sweep(tmp_path / "nowhere.yaml", folder=EXPERIMENTS)


def test_script_prints_a_command_per_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sweep.py", str(EXPERIMENTS / "sweep" / "heads.yaml")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[-1].endswith("head=fla seed=1")
