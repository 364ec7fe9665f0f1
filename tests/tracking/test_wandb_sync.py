"""A run that was cut off and resumed: each logger holds it from its beginning, each row once.

W&B's own client uploads its offline files to a server that stands in for W&B.
"""

import csv
import time
from collections import Counter

import pytest
from fake_wandb import fake_wandb
from offline_files import files_of, of_kind, offline_runs, records, sync
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_config

from segattn.analysis.publish import publish, run_id
from segattn.base.files import digest
from segattn.base.runs import Run
from segattn.tracking.wandb_folder import ARTIFACT_TYPE, PICTURE_FILES, RUN_FILES
from segattn.training.task import SegmentationTask
from segattn.training.train import train

KEYS = ("train/loss", "val/miou", "test/miou")


def start(config: dict, *, steps: int | None = None) -> Run:
    """Train; with `steps`, a power cut ends the training before the step of that number."""
    step, done = SegmentationTask.training_step, []

    def cut_off(self, batch, batch_idx):
        done.append(batch_idx)
        if len(done) == steps:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", cut_off)
        if steps is None:
            return train(config)
        with pytest.raises(RuntimeError, match="power cut"):
            return train(config)
    time.sleep(1.1)  # W&B names the folder of its files by the second
    return Run(config["runs_dir"])


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run that was cut off twice: in its second epoch, and after a validation in its third."""
    words = ("logger.name=[wandb,tensorboard,csv]", "logger.mode=offline", "logger.log_model=true")
    words += ("trainer.max_epochs=3", "+trainer.val_check_interval=1", "head=cs_nl")
    config = tiny_config(tmp_path_factory.mktemp("resumed"), "logger=wandb", *words)
    start(config, steps=3)
    start(config, steps=4)
    return start(config)


def expected(run: Run) -> dict[str, list[tuple[float, float]]]:
    """Epoch and value of every row of metrics.jsonl, by key."""
    rows = run.metrics()
    return {key: [*map(tuple, rows[["epoch", key]].dropna().to_numpy())] for key in KEYS}


def wandb_rows(history: list[dict]) -> dict[str, list[tuple[float, float]]]:
    return {key: [(row["epoch"], row[key]) for row in history if key in row] for key in KEYS}


def same(found: dict, wanted: dict) -> bool:
    pairs = [(sorted(found[key]), sorted(wanted[key])) for key in KEYS]
    return all(first == [pytest.approx(row) for row in second] for first, second in pairs)


def test_newest_offline_files_hold_the_run_once(resumed):
    *older, newest = offline_runs(resumed.path)
    wanted = expected(resumed)
    assert [len(wanted[key]) for key in KEYS] == [3, 6, 1]
    assert same(wandb_rows([h["item"] for h in of_kind(records(newest), "history")]), wanted)
    assert len(older) == 2
    for path in older:
        assert not same(wandb_rows([h["item"] for h in of_kind(records(path), "history")]), wanted)


def test_newest_csv_file_holds_the_run_once(resumed):
    files = sorted(resumed.path.glob("csv/version_*/metrics.csv"))
    assert len(files) == 3
    with files[-1].open() as file:
        rows = list(csv.DictReader(file))
    found = {key: [(float(r["epoch"]), float(r[key])) for r in rows if r[key]] for key in KEYS}
    assert same(found, expected(resumed))
    assert float(rows[-1]["flops"]) == resumed.result["cost"]["flops"]


def test_tensorboard_shows_the_run_once(resumed):
    events = EventAccumulator(str(resumed.path / "tensorboard")).Reload()
    for key, wanted in expected(resumed).items():
        assert [event.value for event in events.Scalars(key)] == pytest.approx(
            [value for _, value in wanted]
        )


@pytest.mark.parametrize("order", ["newest first", "the folder"])
def test_sync_uploads_all_of_a_resumed_run_whatever_is_synced(
    resumed, monkeypatch, tmp_path, order, capsys
):
    folders = [path.parent for path in offline_runs(resumed.path)]
    for mark in folders[-1].glob("*.synced"):  # of the order before
        mark.unlink()
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        if order == "the folder":
            sync(resumed.path / "wandb")
        else:
            sync(folders[-1])
            assert "Skipped 1 synced run(s)" in sync(folders[0])
        (identity,) = server.runs
        there = server.runs[identity]
        assert identity == run_id(resumed)
        assert same(wandb_rows(there["history"]), expected(resumed))
        assert there["artifacts"][identity] == ARTIFACT_TYPE
        scenes = next(row["test/examples"] for row in there["history"] if "test/examples" in row)
        masks = [mask["path"] for scene in scenes["all_masks"] for mask in scene.values()]
        assert len(masks) == 4
        assert {*masks, *scenes["filenames"]} <= {*there["files"]}
        publish(resumed.path)
        assert f"{resumed.path.name}: is there already" in capsys.readouterr().out


def test_artifact_of_an_offline_run_holds_the_run_folder_and_its_model_the_tested_weights(resumed):
    found = records(offline_runs(resumed.path)[-1])
    assert files_of(found, resumed) == {*RUN_FILES, *PICTURE_FILES}
    (model,) = [a for a in of_kind(found, "artifact") if a["type"] == "model"]
    assert [entry["path"] for entry in model["manifest"]["contents"]] == ["last.ckpt"]


def test_model_in_w_and_b_has_the_weights_that_were_tested(tmp_path):
    words = ("logger=wandb", "logger.mode=offline", "logger.log_model=true", "callbacks=best")
    run = train(tiny_config(tmp_path, *words))
    found = records(offline_runs(run.path)[0])
    (model,) = [a for a in of_kind(found, "artifact") if a["type"] == "model"]
    (entry,) = model["manifest"]["contents"]
    assert entry["path"] == "best.ckpt"
    assert run.result["checkpoint"] == digest(run.tested_checkpoint)


def test_a_part_that_was_offline_is_in_the_online_run_too(monkeypatch, tmp_path):
    """W&B has no row of an offline part; and that part would replace the run, if it were synced."""
    words = ("logger=wandb", "trainer.max_epochs=2")
    start(tiny_config(tmp_path, *words, "logger.mode=offline"), steps=3)
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        run = start(tiny_config(tmp_path, *words, "logger.mode=online"))
        assert "Skipped 1 synced run(s)" in sync(offline_runs(run.path)[0].parent)
        (there,) = server.runs.values()
        assert same(wandb_rows(there["history"]), expected(run))


def test_a_run_that_w_and_b_resumes_is_replaced_when_it_is_published(monkeypatch, tmp_path, capsys):
    config = tiny_config(tmp_path, "logger=wandb", "logger.mode=online")
    monkeypatch.setattr("segattn.analysis.publish.COMPARISON_TABLES", {})
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        start(config, steps=3)
        run = start(config)
        (there,) = server.runs.values()
        assert Counter(row["epoch"] for row in there["history"] if "val/miou" in row) == {
            0: 1,
            1: 1,
        }
        assert there["artifacts"] == {run_id(run): ARTIFACT_TYPE}
        publish(run.path)
        publish(run.path)
        out = capsys.readouterr().out
        assert out.count(f"{run.path.name}: http") == out.count(f"{run.path.name}: is there") == 1
        assert same(wandb_rows(there["history"]), expected(run))
