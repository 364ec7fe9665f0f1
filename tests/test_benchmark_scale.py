"""The cost of images, records and comparisons is measured on what it says, by real loaders."""

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from simulated_runs import simulate
from tiny import EXPERIMENTS

from segattn.analysis import compare
from segattn.benchmark import display, images, records
from segattn.benchmark.metric import draw_frame
from segattn.metrics import find_objects
from segattn.runs import load_runs

ROWS = 7  # of a simulated image
SMALL = [(64, 96, 11), (64, 128, 19)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    simulate(folder, heads={"fcn": {}, "fla": {"lamp": 0.1}}, seeds=(0, 1), num_images=12)
    for run in load_runs(folder):
        run.config_path.write_text(
            yaml.safe_dump({"name": run.path.name, "head": run.result["head"]})
        )
    return folder


@pytest.mark.parametrize(
    ("shape", "write"),
    [(SMALL[0], images._write_camvid), (SMALL[1], images._write_cityscapes)],
)
def test_a_written_frame_is_read_back_by_the_data_set(tmp_path, shape, write):
    frame = draw_frame(shape)
    sample = write(frame, tmp_path).load(0)
    assert np.array_equal(sample.label, frame.label)
    assert sample.image.shape == (*shape[:2], 3)


def test_people_and_vehicles_of_cityscapes_are_instances(tmp_path):
    frame = draw_frame(SMALL[1])
    sample = images._write_cityscapes(frame, tmp_path).load(0)
    assert np.array_equal(sample.instances > 0, (frame.label >= 11) & (frame.label != 255))
    found = find_objects(sample.label, sample.instances)
    assert found.from_instance.any()
    assert not found.from_instance.all()


def test_a_row_for_each_stage_of_an_image():
    frame = pd.DataFrame(images.image_cost(SMALL, seconds=0))
    assert list(frame["layout"].unique()) == ["camvid", "cityscapes"]
    assert (frame.groupby("layout").size() == 6).all()
    assert (frame["fastest"] <= frame["seconds"]).all()
    assert (frame["seconds"] <= frame["slowest"]).all()
    assert (frame["records"] >= frame["objects"]).all()
    table = display.scale_images(frame.assign(slowest=2 * frame["seconds"]))
    assert list(table.columns) == ["one image", "camvid, 64x96", "cityscapes, 64x128"]
    first = frame.iloc[0]
    expected = f"{1000 * first['seconds']:,.3g} ms ({1000 * first['fastest']:,.3g} to "
    assert table.iloc[0, 1].startswith(expected)


def test_an_enlarged_run_repeats_its_images_under_other_names(runs):
    run = load_runs(runs)[0]
    frame, result = records.enlarged(run, 3)
    assert len(frame) == 3 * len(run.objects())
    assert len(set(result["images"])) == 36 == frame["image"].nunique()
    assert set(result["images"]) == set(frame["image"])
    assert result["images"][:12] == run.result["images"]
    assert len(set(result["blocks"])) == 3 * len(set(run.result["blocks"]))


def test_enlarged_runs_can_be_compared_and_score_the_same(runs, tmp_path):
    known = records._copy(load_runs(runs), tmp_path / "runs", factor=2)
    assert known == {"runs": 4, "images": 24, "records": 4 * 24 * ROWS}
    larger, original = (compare(load_runs(folder)) for folder in (tmp_path / "runs", runs))
    for head in original.heads:
        assert np.array_equal(larger.samples[head].sums, 2 * original.samples[head].sums)


def test_tables_are_scaled_to_a_million_records(runs):
    frame = pd.DataFrame(records.table_cost(load_runs(runs)[:1], (1, 2), seconds=0))
    assert list(frame["stage"]) == ["write", "read", "counts per image"] * 2
    assert list(frame["records"].unique()) == [12 * ROWS, 24 * ROWS]
    table = display.scale_tables(frame.assign(slowest=2 * frame["seconds"]))
    scaled = frame["seconds"].iloc[0] * 1e6 / (12 * ROWS)
    assert table["write"].iloc[0].startswith(f"{scaled:,.3g} s (")
    assert list(table["file"]) == [
        f"{frame['file_bytes'].iloc[0] / (12 * ROWS):.1f} B a record",
        "",
    ]


@pytest.mark.slow
def test_comparisons_are_measured_apart(runs):
    frame = pd.DataFrame(records.comparison_cost(runs, {("fcn", "fla"): [1]}, rounds=1))
    assert list(frame["stage"]) == ["compare", "bootstrap of a run", "report"]
    assert set(frame["runs"]) == {4}
    seconds = frame.set_index("stage")["seconds"]
    assert seconds["bootstrap of a run"] < seconds["compare"] < seconds["report"]
    assert (frame["memory_bytes"] > 0).all()
    assert list(display.scale_comparison(frame)["images"]) == ["12"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the mark is Linux's")
def test_the_peak_of_a_process_is_its_own_and_not_that_of_its_parent():
    held = np.ones(1_000_000_000, dtype=np.uint8)
    program = (
        "import torch; from segattn.hardware import process_peak_memory; "
        "print(process_peak_memory(torch.device('cpu')))"
    )
    alone = [sys.executable, "-c", program]
    peak = int(subprocess.run(alone, capture_output=True, text=True, check=True).stdout)
    assert 50_000_000 < peak < held.nbytes


def test_script_writes_three_tables_and_only_when_asked(tmp_path, monkeypatch, runs):
    path = EXPERIMENTS.parent / "scripts" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("benchmark_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "image_cost", functools.partial(images.image_cost, SMALL))
    measured = {"seconds": 1.0, "fastest": 0.5, "slowest": 2.0, "rounds": 1, "memory_bytes": 5e6}
    row = {"runs": 4, "images": 12, "records": 288, "stage": "compare"} | measured
    monkeypatch.setattr(script, "comparison_cost", lambda folder: iter([row]))
    monkeypatch.setattr(script, "limit_memory", lambda *_: None)  # it would limit the tests
    words = ["benchmark.py", "scale", "--seconds", "0", "--runs", str(runs), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    for name in ("scale_images", "scale_tables", "scale_comparison"):
        text = (tmp_path / f"{name}.md").read_text()
        assert "one thread" in text.splitlines()[-1]
        assert "median (fastest to slowest)" in text.splitlines()[-1]
    assert "| 4 | 12 | 288 | 1 s (0.5 to 2), 5 MB |" in text
    monkeypatch.setattr(sys, "argv", ["benchmark.py"])
    assert "scale" not in script.parse().parts
