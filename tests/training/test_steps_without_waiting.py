"""A training step reads nothing from the device; what is read later is complete."""

import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from tiny import tiny_config

import segattn
from segattn.base.errors import UserError
from segattn.training import callbacks
from segattn.training.losses import LossWatch
from segattn.training.train import run_folder, train

PACKAGE = str(Path(segattn.__file__).parent)


READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")


class Reads(Callback):
    """Tells steps, and the lines of ours that read a number from a tensor within one.

    That waits for a GPU. A callback before all others, with `End` after them.
    """

    def __init__(self, monkeypatch):
        self.lines, self.within = [], False
        for name in READING:
            monkeypatch.setattr(torch.Tensor, name, self._told(getattr(torch.Tensor, name)))

    def _told(self, read):
        def tell(*args, **options):
            self.within and self.lines.extend(reading_line())
            return read(*args, **options)

        return tell

    def on_train_batch_start(self, *_):
        self.lines.append("step")
        self.within = True


class End(Callback):
    def __init__(self, reads):
        self.reads = reads

    def on_train_batch_end(self, *_):
        self.reads.within = False


def reading_line():
    """The innermost line of ours; train.py is below everything, reads of the optimizer included."""
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(PACKAGE)]
    ours = [Path(f.filename).name for f in frames if not f.filename.endswith("train.py")]
    return ours[-1:]


@pytest.mark.parametrize("head", ["fla", "danet"])
def test_steps_within_an_epoch_read_no_number(tmp_path, monkeypatch, head):
    reads, build = Reads(monkeypatch), pl.Trainer.__init__

    def with_reads(self, *args, callbacks, **options):
        build(self, *args, callbacks=[reads, *callbacks, End(reads)], **options)

    monkeypatch.setattr(pl.Trainer, "__init__", with_reads)
    train(tiny_config(tmp_path, f"head={head}", "data.num_train=16", "trainer.max_epochs=1"))
    # the last step looks at the losses of all
    assert reads.lines == ["step"] * 4 + ["losses.py"]


def at(step: int) -> dict:
    return {"epoch": 0, "step": step, "names": [f"image-{step}"]}


def test_first_loss_that_is_not_finite_is_told_at_the_next_look():
    watch = LossWatch(every=4)
    for step, loss in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, float("nan"), float("inf")]):
        watch.add(torch.tensor(loss), last=False, **at(step))
    with pytest.raises(
        UserError, match=r"the loss is nan at epoch 0, step 5, on the images image-5\."
    ):
        watch.add(torch.tensor(0.0), last=False, **at(7))


def test_last_step_of_an_epoch_looks():
    watch = LossWatch()
    watch.add(torch.tensor(float("inf")), last=False, **at(0))
    with pytest.raises(UserError, match=r"the loss is inf at epoch 0, step 0"):
        watch.add(torch.tensor(1.0), last=True, **at(1))


def test_training_that_ends_amid_an_epoch_looks_before_its_checkpoint(tmp_path):
    wild = ("optimizer.name=sgd", "optimizer.lr=1e30", "optimizer.warmup=0", "data.num_train=16")
    config = tiny_config(tmp_path, *wild, "trainer.max_steps=3", "trainer.max_epochs=1")
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at epoch 0, step 1, on"):
        train(config)
    assert not run_folder(config).checkpoint_path.exists()


def test_clock_of_training_stands_still_during_validation(monkeypatch):
    clock, task = SimpleNamespace(now=0.0), SimpleNamespace(device=torch.device("cpu"))
    monkeypatch.setattr(callbacks, "_now", lambda _: clock.now)
    meter, trainer = callbacks.CostMeter(), SimpleNamespace(world_size=2)

    def wait(seconds):
        clock.now += seconds

    for _ in range(2):
        meter.on_train_epoch_start(trainer, task)
        wait(3)
        meter.on_train_batch_end(trainer, task, None, {"name": ["a", "b"]})
        meter.on_validation_start(trainer, task)
        wait(10)
        meter.on_validation_end(trainer, task)
        wait(1)
        meter.on_train_epoch_end(trainer, task)
        wait(1000)
    assert (meter.train_seconds, meter.train_images) == (8, 8)
