"""What can go wrong in a run: it says what to do, and the last good state stays."""

import os
import resource
import signal
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from camvid_files import write_camvid
from PIL import Image
from tiny import EXPERIMENTS, tiny_config, weights

from segattn.base.errors import UserError
from segattn.base.files import atomic_path
from segattn.base.runs import load_runs
from segattn.config.compose import compose_config
from segattn.data import scenes
from segattn.data.datamodule import TrainSamples
from segattn.training.callbacks import StatusWriter
from segattn.training.checkpoint import AtomicCheckpointIO
from segattn.training.task import SegmentationTask
from segattn.training.train import run_folder, train


@contextmanager
def file_limit(size):
    """No file may grow beyond `size` bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def same_weights(first, second):
    return all(torch.equal(weights(first)[key], value) for key, value in weights(second).items())


def test_a_loss_that_is_not_finite_names_the_images_of_its_batch(tmp_path):
    wild = ("optimizer.name=sgd", "optimizer.lr=1e30", "optimizer.warmup=0")
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at epoch 0, step 1, on") as told:
        train(tiny_config(tmp_path, *wild))
    (run,) = load_runs(tmp_path / "runs")
    assert run.status["state"] == "failed"
    assert str(told.value) in run.status["error"]
    named = {word.strip(".,") for word in str(told.value).split() if word.startswith("train-0")}
    assert len(named) == 4
    assert "optimizer.lr" in str(told.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("file", ["train/0001TP_train002.png", "trainannot/0001TP_train002.png"])
def test_a_file_that_breaks_in_the_middle_of_training_is_named(
    tmp_path, monkeypatch, workers, file
):
    root = write_camvid(tmp_path / "camvid")
    whole, started = (root / file).read_bytes(), StatusWriter.on_train_epoch_end

    def damage(self, trainer, task):
        started(self, trainer, task)
        (root / file).write_bytes(whole[: len(whole) // 2])

    monkeypatch.setattr(StatusWriter, "on_train_epoch_end", damage)
    config = compose_config(
        [
            *("head=fcn", "head.channels=8", "data=camvid", f"data.root={root}", "logger=none"),
            *(f"runs_dir={tmp_path / 'runs'}", "loader.batch_size=2", "augment.crop=[32,48]"),
            *("loader.cache=false", f"loader.num_workers={workers}", "trainer.max_epochs=3"),
        ],
        folder=EXPERIMENTS,
    )
    with pytest.raises(ValueError, match="cannot read") as told:
        train(config)
    run = run_folder(config)
    assert str(root / file) in str(told.value)
    assert f"cannot read {root / file}" in run.status["error"]
    assert "Traceback" not in run.status["error"]
    (root / file).write_bytes(whole)
    monkeypatch.undo()
    assert train(config).status["state"] == "done"


def test_a_full_disk_leaves_the_last_good_checkpoint_and_the_run_goes_on_later(
    tmp_path, monkeypatch
):
    config = tiny_config(tmp_path, "trainer.max_epochs=3")
    run, save = run_folder(config), AtomicCheckpointIO.save_checkpoint

    def save_on_a_full_disk(self, checkpoint, path, storage_options=None):
        with file_limit(100_000 if checkpoint["epoch"] == 1 else resource.RLIM_INFINITY):
            save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save_on_a_full_disk)
    with pytest.raises(UserError, match=r"no space left for .* start the same command again"):
        train(config)
    assert run.status["state"] == "failed"
    assert torch.load(run.checkpoint_path, weights_only=True)["epoch"] == 0
    assert os.listdir(run.checkpoint_path.parent) == ["last.ckpt"]
    monkeypatch.undo()
    train(config)
    assert same_weights(run, train({**config, "name": "whole"}))


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk can be mounted by root alone")
def test_on_a_disk_that_is_really_full(tmp_path):
    """Room for one checkpoint and not for the next one beside it, then for both."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=13m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        config = {**tiny_config(tmp_path), "runs_dir": str(disk)}
        with pytest.raises(UserError, match=f"no space left for {disk}"):
            train(config)
        run = run_folder(config)
        assert torch.load(run.checkpoint_path, weights_only=True)["epoch"] == 0
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert train(config).status["state"] == "done"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_at_the_result_loses_nothing(tmp_path, monkeypatch):
    from segattn.training import train as module

    config, build = tiny_config(tmp_path), module.build_result

    def build_and_fill(*arguments, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return build(*arguments, **options)

    monkeypatch.setattr(module, "build_result", build_and_fill)
    with file_limit(resource.RLIM_INFINITY), pytest.raises(UserError, match="no space left"):
        train(config)
    run = run_folder(config)
    assert run.result is None
    monkeypatch.undo()
    assert train(config).result is not None


def test_a_file_keeps_its_content_where_the_new_one_does_not_fit(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with file_limit(10), pytest.raises(OSError, match="File too large"), atomic_path(path) as draft:
        draft.write_text("new" * 100)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_full_disk_leaves_no_half_cache(tmp_path):
    source = scenes.Scenes("test", root=str(tmp_path), num_test=2)
    with file_limit(40_000), pytest.raises(ValueError, match=r"cannot write the scenes to .* free"):
        source.load(0)
    assert os.listdir(tmp_path) == []
    source.load(0)


def test_a_cache_of_another_version_is_drawn_anew(tmp_path, monkeypatch):
    scenes.Scenes("test", root=str(tmp_path), num_test=1).load(0)
    (old,) = tmp_path.iterdir()
    for array in old.iterdir():
        array.write_bytes(b"of the time before")
    monkeypatch.setattr(scenes, "SCENES_VERSION", scenes.SCENES_VERSION + 1)
    scenes.Scenes("test", root=str(tmp_path), num_test=1).load(0)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(2**60, dtype=torch.uint8), lambda: bytearray(2**62)]
)
def test_no_memory_says_which_knobs_to_turn(tmp_path, monkeypatch, allocate):
    monkeypatch.setattr(SegmentationTask, "training_step", lambda *_: allocate())
    words = ("head=fla", "head.implementation=reference", "loader.cache=true")
    with pytest.raises(
        UserError, match=r"out of memory .*loader\.eval_batch_size=1 .*crop"
    ) as told:
        train(tiny_config(tmp_path, *words))
    for knob in (
        "cache=false",
        "implementation=auto",
        "protocol=sliding",
        "a smaller loader.batch",
    ):
        assert knob in str(told.value)
    assert "precision" not in str(told.value), "bf16 saves no memory on a CPU"


@pytest.mark.gpu
def test_no_memory_on_a_gpu_says_which_knobs_to_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(
        SegmentationTask, "training_step", lambda *_: torch.empty(2**45, device="cuda")
    )
    with pytest.raises(UserError, match=r"out of memory .*trainer\.precision=bf16"):
        train(tiny_config(tmp_path, "trainer.accelerator=gpu", "trainer.precision=fp32"))


def test_a_killed_process_of_the_loader_is_explained(tmp_path, monkeypatch):
    parent = os.getpid()

    def die(self, key):
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(TrainSamples, "__getitem__", die)
    with pytest.raises(UserError, match=r"process of the loader died .* loader\.num_workers"):
        train(tiny_config(tmp_path, "loader.num_workers=1"))


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("damage", ["code", "half", "no archive"])
def test_a_checkpoint_with_code_or_damage_is_not_loaded(tmp_path, damage):
    config = tiny_config(tmp_path)
    run = train(config)
    run.result_path.unlink()
    whole = run.checkpoint_path.read_bytes()
    if damage == "code":
        torch.save({"state_dict": _Payload(tmp_path / "taken over")}, run.checkpoint_path)
    else:
        content = whole[: len(whole) // 2] if damage == "half" else b""
        run.checkpoint_path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"last\.ckpt is damaged, or holds more than weights.* Delete it"
    ):
        train(config)
    assert not (tmp_path / "taken over").exists()
    run.checkpoint_path.unlink()
    assert train(config).status["state"] == "done"


def test_a_test_set_of_nothing_but_void_is_warned_of(tmp_path):
    root = write_camvid(tmp_path / "data")
    for path in (root / "testannot").iterdir():
        Image.fromarray(np.full((64, 96), 11, np.uint8)).save(path)
    camvid = {"name": "camvid", "root": str(root), "scale": 1.0}
    with pytest.warns(UserWarning, match="no test image has a labelled pixel"):
        run = train(tiny_config(tmp_path, "trainer.max_epochs=1") | {"data": camvid})
    assert run.result["scores"]["miou"] is None
