"""Lightning's own callbacks, where a config asks for them: what is kept, tested and resumed."""

import pytest
import torch
from tiny import tiny_config, weights

from segattn.base.files import digest
from segattn.training.task import SegmentationTask
from segattn.training.train import train


def test_the_best_checkpoint_is_kept_and_tested(tmp_path, monkeypatch):
    scores = iter([0.5, 0.1])
    log = SegmentationTask.log

    def log_falling(self, name, value, **more):
        log(self, name, next(scores) if name == "val/miou" else value, **more)

    monkeypatch.setattr(SegmentationTask, "log", log_falling)
    run = train(tiny_config(tmp_path, "callbacks=best"))
    best = torch.load(run.best_path, weights_only=True)
    assert best["epoch"] == 0  # the second one is the last, and worse
    assert run.result["checkpoint"] == digest(run.best_path) != digest(run.checkpoint_path)
    assert run.result["training"]["callbacks"]["best"]


def test_a_training_stops_where_it_gets_no_better(tmp_path):
    words = ("callbacks=early_stopping", "callbacks.patience=1", "optimizer.lr=1e-12")
    run = train(tiny_config(tmp_path, *words, "trainer.max_epochs=20", "augment.scale=[1,1]"))
    assert run.result["training"]["steps"] < 40
    assert run.status["epoch"] < 20


def test_averaged_weights_are_tested_and_resumed_exactly(tmp_path, monkeypatch):
    words = ("callbacks.ema=0.5", "trainer.max_epochs=3")
    whole = train(tiny_config(tmp_path, *words, "name=whole"))
    plain = train(tiny_config(tmp_path, "trainer.max_epochs=3", "name=plain"))
    name = "model.head.classify.1.weight"
    assert not torch.equal(weights(whole)[name], weights(plain)[name])
    step, steps = SegmentationTask.training_step, []

    def cut(self, batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) == 4:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(tiny_config(tmp_path, *words, "name=cut"))
    resumed = train(tiny_config(tmp_path, *words, "name=cut"))
    assert all(torch.equal(weights(resumed)[k], v) for k, v in weights(whole).items())
    assert resumed.result["scores"] == whole.result["scores"]
