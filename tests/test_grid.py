"""The grid's states, with a script in place of training that takes no time."""

import runpy
import subprocess
import sys

import pytest
import yaml
from tiny import EXPERIMENTS

from segattn.grid import default_jobs, expand, run_grid

# stands for scripts/train.py: leaves what train.py leaves, or fails in the way its cell says
STAND_IN = """
import json, os, signal, sys
from pathlib import Path

overrides = dict(o.split("=", 1) for o in sys.argv[1:])
head, seed = overrides["head"], overrides["seed"]
folder = Path(overrides["runs_dir"]) / "grid" / f"{head}-resnet18-scenes-s{seed}"
with (folder.parent / "started.txt").open("a") as file:
    file.write(f"{head}-{seed}\\n")
fault = Path(overrides["runs_dir"]) / f"fault-{head}-{seed}"
if fault.exists():
    if fault.read_text() == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "status.json").write_text(json.dumps({"state": "failed", "error": "ValueError: bad"}))
    sys.exit("error: bad")
(folder / "status.json").write_text(json.dumps({"state": "done"}))
(folder / "result.json").write_text(json.dumps({"schema": 2}))
"""


@pytest.fixture
def grid(tmp_path):
    """expand() on an ablation of two heads and two seeds, and the script to run it with."""
    folder = tmp_path / "experiments"
    for path in EXPERIMENTS.rglob("*.yaml"):
        target = folder / path.relative_to(EXPERIMENTS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    axes = {"head": ["fcn", "fla"], "seed": [0, 1]}
    sizes = ["data.num_train=8", "data.num_val=1", "data.num_test=1", "experiment=grid"]
    content = {"axes": axes, "overrides": [*sizes, f"runs_dir={tmp_path}"]}
    (folder / "ablation/two.yaml").write_text(yaml.safe_dump(content))
    script = tmp_path / "train.py"
    script.write_text(STAND_IN)

    def run(*overrides):
        data = f"data.root={tmp_path / 'scenes'}"
        cells = expand(["ablation=two", data, *overrides], folder=folder)
        return cells, run_grid(cells, script=script, jobs=2)

    return run


def started(tmp_path):
    return sorted((tmp_path / "grid/started.txt").read_text().split())


def test_all_cells_run_once_and_are_then_skipped(grid, tmp_path, capsys):
    cells, failed = grid()
    assert failed == []
    assert [cell.state for cell in cells] == ["done"] * 4
    assert started(tmp_path) == ["fcn-0", "fcn-1", "fla-0", "fla-1"]
    assert "fla-resnet18-scenes-s1 done" in capsys.readouterr().out
    _, failed = grid("seed=0,1,2")
    assert failed == []
    assert len(started(tmp_path)) == 6  # only the two new cells


def test_failing_and_killed_cells_leave_the_others_alone(grid, tmp_path, capsys):
    (tmp_path / "fault-fcn-0").write_text("error")
    (tmp_path / "fault-fla-1").write_text("kill")
    cells, failed = grid()
    assert [cell.state for cell in cells] == ["failed", "done", "done", "failed"]
    assert [cell.error for cell in failed] == ["ValueError: bad", "exit code -9"]
    assert "fcn-resnet18-scenes-s0 failed: ValueError: bad (see " in capsys.readouterr().out
    assert "error: bad" in failed[0].run.log_path.read_text()
    for fault in tmp_path.glob("fault-*"):
        fault.unlink()
    cells, failed = grid()
    assert failed == []
    assert len(started(tmp_path)) == 6


def paths(*overrides):
    cells = expand(["ablation=heads", "head=fla", *overrides], folder=EXPERIMENTS)
    return ["/".join(cell.run.path.parts[-2:]) for cell in cells]


def test_seeds_share_a_folder_and_other_axes_have_their_own():
    assert paths("seed=3,4", "data.layout=aligned,free") == [
        "heads-scenes-layout_aligned/fla-resnet18-scenes-s3",
        "heads-scenes-layout_free/fla-resnet18-scenes-s3",
        "heads-scenes-layout_aligned/fla-resnet18-scenes-s4",
        "heads-scenes-layout_free/fla-resnet18-scenes-s4",
    ]
    assert paths("seed=0", "data=scenes,camvid", "data.root=x") == [
        "heads-scenes/fla-resnet18-scenes-s0",
        "heads-camvid/fla-resnet18-camvid-s0",
    ]
    assert paths("seed=0", "experiment=mine", "encoder=resnet18,resnet50") == [
        "mine-encoder_resnet18/fla-resnet18-scenes-s0",
        "mine-encoder_resnet50/fla-resnet50-scenes-s0",
    ]
    (path,) = paths("seed=0", "experiment=mine")
    assert path == "mine/fla-resnet18-scenes-s0"


def test_knobs_of_a_head_share_a_folder_under_names_of_their_own():
    assert paths("seed=0", "head.channels=32,64") == [
        "heads-scenes/fla-channels_32-resnet18-scenes-s0",
        "heads-scenes/fla-channels_64-resnet18-scenes-s0",
    ]
    variant = "head=fla,fla head.published_batch_mixing=true"
    assert paths("seed=1", variant, "loader.eval_batch_size=1") == [
        "heads-scenes/fla-resnet18-scenes-s1",
        "heads-scenes/fla-published_batch_mixing_true-resnet18-scenes-s1",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=scenes"], "name one ablation"),
        (["ablation=hades"], "unknown ablation 'hades'.*heads.*quick"),
        (["ablation=heads", "head.chanels=3"], "chanels"),
        (["ablation=heads", "data=camvid"], r"not set: data\.root"),
        (["ablation=heads", "logger=none,wandb"], "logger cannot be an axis; head, seed"),
        (["ablation=heads", "encoder.depth=2"], "at most 2 .* = 4, got 8"),
    ],
)
def test_mistakes_are_named_before_anything_runs(overrides, message):
    with pytest.raises(ValueError, match=message):
        expand(overrides, folder=EXPERIMENTS)


def test_folder_of_another_experiment_is_refused(grid):
    cells, _ = grid()
    cells[2].run.config_path.write_text(yaml.safe_dump(cells[2].config))
    grid()
    with pytest.raises(ValueError, match=r"optimizer\.lr: 0\.002 -> 0\.1\n.*experiment=NAME"):
        grid("optimizer.lr=0.1")


def test_script_lists_commands_and_reports_failure(tmp_path):
    script = [sys.executable, str(EXPERIMENTS.parent / "scripts/ablate.py")]
    dry = subprocess.run(
        [*script, "ablation=heads", "--dry-run"], capture_output=True, text=True, check=True
    )
    lines = dry.stdout.splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("python scripts/train.py ")
    assert lines[0].endswith(" seed=0 head=fcn")
    wrong = subprocess.run(
        [*script, "ablation=heads", "head=fcn", "seed=0", "data=camvid", "data.root=/nowhere"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: no folder /nowhere")
    # the data is there, and every cell fails: its batch is larger than the data set
    failing = subprocess.run(
        [
            *script,
            "ablation=smoke",
            "head=fcn",
            "seed=0",
            "data.num_train=4",
            "data.num_val=1",
            "data.num_test=1",
            "logger=none",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert failing.returncode == 1
    last = failing.stdout.splitlines()[-1]
    assert last.startswith("failed runs/smoke-scenes/fcn-resnet18-scenes-s0: ValueError: loader.b")


def test_each_folder_with_a_finished_cell_is_collected_before_its_report(grid, tmp_path):
    cells, _ = grid()
    calls = []
    write_reports = runpy.run_path(str(EXPERIMENTS.parent / "scripts/ablate.py"))["write_reports"]
    write_reports.__globals__["collect"] = lambda folder: calls.append(("collect", folder))
    write_reports.__globals__["write_report"] = lambda folder, out: calls.append(("report", folder))
    write_reports(cells)
    assert calls == [("collect", tmp_path / "grid"), ("report", tmp_path / "grid")]
    for cell in cells:
        cell.state = "failed"
    write_reports(cells)
    assert len(calls) == 2


def test_default_jobs_is_the_number_of_cores_without_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert default_jobs() == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert default_jobs() == 3
    monkeypatch.delattr("os.sched_getaffinity")  # macOS
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert default_jobs() == 5


def test_jobs_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run_grid([], script=EXPERIMENTS, jobs=0)
