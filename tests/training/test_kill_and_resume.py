"""A run that is cut off at any point ends as one that never was, whatever it was told to keep."""

import pytest
import torch
from tiny import tiny_config
from torch import nn

from segattn.base.runs import Run
from segattn.training.callbacks import StatusWriter
from segattn.training.checkpoint import AtomicCheckpointIO
from segattn.training.outputs import Evidence
from segattn.training.task import SegmentationTask
from segattn.training.train import train

SMALL = (
    *("encoder=test_resnet", "head.channels=4", "head.dropout=0.3", "data.width=64"),
    *("loader.batch_size=2", "data.num_train=4", "trainer.max_epochs=4", "data.num_test=2"),
)
MODES = {
    "plain": (),
    "workers": ("loader.num_workers=1",),
    "best": ("callbacks=best",),
    "early stopping": ("callbacks=early_stopping", "callbacks.patience=1", "trainer.max_epochs=9"),
    "ema": ("callbacks.ema=0.5",),
    "best and ema": ("callbacks=best", "callbacks.ema=0.5"),
    "compiled": ("trainer.compile=true",),
    "val_every": ("callbacks=best", "trainer.val_every=2"),
    "val_check_interval": ("callbacks=best", "trainer.val_check_interval=1"),
    "accumulated": ("trainer.accumulate_grad_batches=2", "data.num_train=6"),
    "max_steps": ("trainer.max_steps=7",),
}
SCORES = [0.3, 0.9, 0.5, 0.4, 0.2, 0.1, 0.05, 0.04, 0.03]


class Cut(Exception):
    """The end of a process."""


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    """The second epoch has the best validation; nothing is compiled by a compiler."""
    log_scores, compile_module = SegmentationTask._log_scores, nn.Module.compile

    def log(self, stage, metric, **others):
        scores = log_scores(self, stage, metric, **others)
        if stage == "val":
            self.log("val/miou", SCORES[self.current_epoch])
        return scores

    monkeypatch.setattr(SegmentationTask, "_log_scores", log)
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_module(self, backend="eager"))


def cut_in_a_step(patch):
    step = SegmentationTask.training_step

    def cut(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (2, 1):
            raise Cut
        return step(self, batch, batch_idx)

    patch.setattr(SegmentationTask, "training_step", cut)


def cut_before_the_last_checkpoint(patch):
    """Its row is logged and best.ckpt is saved by then."""
    save = AtomicCheckpointIO.save_checkpoint

    def cut(self, checkpoint, path, storage_options=None):
        if checkpoint["epoch"] == 1 and "last" in str(path):
            raise Cut
        save(self, checkpoint, path, storage_options)

    patch.setattr(AtomicCheckpointIO, "save_checkpoint", cut)


def cut_in_the_test(patch):
    def cut(self, trainer, task):
        raise Cut

    patch.setattr(Evidence, "on_test_end", cut)


def cut_after_the_result(patch):
    write = StatusWriter.write

    def cut(self, state, **details):
        if state == "done":
            raise Cut
        write(self, state, **details)

    patch.setattr(StatusWriter, "write", cut)


POINTS = (
    cut_in_a_step,
    cut_before_the_last_checkpoint,
    cut_in_the_test,
    cut_after_the_result,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kill")


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(folder, monkeypatch, mode):
    words = (*SMALL, *MODES[mode], f"experiment={mode.replace(' ', '-')}")
    whole = train(tiny_config(folder, *words, "name=whole"))
    if "best" in mode or mode.startswith(("early", "val_")):
        assert torch.load(whole.best_path, weights_only=True)["epoch"] == 1
    for point in POINTS:
        name = f"name={point.__name__}"
        with monkeypatch.context() as patch:
            point(patch)
            with pytest.raises(Cut):
                train(tiny_config(folder, *words, name))
        run = train(tiny_config(folder, *words, name))
        assert_equal(run, whole)


def assert_equal(run: Run, whole: Run) -> None:
    for name in ("checkpoint_path", "tested_checkpoint"):
        found, expected = (torch.load(getattr(r, name), weights_only=True) for r in (run, whole))
        assert found["epoch"] == expected["epoch"], name
        assert found["global_step"] == expected["global_step"], name
        assert str(found["optimizer_states"]) == str(expected["optimizer_states"]), name
        for key, value in expected["state_dict"].items():
            assert torch.equal(found["state_dict"][key], value), (name, key)
    assert run.metrics().equals(whole.metrics())
    assert run.objects().equals(whole.objects())
    assert run.status["state"] == "done"
    for key in whole.result.keys() - {"name", "cost", "checkpoint", "environment"}:
        assert run.result[key] == whole.result[key], key


def test_a_moved_run_folder_keeps_its_best_score(folder, monkeypatch):
    words = (*SMALL, "callbacks=best", "experiment=moved")
    with monkeypatch.context() as patch:
        cut_in_a_step(patch)
        with pytest.raises(Cut):
            train(tiny_config(folder, *words))
    (folder / "runs/moved").rename(folder / "elsewhere-moved")
    elsewhere = folder / "elsewhere" / "moved"
    elsewhere.parent.mkdir()
    (folder / "elsewhere-moved").rename(elsewhere)
    run = train(tiny_config(folder, *words, f"runs_dir={folder / 'elsewhere'}"))
    assert torch.load(run.best_path, weights_only=True)["epoch"] == 1


def test_without_a_validation_the_last_weights_are_the_best_and_said_so(folder, capsys):
    words = (*SMALL, "callbacks=best", "trainer.max_steps=1", "trainer.val_every=2")
    run = train(tiny_config(folder, *words, "experiment=none"))
    assert "no validation came" in capsys.readouterr().out
    found, last = (
        torch.load(path, weights_only=True) for path in (run.best_path, run.checkpoint_path)
    )
    assert found["global_step"] == last["global_step"] == 1
