"""The data is part of what a run is, and what was chosen on the test images says so."""

import json
import shutil

import numpy as np
import pytest
from ade20k_files import write_ade20k
from camvid_files import write_camvid
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only
from tiny import EXPERIMENTS, tiny_config

from segattn.base.errors import UserError
from segattn.config.compose import compose_config
from segattn.training import train as training
from segattn.training.build import build_data
from segattn.training.task import SegmentationTask
from segattn.training.train import run_folder, train


def config_of(root, tmp_path, *words, data="camvid"):
    return compose_config(
        [
            *("head=fcn", "head.channels=4", "encoder=test_resnet", "encoder.weights=null"),
            *(f"data={data}", f"data.root={root}", f"runs_dir={tmp_path / 'runs'}"),
            *("loader.batch_size=2", "loader.eval_batch_size=1", "loader.num_workers=0"),
            *("num_examples=0", "augment.crop=[32,32]", "trainer.max_epochs=3"),
            *("trainer.precision=fp32", "trainer.accelerator=cpu", "logger=none"),
            *("trainer.val_every=1", *words),
        ],
        folder=EXPERIMENTS,
    )


def repaint(path):
    Image.fromarray(255 - np.array(Image.open(path))).save(path)


def add_an_image(root):
    for folder in ("train", "trainannot"):
        shutil.copy(root / folder / "0001TP_train000.png", root / folder / "0001TP_train999.png")
    with (root / "train.txt").open("a") as listing:
        listing.write("0001TP_train999.png\n")


CHANGES = {
    "another image": lambda root: repaint(root / "train/0001TP_train003.png"),
    "another label": lambda root: Image.new("L", (96, 64), 3).save(
        root / "testannot/0001TP_test001.png"
    ),
    "one more image": add_an_image,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_data(tmp_path, monkeypatch, change):
    root = write_camvid(tmp_path / "camvid")
    config = config_of(root, tmp_path)
    step = SegmentationTask.training_step

    def cut(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config)
    shutil.copytree(root, tmp_path / "kept")
    CHANGES[change](root)
    with pytest.raises(UserError, match=r"began on other data than data\.root holds now"):
        train(config)
    moved = config_of(tmp_path / "kept", tmp_path)  # the same files in another place
    assert (
        train(moved).result["training"]["data"] == build_data(moved).source("train").fingerprint()
    )


def test_a_finished_run_is_not_taken_for_one_on_other_data(tmp_path, capsys):
    root = write_camvid(tmp_path / "camvid")
    run = train(config_of(root, tmp_path, "trainer.max_epochs=1"))
    shutil.copytree(root, tmp_path / "copy")
    train(config_of(tmp_path / "copy", tmp_path, "trainer.max_epochs=1"))
    assert "already finished" in capsys.readouterr().out
    repaint(tmp_path / "copy/val/0001TP_val000.png")
    with pytest.raises(UserError, match="val had 3 images and has 3; names or contents differ"):
        train(config_of(tmp_path / "copy", tmp_path, "trainer.max_epochs=1"))
    assert run.result is not None


def test_more_epochs_are_another_run_and_cost_nothing_of_this_one(tmp_path):
    run = train(tiny_config(tmp_path))
    before = run.result_path.read_bytes()
    with pytest.raises(UserError, match=r"trainer\.max_epochs: 2 -> 3\n.*experiment="):
        train(tiny_config(tmp_path, "trainer.max_epochs=3"))
    assert run.result_path.read_bytes() == before


@pytest.mark.parametrize(
    "word",
    [
        *("trainer.enable_progress_bar=true", "trainer.log_every_n_steps=1"),
        *("trainer.profiler=simple", "trainer.enable_model_summary=true"),
    ],
)
def test_what_is_shown_is_no_part_of_the_experiment(tmp_path, capsys, word):
    train(tiny_config(tmp_path, "trainer.max_epochs=1"))
    train(tiny_config(tmp_path, "trainer.max_epochs=1", word))
    assert "already finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "chosen"),
    [("callbacks=best", True), ("callbacks=early_stopping", True), ("callbacks=none", False)],
)
def test_an_epoch_that_was_chosen_on_the_test_images_says_so(tmp_path, word, chosen):
    root = write_ade20k(tmp_path / "ade")
    config = config_of(root, tmp_path, word, "trainer.max_epochs=1", data="ade20k")
    if chosen:
        with pytest.warns(UserWarning, match="val and test are the same images"):
            run = train(config)
    else:
        run = train(config)
    assert run.result["training"].get("chosen_on_test", False) == chosen
    held_out = tiny_config(tmp_path, "callbacks=best", "trainer.max_epochs=1")
    assert "chosen_on_test" not in train(held_out).result["training"]


@pytest.mark.parametrize(
    "words",
    [("callbacks=best", "trainer.val_every=3"), ("callbacks.patience=2", "trainer.val_every=9")],
)
def test_choosing_without_a_validation_is_refused(tmp_path, words):
    with pytest.raises(UserError, match=r"callbacks\.(best|patience) needs a validation, but"):
        tiny_config(tmp_path, *words)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_kept_nor_scored(tmp_path, monkeypatch, weight):
    config = tiny_config(tmp_path, "trainer.val_every=2", "trainer.max_epochs=3")
    end = SegmentationTask.on_train_epoch_end

    def broken(self):
        if self.current_epoch == 1:
            self.model.head.classify[1].bias.data[0] = weight
        end(self)

    monkeypatch.setattr(SegmentationTask, "on_train_epoch_end", broken)
    with pytest.raises(UserError, match=r"not finite after epoch 1 \(first: model\.head\.classify"):
        train(config)
    assert run_folder(config).status["epoch"] == 1, "the checkpoint of epoch 0 is there still"
    monkeypatch.setattr(SegmentationTask, "_check_weights", lambda self: None)
    with pytest.raises(UserError, match="the network gives NaN or infinity on test-00000"):
        train(tiny_config(tmp_path, "trainer.val_every=2", "name=scored"))


def test_a_sanity_check_leaves_neither_seconds_nor_a_score(tmp_path, monkeypatch):
    first = []
    monkeypatch.setattr(
        SegmentationTask,
        "on_train_start",
        lambda self: first.append(run_folder(config).status.get("score")),
        raising=False,
    )
    config = tiny_config(tmp_path, "trainer.num_sanity_val_steps=1")
    sane = train(config)
    plain = train(tiny_config(tmp_path, "name=plain"))
    assert first[0] is None
    assert 0 < sane.result["cost"]["train_seconds"] < 60
    assert sane.metrics().equals(plain.metrics())


def test_the_seconds_are_those_of_the_whole_training(tmp_path, monkeypatch):
    """The best checkpoint is of the first epoch, and has the seconds until then alone."""
    log_scores, seen = SegmentationTask._log_scores, []

    def falling(self, stage, metric, **others):
        scores = log_scores(self, stage, metric, **others)
        if stage == "val":
            self.log("val/miou", 1.0 - 0.1 * self.current_epoch)
        return scores

    monkeypatch.setattr(SegmentationTask, "_log_scores", falling)
    build = training.build_result
    monkeypatch.setattr(
        training,
        "build_result",
        lambda *a, meter, **k: seen.append(meter) or build(*a, meter=meter, **k),
    )
    train(tiny_config(tmp_path, "callbacks=best", "trainer.max_epochs=3"))
    assert seen[0].train_images == 3 * 8


def test_rows_of_an_attempt_whose_checkpoint_is_gone_go_too(tmp_path):
    run = train(tiny_config(tmp_path))
    rows = run.metrics_path.read_text()
    run.checkpoint_path.unlink()
    run.result_path.unlink()
    run.metrics_path.write_text(json.dumps({"epoch": 7, "step": 99, "val/miou": 1.0}) + "\n" + rows)
    assert train(tiny_config(tmp_path)).metrics()["epoch"].max() == 2


def test_lightning_does_not_train_by_variables_that_no_config_knows(tmp_path, monkeypatch):
    monkeypatch.setenv("PL_TRAINER_LIMIT_TRAIN_BATCHES", "1")
    with pytest.raises(UserError, match="unset PL_TRAINER_LIMIT_TRAIN_BATCHES: Lightning would"):
        train(tiny_config(tmp_path))


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_a_left_over_rank_loses_no_result(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning reads it when it is imported
    assert train(tiny_config(tmp_path, "trainer.max_epochs=1")).result is not None
