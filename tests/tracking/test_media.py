"""What W&B shows of a run is what its folder holds, read back from its own records."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from offline_files import offline_runs, records
from PIL import Image
from tiny import tiny_config

from segattn.base.runs import Run
from segattn.tracking import media
from segattn.tracking.figures import confusion_figure
from segattn.tracking.media import final_numbers, log_media
from segattn.training import callbacks
from segattn.training import outputs as evidence
from segattn.training.train import train

OFFLINE = ("logger=wandb", "logger.mode=offline")
CS_NL = ("head=cs_nl", "head.channels=8")  # two blocks, whose pictures differ in size


def read_back(folder: Path) -> list[dict]:
    """The records of the only offline run below `folder`."""
    (path,) = offline_runs(folder)
    return records(path)


def history(records: list[dict]) -> dict[str, list]:
    """Every value ever logged, by key."""
    values: dict[str, list] = {}
    for record in records:
        if record["type"] == "history":
            for key, value in record["history"]["item"].items():
                values.setdefault(key, []).append(value)
    return values


def summary(records: list[dict]) -> dict:
    """The last value of each key."""
    numbers: dict = {}
    for record in records:
        if record["type"] == "summary":
            numbers |= record["summary"]["update"]
    return numbers


def config(records: list[dict]) -> dict:
    """The run's config as it was last written; below _wandb it holds charts and class names."""
    merged: dict = {}
    for record in records:
        if record["type"] == "config":
            merged |= record["config"]["update"]
    return merged


def files(run: Run) -> Path:
    (folder,) = run.path.glob("wandb/offline-run-*/files")
    return folder


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """A finished run, and what W&B recorded of it."""
    run = train(tiny_config(tmp_path_factory.mktemp("media"), *CS_NL, *OFFLINE))
    return run, read_back(run.path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same run without W&B."""
    return train(tiny_config(tmp_path_factory.mktemp("plain"), *CS_NL))


def test_records_hold_every_key(online):
    run, records = online
    values = history(records)
    logged = set().union(*map(json.loads, run.metrics_path.read_text().splitlines()))
    assert logged - {"step"} <= values.keys()
    assert {
        "lr",
        "gamma/block.0",
        "gamma/block.1",
        "val/miou",
        "test/iou_size/small",
    } <= values.keys()
    numbers = summary(records)
    costs = ("parameters", "head_parameters", "flops", "images_per_second", "peak_memory_bytes")
    for key in (*costs, "train_seconds"):
        assert numbers[key] == pytest.approx(run.result["cost"][key]), key
    assert numbers["test/miou"] == pytest.approx(run.result["scores"]["miou"])


@pytest.mark.parametrize("key", ["val/scenes", "test/examples"])
def test_scenes_have_masks_with_class_names(online, key):
    run, records = online
    values = history(records)
    assert set(values[f"{key}.count"]) == {2}
    *_, masks = values[f"{key}.all_masks"]
    assert [set(scene) for scene in masks] == 2 * [{"prediction", "ground truth"}]
    names = config(records)["_wandb"]["mask/class_labels"]
    labels = dict(map(str, pair) for pair in enumerate(run.result["data"]["classes"]))
    for mask in ("prediction", "ground truth"):
        assert names[f"{key}_wandb_delimeter_{mask}"]["value"] == labels | {"255": "void"}


def test_masks_are_the_arrays_of_the_run(online):
    run, records = online
    examples = run.examples()
    (masks,) = history(records)["test/examples.all_masks"]
    for position, scene in enumerate(masks):
        for mask, name in (("prediction", "predictions"), ("ground truth", "labels")):
            shown = np.asarray(Image.open(files(run) / scene[mask]["path"]))
            np.testing.assert_array_equal(shown, examples[name][position])


def test_attention_of_every_block_is_shown(online):
    run, records = online
    values = history(records)
    names = [f"{image} block.{k}" for image in run.examples()["names"] for k in (0, 1)]
    assert values["test/attention.captions"] == [names]
    shown = [Image.open(files(run) / path) for path in values["test/attention.filenames"][0]]
    for picture, pixels in zip(shown, media.attention_pictures(run).values(), strict=True):
        assert picture.size == shown[0].size
        height, width = pixels.shape[:2]
        np.testing.assert_array_equal(np.asarray(picture)[:height, :width], pixels)


def test_confusion_is_a_picture(online):
    _, found = online
    assert history(found)["test/confusion.width"][0] > 300


def test_pictures_change_nothing_else(online, plain):
    run, _ = online
    first, second = (
        torch.load(r.checkpoint_path, weights_only=True)["state_dict"] for r in (run, plain)
    )
    assert all(torch.equal(first[key], second[key]) for key in first | second)
    assert run.metrics().equals(plain.metrics())
    assert run.objects().equals(plain.objects())
    assert run.result["scores"] == plain.result["scores"]


def test_attention_that_fails_costs_no_test(tmp_path, monkeypatch):
    def explode(*_):
        raise MemoryError("out of memory")

    monkeypatch.setattr(evidence, "example_attention", explode)
    with pytest.warns(UserWarning, match="pictures left out: MemoryError: out of memory"):
        run = train(tiny_config(tmp_path, *CS_NL, "trainer.max_epochs=1"))
    assert run.result is not None
    assert run.examples_path.exists()
    assert not run.attention_path.exists()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], [0, 3]),
        (["trainer.val_every=3"], [2]),
        (["trainer.val_every=2", "trainer.max_epochs=5"], [1, 3]),
        (["+trainer.num_sanity_val_steps=1"], [0, 3]),
        (["num_examples=0"], []),
    ],
    ids=str,
)
def test_scenes_are_shown_at_the_first_validation_and_the_last(tmp_path, monkeypatch, words, shown):
    epochs = []
    monkeypatch.setattr(callbacks, "picture_loggers", lambda _: ["a logger"])
    monkeypatch.setattr(callbacks, "log_scenes", lambda *_, epoch, **__: epochs.append(epoch))
    train(tiny_config(tmp_path, "trainer.max_epochs=4", *words))
    assert epochs == shown


def test_pictures_are_not_part_of_the_seconds_of_training_and_test(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(callbacks, "picture_loggers", lambda _: ["a logger"])
    monkeypatch.setattr(callbacks, "log_scenes", lambda *_, **__: taken.append(1000))
    monkeypatch.setattr(evidence, "example_attention", lambda *_: taken.append(1000))
    monkeypatch.setattr(callbacks, "_now", lambda _: time.perf_counter() + sum(taken))
    cost = train(tiny_config(tmp_path)).result["cost"]
    assert taken == [1000, 1000, 1000]
    assert max(cost["train_seconds"], cost["test_seconds"]) < 1000


def test_a_picture_that_fails_costs_no_run(tmp_path, monkeypatch):
    def explode(*_):
        raise OSError("disk full")

    monkeypatch.setattr(media, "_masked", explode)
    with pytest.warns(UserWarning, match="pictures left out: OSError: disk full"):
        run = train(tiny_config(tmp_path, "trainer.max_epochs=1", *OFFLINE))
    assert run.status["state"] == "done"
    assert run.result is not None


def log_later(run: Run, folder: Path) -> list[dict]:
    """Records of a W&B run that is made for a folder that is already finished."""
    with wandb.init(mode="offline", dir=folder, settings=wandb.Settings(silent=True)) as later:
        log_media(run, later)
    return read_back(folder)


def test_finished_folder_is_logged_later(plain, tmp_path):
    records = log_later(plain, tmp_path)
    assert {"test/examples.all_masks", "test/confusion.path"} <= history(records).keys()
    assert summary(records)["flops"] == plain.result["cost"]["flops"]


def test_folder_without_pictures_has_the_rest(plain, tmp_path):
    run = Run(tmp_path / "copy")
    shutil.copytree(plain.path, run.path)
    run.examples_path.unlink()
    run.attention_path.unlink()
    values = history(log_later(run, tmp_path))
    assert not [key for key in values if key.startswith(("test/examples", "test/attention"))]
    assert "test/confusion.path" in values


def test_unfinished_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"is not finished: it has no result\.json"):
        log_media(Run(tmp_path), None)


def test_numbers_leave_out_what_the_test_cannot_tell(plain):
    result = plain.result
    result["scores"]["iou/train"] = None
    unknown = [key for key, value in result["scores"].items() if value is None]
    assert unknown
    numbers = final_numbers(result)
    assert not {f"test/{key}" for key in unknown} & numbers.keys()
    assert all(isinstance(value, int | float) for value in numbers.values())


def test_confusion_figure_shows_shares_of_the_true_class(plain):
    result = plain.result
    result["data"]["classes"] = ["road", "bus", "lamp"]
    result["confusion"] = [[3, 1, 0], [0, 0, 0], [0, 2, 2]]
    axes = confusion_figure(result).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["25", "50", "50", "75"]
    shares = axes.images[0].get_array()
    np.testing.assert_array_equal(shares.filled(-1)[:2], [[75, 25, 0], [-1, -1, -1]])
