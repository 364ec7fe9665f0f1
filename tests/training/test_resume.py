"""A run that was cut off goes on where it was."""

import os
import signal
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from processes import wait_for
from tiny import EXPERIMENTS, tiny_config, tiny_overrides, weights

from segattn.base.errors import UserError
from segattn.base.runs import Run, load_runs
from segattn.data.datamodule import SegmentationData
from segattn.models.encoders import build_encoder
from segattn.training.task import SegmentationTask
from segattn.training.train import train

SCRIPT = EXPERIMENTS.parent / "scripts" / "train.py"


def test_killed_run_resumes_to_the_same_weights_and_table(tmp_path):
    """SIGKILL in the second epoch: the first epoch's checkpoint is there, nothing else is."""
    overrides = tiny_overrides(tmp_path, "head=fla", "head.channels=8", "trainer.max_epochs=20")
    config = tiny_config(tmp_path, "head=fla", "head.channels=8", "trainer.max_epochs=20")
    command = [sys.executable, str(SCRIPT), *overrides]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    run = Run(tmp_path / "runs/default/fla-resnet18-scenes-s0")
    wait_for(lambda: run.checkpoint_path.exists() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run.checkpoint_path.exists()
    assert run.result is None
    resumed = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert resumed.returncode == 0

    config["name"] = "whole"
    whole = _train_with_one_thread(config)
    assert weights(run).keys() == weights(whole).keys()
    assert all(torch.equal(weights(run)[k], weights(whole)[k]) for k in weights(whole))
    assert run.objects().equals(whole.objects())
    epochs = run.metrics()["val/miou"].dropna()
    assert epochs.tolist() == whole.metrics()["val/miou"].dropna().tolist()
    assert len(epochs) == 20


def _train_with_one_thread(config) -> Run:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(config)
    finally:
        torch.set_num_threads(threads)


def test_going_on_needs_no_pretrained_weights(tmp_path, monkeypatch):
    """They may be out of reach by then, as on a node without network."""
    asked = []
    monkeypatch.setattr(
        "segattn.training.build.build_encoder", lambda **_: asked.append(1) or _encoder()
    )
    config = tiny_config(tmp_path, "encoder.weights=imagenet")
    run = train(config)
    run.result_path.unlink()
    train(config)
    assert asked == [1]


def _encoder():
    return build_encoder(name="resnet18", depth=3, output_stride=8, weights=None)


def test_what_is_logged_already_is_not_logged_again(tmp_path, monkeypatch):
    def stop(self, batch, batch_idx):
        if self.current_epoch:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    step = SegmentationTask.training_step
    with monkeypatch.context() as cut_off:
        cut_off.setattr(SegmentationTask, "training_step", stop)
        with pytest.raises(SystemExit):
            train(tiny_config(tmp_path))
    train(tiny_config(tmp_path))
    (run,) = load_runs(tmp_path / "runs")
    assert run.metrics_path.read_text().count('"train/loss"') == 2


@pytest.mark.parametrize("signal_type", [KeyboardInterrupt, SystemExit])
def test_interruption_is_no_error_of_the_run(tmp_path, monkeypatch, signal_type, capsys):
    def stop(self, batch, batch_idx):
        raise signal_type

    monkeypatch.setattr(SegmentationTask, "training_step", stop)
    with pytest.raises(SystemExit):
        train(tiny_config(tmp_path))
    (run,) = load_runs(tmp_path / "runs")
    assert run.status["state"] == "interrupted"
    assert "interrupted; the same command goes on from" in capsys.readouterr().out


def test_weights_that_cannot_be_fetched_are_one_line_before_any_label_is_read(
    tmp_path, monkeypatch
):
    def no_network(*_, **words):
        if words["weights"] is None:
            return whole(*_, **words)
        raise OSError("no address for the host\nand fifty lines more")

    whole = smp.encoders.get_encoder
    monkeypatch.setattr(smp.encoders, "get_encoder", no_network)
    monkeypatch.setattr(SegmentationData, "class_frequencies", lambda _: pytest.fail("read"))
    with pytest.raises(UserError, match=r"cannot fetch .*\(no address.*host\).*HF_HOME"):
        train(tiny_config(tmp_path, "encoder.weights=imagenet"))
