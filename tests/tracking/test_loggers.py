"""TensorBoard and CSV hold what metrics.jsonl holds, and pictures where pictures can be."""

import csv
import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_config

from segattn.base.runs import Run
from segattn.tracking.loggers import build_loggers
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


def test_several_loggers_at_a_time_the_local_one_last(tmp_path):
    """What metrics.jsonl has is not logged again after a kill, so the others have it before."""
    config = tiny_config(tmp_path, "logger=[tensorboard,csv]")
    kinds = [type(logger).__name__ for logger in build_loggers(config, Run(tmp_path))]
    assert kinds == ["TensorBoardLogger", "CSVLogger", "JsonlLogger"]


def test_tensorboard_shows_the_pictures(tensorboard):
    run, events = tensorboard
    images = set(events.Tags()["images"])
    assert "test/confusion" in images
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
    assert {"parameters", "flops", "images_per_second", "peak_memory_bytes"} <= set(costs)
    assert {key: float(last[key]) for key in costs} == pytest.approx(costs)
    assert (last["epoch"], last["step"]) == ("2", "4")
    assert set(last) == set(expected) | set(costs)
    assert not [key for key in expected if key.startswith("gamma/")]  # fcn has no attention
    for key, values in expected.items():
        found = [float(row[key]) for row in rows if row[key]]
        np.testing.assert_allclose(found, values, rtol=1e-6, err_msg=key)


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
