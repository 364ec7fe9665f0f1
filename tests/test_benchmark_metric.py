"""The cost of the metric is measured on a frame that holds what it says, with the default model."""

import functools
import importlib.util
import math
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import EXPERIMENTS

from segattn.benchmark import display, metric
from segattn.benchmark.measure import processor_seconds
from segattn.config import compose_config
from segattn.metrics import SizeBins, find_objects, nearest_owner, stack_objects

SHAPE = (256, 384, 9)


@pytest.fixture(scope="module")
def frame():
    return metric.draw_frame(SHAPE)


def test_a_frame_is_drawn_from_its_seed_alone(frame):
    again, other = metric.draw_frame(SHAPE), metric.draw_frame(SHAPE, seed=1)
    assert np.array_equal(frame.label, again.label)
    assert np.array_equal(frame.prediction, again.prediction)
    assert (frame.label != other.label).mean() > 0.3


@pytest.mark.parametrize("wrong", [0.05, 0.06, 0.1])
def test_the_asked_share_of_valid_pixels_is_wrong(wrong):
    frame = metric.draw_frame(SHAPE, wrong=wrong)
    valid = frame.label != 255
    assert frame.wrong == (frame.label != frame.prediction)[valid].mean()
    assert frame.wrong == pytest.approx(wrong, abs=0.003)


def test_a_frame_has_every_class_void_and_objects_of_all_sizes_thin_ones_too(frame):
    assert set(np.unique(frame.label)) == {*range(SHAPE[2]), 255}
    assert set(np.unique(frame.prediction)) == set(range(SHAPE[2]))
    objects = find_objects(frame.label)
    assert 100 < len(objects.cls) < 300
    bins = SizeBins(stride=2).assign(objects.area, objects.width)
    assert set(bins) == set(range(6))


def test_a_prediction_has_the_usual_errors(frame):
    """Borders off by some pixels, things missed and invented, and specks."""
    truth, found = find_objects(frame.label), find_objects(frame.prediction, ignore_index=None)
    right = frame.prediction == frame.label
    hits = np.bincount(truth.ids[right], minlength=len(truth.cls))
    assert ((hits == 0) & (truth.area >= 64)).any()
    supported = np.bincount(found.ids[right], minlength=len(found.cls))
    assert ((supported == 0) & (found.area >= 64)).any()
    assert (found.area == 1).sum() > 20

    preds, target = (torch.from_numpy(m).long()[None] for m in (frame.prediction, frame.label))
    ids = stack_objects([truth]).ids
    _, owner, squared = nearest_owner(preds, target=target, ids=ids, radius=8)
    near, far = (squared <= 4).double().mean(), (owner < 0).double().mean()
    assert 0.2 < near < 0.8
    assert 0.1 < far < 0.8


def test_model_and_reach_are_those_of_a_run_on_photographs():
    overrides = ["logger=none", "data=camvid", "data.root=anywhere"]
    config = compose_config(overrides, folder=EXPERIMENTS)
    assert metric.HEAD.items() <= config["head"].items()
    assert metric.ENCODER.items() <= config["encoder"].items()
    assert config["metric"]["radius_cells"] == metric.RADIUS_CELLS


def test_torch_gets_its_threads_back():
    def fail():
        with metric.one_thread():
            raise KeyError(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError, match="1"):
            fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_processor_time_is_counted_and_waiting_is_not():
    calls = {"work": lambda: sum(range(10**6)), "wait": lambda: time.sleep(0.05)}
    times = processor_seconds(calls, seconds=0)
    assert min(times["work"]) > 10 * max(times["wait"])


def test_share_of_validation_is_that_of_components_and_update():
    times = {"components": [1, 2, 9], "update": [2, 2, 9], "forward": [7, 4, 2], "objects": [5] * 3}
    assert metric._share(times) == 0.5


def test_a_row_for_each_frame_and_a_cell_for_each_phase():
    shapes = [(64, 96, 6), (48, 64, 5)]
    frame = pd.DataFrame(metric.metric_cost(shapes, seconds=0))
    assert list(frame["input"]) == ["64x96", "48x64"]
    assert list(frame["classes"]) == [6, 5]
    phases = ("objects", "components", "update", "update_all_radii", "forward")
    assert (frame[[f"{phase}_seconds" for phase in phases]] > 0).all(axis=None)
    assert frame["share_of_validation"].between(0, 1, inclusive="neither").all()
    assert (frame["components"] > frame["objects"] / 2).all()
    table = display.metric(frame)
    assert list(table["wrong pixels"]) == [f"{100 * wrong:.1f}%" for wrong in frame["wrong"]]
    seconds = frame["update_seconds"].iloc[0]
    assert table["update"].iloc[0] == f"{1000 * seconds:,.0f} ms"
    assert math.isclose(
        float(table["share of validation"].iloc[0].rstrip("%")) / 100,
        frame["share_of_validation"].iloc[0],
        abs_tol=0.006,
    )


def test_script_says_how_the_cost_was_measured(tmp_path, monkeypatch, capsys):
    path = EXPERIMENTS.parent / "scripts" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("benchmark_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    small = functools.partial(metric.metric_cost, [(64, 96, 6)])
    monkeypatch.setattr(script, "metric_cost", small)
    monkeypatch.setattr(script, "limit_memory", lambda *_: None)  # it would limit the tests
    monkeypatch.setattr(
        sys, "argv", ["benchmark.py", "metric", "--seconds", "0", "--out", str(tmp_path)]
    )
    script.main()
    assert len(pd.read_csv(tmp_path / "metric.csv")) == 1
    text = (tmp_path / "metric.md").read_text()
    assert text in capsys.readouterr().out
    assert "one thread" in text
    assert "share of validation = (components + update)" in text
    assert "published" not in text
    assert "fp32" not in text.splitlines()[-1]
