"""One run from end to end, resumed, repeated, offline and without any network."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from tiny import EXPERIMENTS, call_script, tiny_config, tiny_overrides

from segattn.base.commandline import plain_errors
from segattn.base.runs import Run, load_runs
from segattn.metrics import Measures, image_counts, iou_scores
from segattn.tracking import loggers as logging
from segattn.tracking import login
from segattn.training.optimizers import schedule_factor
from segattn.training.result import environment
from segattn.training.task import SegmentationTask
from segattn.training.train import train

SCRIPT = EXPERIMENTS.parent / "scripts" / "train.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, train(tiny_config(folder, "head=fla", "head.channels=8"))


def test_run_folder_is_complete_and_consistent(finished):
    _, run = finished
    result = run.result
    assert run.status["state"] == "done"
    assert result["num_images"] == 4
    assert result["images"] == [f"test-0000{i}" for i in range(4)]
    assert result["training"]["steps"] == 4
    assert result["cost"]["head_parameters"] < result["cost"]["parameters"]
    assert result["cost"]["flops"] > 0
    assert result["cost"]["images_per_second"] > 0
    assert result["metric"]["radius"] == 16
    metrics = run.metrics()
    assert metrics["val/miou"].notna().sum() == 2
    assert {"train/loss", "val/iou/bus", "val/iou_size/small", "test/iou_shape/thin"} <= set(
        metrics
    )
    assert metrics["test/miou"].dropna().item() == pytest.approx(result["scores"]["miou"])
    # gamma is 0 at the start, and four steps open it a little
    share = result["scores"]["block_share/block"]
    assert 0 < share < 0.1
    assert metrics["test/block_share/block"].dropna().item() == pytest.approx(share)
    options = run.config["optimizer"]
    schedule = {"name": options["schedule"], "warmup": options["warmup"], "total_steps": 4}
    # an epoch of two steps logs what its last step went by
    rates = [options["lr"] * schedule_factor(step, **schedule) for step in (1, 3)]
    assert metrics["lr"].dropna().tolist() == pytest.approx(rates)
    assert rates[-1] > 0
    examples = run.examples()
    assert examples["images"].shape == (2, 64, 96, 3)
    assert examples["predictions"].shape == (2, 64, 96)


def test_object_table_gives_the_scores_of_the_result(finished):
    _, run = finished
    result = run.result
    measures = Measures(**result["metric"])
    counts = image_counts(run.objects(), measures, images=result["images"]).sum(0)
    assert counts[:, 0, 1].sum() == 4 * 64 * 96
    for name, value in iou_scores(counts, measures).items():
        score = result["scores"][name]
        assert score is None if np.isnan(value) else score == float(value), name


def test_second_start_returns_at_once_and_another_config_is_refused(finished, capsys):
    folder, run = finished
    stamp = run.result_path.stat().st_mtime_ns
    run.status_path.write_text('{"state": "running"}')  # killed before it could say "done"
    train(tiny_config(folder, "head=fla", "head.channels=8"))
    assert "already finished" in capsys.readouterr().out
    assert run.result_path.stat().st_mtime_ns == stamp
    assert run.status["state"] == "done"
    assert run.status["epoch"] == 2
    with pytest.raises(ValueError, match=r"another config:\n  optimizer\.lr: 0\.002 -> 0\.1\n"):
        train(tiny_config(folder, "head=fla", "head.channels=8", "optimizer.lr=0.1"))


def test_checkpoint_loads_from_its_path_alone(finished):
    _, run = finished
    task = SegmentationTask.load_from_checkpoint(run.checkpoint_path, weights_only=True).eval()
    examples = run.examples()
    images = torch.from_numpy(examples["images"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        predictions = task(images).logits.argmax(1)
    assert (predictions.numpy() == examples["predictions"]).mean() > 0.999


def test_failure_is_written_down(tmp_path, monkeypatch):
    config = tiny_config(tmp_path)

    def explode(self, batch, batch_idx):
        raise RuntimeError("out of coffee")

    monkeypatch.setattr(SegmentationTask, "training_step", explode)
    with pytest.raises(RuntimeError, match="out of coffee"):
        train(config)
    (run,) = load_runs(tmp_path / "runs")
    assert run.status["state"] == "failed"
    assert run.status["error"] == "RuntimeError: out of coffee"
    assert run.result is None


def test_an_error_of_the_code_keeps_its_traceback():
    """Only segattn's own messages are one line; numpy's "shapes do not match" is a bug to show."""
    with pytest.raises(ValueError, match="cannot reshape"), plain_errors():
        np.reshape([1, 2], (3,))
    with pytest.raises(SystemExit, match="error: no such folder of runs"), plain_errors():
        load_runs(SCRIPT)


class _Damaged(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __getitem__(self, index):
        return load_runs(SCRIPT) if self.error == "ours" else np.reshape([1, 2], (3,))


def test_an_error_in_a_process_of_the_loader_is_told_alike():
    def first(error):
        next(iter(torch.utils.data.DataLoader(_Damaged(error), sampler=[0], num_workers=1)))

    told = r"^error: no such folder of runs.*ablation`\.$"
    with pytest.raises(SystemExit, match=told), plain_errors():
        first("ours")
    with pytest.raises(ValueError, match="cannot reshape"), plain_errors():
        first("numpy's")


def test_the_radius_moves_false_positives_and_no_score_of_a_class(finished, tmp_path):
    _, run = finished
    other = train({**run.config, "runs_dir": str(tmp_path), "metric": {"radius": 0.0}})
    a, b = run.result["scores"], other.result["scores"]
    near, none = (r.objects().query("alarm")["fp"].sum() for r in (run, other))
    assert near < none  # without a radius, all of them are alarms
    assert all(a[key] == b[key] for key in a if key.startswith(("miou", "iou/")))


def test_missing_data_is_one_line_for_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["data=camvid", f"data.root={tmp_path / 'nowhere'}", "logger=none"]
    told = str(call_script(monkeypatch, "train.py", *words))
    assert told.startswith(f"error: no folder {tmp_path / 'nowhere'}")


def test_wandb_offline_keeps_every_key(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train(tiny_config(tmp_path, "logger=wandb", "logger.tags=[extra]"))
    (record,) = run.path.glob("wandb/offline-run-*/*.wandb")
    leet = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(record)],
        capture_output=True,
        text=True,
        check=True,
    )
    text = leet.stdout
    for key in ("val/miou", "val/iou_size/small", "test/iou_shape/thin", "train/loss"):
        assert key in text
    started = next(line for line in text.splitlines() if '"run_id"' in line or '"run":' in line)
    identity = (run.path / "wandb/id.txt").read_text()
    assert identity.startswith("default-fcn-resnet18-scenes-s0-")
    for fact in (identity, '"default-fcn-resnet18-scenes"', "extra", "train"):
        assert fact in started


def test_without_any_network_the_run_is_offline_and_quick(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("network is unreachable")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    started = time.monotonic()
    assert login.resolve_mode("auto") == "offline"
    assert time.monotonic() - started < 5
    run = train(tiny_config(tmp_path, "logger=wandb"))
    assert run.status["state"] == "done"
    assert len(list(run.path.glob("wandb/offline-run-*"))) == 1


def test_server_that_refuses_makes_the_run_offline(tmp_path):
    """A revoked key, a captive portal: something answers, and W&B does not let us in."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(401)

        do_GET = do_POST

        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {name: os.environ[name] for name in os.environ if "WANDB" not in name}
        environment["WANDB_API_KEY"] = "0" * 40
        environment["WANDB_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"
        done = subprocess.run(  # in a process of its own: wandb reads the environment once
            [sys.executable, str(SCRIPT), *tiny_overrides(tmp_path, "logger=wandb")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert "W&B does not start" in done.stdout
    assert "anonymous" not in done.stderr  # a setting of no effect, of which W&B warns
    (run,) = load_runs(tmp_path / "runs")
    assert len(list(run.path.glob("wandb/offline-run-*"))) == 1


def test_the_environment_decides_for_auto_alone(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert login.resolve_mode("auto") == "disabled"
    assert login.resolve_mode("offline") == "offline"


def test_no_key_means_no_prompt(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(login.requests, "head", lambda *_, **__: None)  # a server answers
    assert "no key is set" in login._missing()


def test_half_a_line_of_a_killed_process_is_skipped(tmp_path):
    run = Run(tmp_path)
    rows = [{"epoch": 0, "step": 1, "a": 1.0}, {"epoch": 0, "step": 1, "b": 2.0}]
    run.metrics_path.write_text("\n".join(map(json.dumps, rows)) + '\n{"epoch": 1, "st')
    assert run.metrics().to_dict("records") == [{"epoch": 0, "step": 1, "a": 1.0, "b": 2.0}]
    logger = logging.JsonlLogger(run.metrics_path)
    logger.log_metrics({"epoch": 1, "a": 3.0, "b": float("nan")}, step=2)
    assert run.metrics()["a"].tolist() == [1.0, 3.0]
    assert "NaN" not in run.metrics_path.read_text()


def test_other_config_files_in_a_run_folder_are_no_runs(tmp_path):
    for path in ("a/config.yaml", "a/wandb/run-1/files/config.yaml", "b/config.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    assert [run.path.name for run in load_runs(tmp_path)] == ["a", "b"]


def test_without_git_the_environment_is_still_known(monkeypatch, finished):
    monkeypatch.setenv("PATH", "")
    known = environment(finished[1].config)
    assert known["git_commit"] is None
    assert known["git_dirty"] is None


def test_runs_behind_links_and_in_an_experiment_called_wandb_are_found(finished, tmp_path):
    _, run = finished
    shutil.copytree(run.path, tmp_path / "elsewhere" / "one")
    (tmp_path / "runs" / "wandb").mkdir(parents=True)
    (tmp_path / "runs" / "wandb" / "linked").symlink_to(tmp_path / "elsewhere" / "one")
    (tmp_path / "runs" / "again").symlink_to(tmp_path / "runs")  # a circle
    own = tmp_path / "elsewhere" / "one" / "wandb" / "run-1" / "files"
    own.mkdir(parents=True)
    (own / "config.yaml").write_text("{}")  # W&B's, inside the run folder
    assert [found.path.name for found in load_runs(tmp_path / "runs")] == ["linked"]
