"""One name has one value: result.json, W&B, TensorBoard, the object table, report and notebook."""

import re

import pandas as pd
import pytest
from fake_wandb import fake_wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_config

from segattn.analysis import compare, report
from segattn.analysis.publish import publish
from segattn.base.runs import load_runs
from segattn.metrics.neighbours import NEIGHBOURS
from segattn.training.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train(tiny_config(folder, "head=fla", "head.channels=8", "logger=tensorboard"))


@pytest.fixture(scope="module")
def scores(run):
    return {name: value for name, value in run.result["scores"].items() if value is not None}


def test_there_is_a_score_of_every_kind(scores):
    kinds = {re.split("/", name)[0] for name in scores}
    assert kinds >= NEIGHBOURS | {
        "miou",
        "iou",
        "iou_group",
        "iou_size",
        "iou_shape",
        "block_share",
    }


def test_metrics_and_tensorboard(run, scores):
    logged = run.metrics()
    events = next(run.path.rglob("events.out.tfevents*"))
    board = EventAccumulator(str(events.parent)).Reload()
    for name, value in scores.items():
        if name not in NEIGHBOURS:  # these are known after the last batch
            assert logged[f"test/{name}"].dropna().item() == pytest.approx(value, rel=1e-6)
        assert board.Scalars(f"test/{name}")[-1].value == pytest.approx(value, rel=1e-6)


def test_wandb(run, scores, monkeypatch, tmp_path):
    with fake_wandb(monkeypatch, tmp_path) as server:
        publish(run.path.parent, media=False)
        summary = next(r["summary"] for id_, r in server.runs.items() if "comparison" not in id_)
    for name, value in scores.items():
        assert summary[f"test/{name}"] == pytest.approx(value, rel=1e-6)


def test_object_table_report_and_notebook(run, scores, tmp_path):
    found = compare(load_runs(run.path.parent))
    (of_head,) = found.scores.values()
    report.write_report(run.path.parent, tmp_path)
    table = pd.read_csv(tmp_path / "runs.csv").set_index("score")["value"]
    gains = pd.read_csv(tmp_path / "gains.csv").set_index("score")["value"]
    others = pd.read_csv(tmp_path / "neighbours.csv").iloc[0]
    for name, value in scores.items():
        assert table[name] == pytest.approx(100 * value, rel=1e-5)
        if name in NEIGHBOURS:
            assert others[name] == pytest.approx(100 * value, rel=1e-5)
        elif not name.startswith("block_share"):
            assert of_head.values[name].item() == pytest.approx(value, rel=1e-9)
        if name in gains:
            assert gains[name] == pytest.approx(100 * value, rel=1e-5)
