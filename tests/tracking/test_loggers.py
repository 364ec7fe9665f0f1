"""TensorBoard and CSV hold what metrics.jsonl holds, and pictures where pictures can be."""

import csv
import json
import re

import numpy as np
import pytest
import torch
import wandb
from fake_wandb import fake_wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_config

from segattn.analysis.publish import run_id
from segattn.base.errors import UserError
from segattn.base.runs import Run
from segattn.tracking import loggers as logging
from segattn.tracking.loggers import (
    JsonlLogger,
    build_loggers,
    close_loggers,
)
from segattn.tracking.login import resolve_mode
from segattn.tracking.wandb_folder import place_of, wandb_facts
from segattn.training.task import SegmentationTask
from segattn.training.train import train


def logged(run) -> dict[str, list[float]]:
    """Every value of metrics.jsonl by key, in order."""
    values: dict[str, list[float]] = {}
    for line in run.metrics_path.read_text().splitlines():
        for key, value in json.loads(line).items():
            values.setdefault(key, []).append(np.nan if value is None else value)
    return values


@pytest.fixture(scope="module")
def tensorboard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorboard")
    run = train(tiny_config(folder, "head=danet", "logger=tensorboard"))
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    return run, events.Reload()


def test_tensorboard_holds_every_scalar(tensorboard):
    run, events = tensorboard
    expected = logged(run)
    del expected["step"]
    assert {"val/miou", "lr", "gamma/block.spatial", "test/iou_size/small"} <= expected.keys()
    scalars = {key: [e.value for e in events.Scalars(key)] for key in expected}
    for key, values in expected.items():
        np.testing.assert_allclose(scalars[key], values, rtol=1e-6, err_msg=key)
    for key in ("parameters", "head_parameters", "flops", "images_per_second"):
        assert events.Scalars(key)[0].value == pytest.approx(run.result["cost"][key])


def test_w_and_b_that_does_not_start_is_done_without(tmp_path, monkeypatch, capsys):
    """Its service died: an error that is none of W&B's classes."""

    def die(*_, **__):
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(logging, "_start_wandb", die)
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = tiny_config(tmp_path, "logger=wandb")
    (only,) = build_loggers(config, Run(tmp_path))
    assert isinstance(only, JsonlLogger)
    assert "(Connection lost); going on without it" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"logger\.mode=offline \(Connection lost\)"):
        build_loggers(tiny_config(tmp_path, "logger=wandb", "logger.mode=offline"), Run(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WANDB_API_KEY", "abc", "key"),
        ("WANDB_API_KEY", "<your_api_key>", "key"),
        ("WANDB_BASE_URL", "http://127.0.0.1:abc", "settings|answer"),
        ("WANDB_BASE_URL", "http://127.0.0.1:9", "no answer from http"),
        ("HTTP_PROXY", "http://127.0.0.1:9", "no answer from http"),
    ],
)
def test_auto_goes_on_offline_and_says_why(tmp_path, monkeypatch, capsys, variable, value, reason):
    with fake_wandb(monkeypatch, tmp_path):
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv(variable, value)
        wandb.teardown()
        assert resolve_mode("auto") == "offline"
        assert re.search(f"W&B will be offline: .*({reason})", capsys.readouterr().out)


def test_auto_sees_a_server_of_ones_own_in_w_and_bs_settings(tmp_path, monkeypatch):
    with fake_wandb(monkeypatch, tmp_path) as server:
        monkeypatch.delenv("WANDB_BASE_URL")
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
        (tmp_path / "settings").write_text(f"[default]\nbase_url = {server.url}\n")
        wandb.teardown()
        assert wandb.setup().settings.base_url == server.url
        assert resolve_mode("auto") == "online"


def test_online_wins_over_the_environment_and_long_names_are_cut(tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    long = "n" * 150
    words = ("logger=wandb", "logger.mode=online", f"experiment={long}", f"name={long}")
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        monkeypatch.setenv("WANDB_MODE", "offline")
        (logger, _) = loggers = build_loggers(tiny_config(tmp_path, *words), run)
        assert not logger.experiment.offline
        close_loggers(loggers, failed=False)
        assert len(server.runs) == 1


def test_w_and_bs_variables_count_where_the_config_is_silent(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    monkeypatch.setenv("WANDB_RUN_GROUP", "night")
    wandb.teardown()  # W&B reads the environment once
    config = tiny_config(tmp_path, "logger=wandb", "logger.tags=[a]")
    (tmp_path / "run").mkdir()
    (logger, _) = loggers = build_loggers(config, Run(tmp_path / "run"))
    started = logger.experiment
    assert (started.project, started.group) == ("mine", "night")
    assert started.tags == ("default", "fcn", "a", "b")
    close_loggers(loggers, failed=False)
    assert [*tmp_path.glob("wandb/offline-run-*")]
    assert place_of(tiny_config(tmp_path, "logger.project=own"))["project"] == "own"
    wandb.teardown()


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_w_and_bs_commands_set_in_a_folder_counts(tmp_path, monkeypatch, capsys, mode):
    """`wandb offline`, `wandb disabled` and `wandb init` leave a file of settings."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\nmode = {mode}\nproject = mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb.teardown()
    assert resolve_mode("auto") == mode
    assert f"W&B will be {mode}: its settings here say so" in capsys.readouterr().out
    assert place_of(tiny_config(tmp_path))["project"] == "mine"
    wandb.teardown()


def test_several_loggers_at_a_time(tmp_path):
    config = tiny_config(tmp_path, "logger=[tensorboard,csv]")
    kinds = [type(logger).__name__ for logger in build_loggers(config, Run(tmp_path))]
    assert kinds == ["TensorBoardLogger", "CSVLogger", "JsonlLogger"]


def test_the_local_logger_is_the_last(tmp_path):
    """What metrics.jsonl has is not logged again after a kill, so the others have it before."""
    loggers = build_loggers(tiny_config(tmp_path, "logger=csv"), Run(tmp_path))
    assert len(loggers) == 2
    assert isinstance(loggers[-1], JsonlLogger)


def test_tensorboard_shows_the_pictures(tensorboard):
    run, events = tensorboard
    images = set(events.Tags()["images"])
    assert {"test/iou_by_size", "test/confusion"} < images
    assert {f"test/examples/{name}" for name in run.examples()["names"]} < images
    for block in ("block.spatial", "block.channel"):
        assert f"test/attention/test-00000 {block}" in images
    scene = events.Images("val/scenes/val-00000")[0]
    assert (scene.height, scene.width) == (64, 3 * 96)  # image, ground truth, prediction


def test_csv_holds_every_scalar_and_the_costs(tmp_path):
    run = train(tiny_config(tmp_path, "logger=csv"))
    with (run.path / "csv" / "version_0" / "metrics.csv").open() as file:
        *rows, last = csv.DictReader(file)
    expected, costs = logged(run), run.result["cost"]
    del costs["media_seconds"]  # of pictures, which there are none of
    assert {"parameters", "flops", "images_per_second", "peak_memory_bytes"} <= set(costs)
    assert {key: float(last[key]) for key in costs} == pytest.approx(costs)
    assert (last["epoch"], last["step"]) == ("2", "4")
    assert set(last) == set(expected) | set(costs)
    assert not [key for key in expected if key.startswith("gamma/")]  # fcn has no attention
    for key, values in expected.items():
        found = [float(row[key]) for row in rows if row[key]]
        np.testing.assert_allclose(found, values, rtol=1e-6, err_msg=key)


def test_csv_of_a_cut_off_run_is_kept(tmp_path, monkeypatch):
    config = tiny_config(tmp_path, "logger=csv", "trainer.max_epochs=3")
    step, steps = SegmentationTask.training_step, []

    def stop_in_the_third_epoch(self, batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) == 5:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", stop_in_the_third_epoch)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config)
    run = train(config)
    files = sorted(run.path.glob("csv/version_*/metrics.csv"))
    assert [file.parent.name for file in files] == ["version_0", "version_1"]
    epochs = set()
    for file in files:
        with file.open() as opened:
            epochs |= {int(float(row["epoch"])) for row in csv.DictReader(opened)}
    assert epochs == {0, 1, 2, 3}  # 3: the test


def test_gamma_of_every_block_is_logged(tensorboard):
    run, _ = tensorboard
    gamma = run.metrics()[["gamma/block.spatial", "gamma/block.channel"]].dropna()
    assert len(gamma) == 2
    state = torch.load(run.checkpoint_path, weights_only=True)["state_dict"]
    last = gamma.iloc[-1].to_dict()
    assert last == {
        f"gamma/block.{name}": state[f"model.head.block.{name}.gamma"].item()
        for name in ("spatial", "channel")
    }
    assert last["gamma/block.spatial"] != 0


def test_unknown_logger_is_named(tmp_path):
    message = r"unknown logger\.name 'tensorbord'.*csv.*none.*tensorboard.*wandb"
    with pytest.raises(ValueError, match=message):
        tiny_config(tmp_path, "logger.name=tensorbord")


@pytest.mark.parametrize(("name", "mode"), [("none", "auto"), ("wandb", "disabled")])
def test_metrics_file_stays_where_nothing_else_logs(tmp_path, name, mode):
    config = tiny_config(tmp_path, f"logger.name={name}", f"logger.mode={mode}")
    (logger,) = build_loggers(config, Run(tmp_path))
    logger.log_metrics({"epoch": 0, "val/miou": 0.5}, step=1)
    assert logged(Run(tmp_path))["val/miou"] == [0.5]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_seeds_of_a_head_share_a_group(tmp_path):
    first, second = (wandb_facts(tiny_config(tmp_path, f"seed={seed}")) for seed in (0, 11))
    assert first["group"] == second["group"] == "default-fcn-resnet18-scenes"
    assert first["name"] != second["name"]
    assert first["tags"] == ["default", "fcn"]


def test_run_of_a_sweep_keeps_the_id_that_its_agent_gave_it(tmp_path, monkeypatch):
    """So that publishing it later completes that run and makes no second one."""
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "agents-id")
    run = Run(tmp_path / "run")
    run.path.mkdir()
    config = tiny_config(tmp_path, "logger=wandb", "logger.mode=online")
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        close_loggers(build_loggers(config, run), failed=False)
        assert [*server.runs] == [run_id(run)] == ["agents-id"]


def test_an_empty_variable_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    wandb.teardown()
    run = Run(tmp_path / "run")
    run.path.mkdir()
    loggers = build_loggers(tiny_config(tmp_path, "logger=wandb", "logger.mode=offline"), run)
    close_loggers(loggers, failed=False)
    assert len(loggers) == 2


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("WANDB_MODE", "onlin", "its setting mode: Input should be 'online'"),
        (
            "WANDB_BASE_URL",
            "wandb.example.com",
            "its setting base_url: Input should be a valid URL",
        ),
        ("WANDB_FINISH_TIMEOUT", "soon", "its setting finish_timeout: Input should be a valid"),
    ],
)
def test_a_variable_that_w_and_b_cannot_read_is_named(
    tmp_path, monkeypatch, capsys, variable, value, told
):
    wandb.teardown()
    monkeypatch.setenv(variable, value)
    run = Run(tmp_path / "run")
    run.path.mkdir()
    try:
        close_loggers(build_loggers(tiny_config(tmp_path, "logger=wandb"), run), failed=False)
        assert told in capsys.readouterr().out
    finally:
        monkeypatch.delenv(variable)
        wandb.teardown()
