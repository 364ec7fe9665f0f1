"""The sweep files: what W&B's agents would run composes, and no two runs share a folder."""

import itertools

import pytest
import yaml
from tiny import EXPERIMENTS
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from segattn.config.compose import compose_config
from segattn.training.train import run_folder

SWEEPS = sorted((EXPERIMENTS / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_gives_runs_of_their_own(path):
    sweep = yaml.safe_load(path.read_text())
    assert (EXPERIMENTS.parent / sweep["program"]).is_file()
    start = sweep["command"].index("${program}") + 1
    assert sweep["command"][-1] == "${args_no_hyphens}"
    configs = []
    for values in itertools.product(*(p["values"] for p in sweep["parameters"].values())):
        given = {n: {"value": v} for n, v in zip(sweep["parameters"], values, strict=True)}
        words = create_sweep_command_args({"args": given})["args_no_hyphens"]
        configs.append(compose_config([*sweep["command"][start:-1], *words], folder=EXPERIMENTS))
    assert len({run_folder(config).path for config in configs}) == len(configs) > 1
    assert all(config["logger"]["mode"] == "online" for config in configs)
