"""A checkpoint tested again: the same evidence bit for bit, or another protocol and other data."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_wandb import fake_wandb
from tiny import EXPERIMENTS, call_script, tiny_config

from segattn.analysis import compare
from segattn.analysis.publish import publish, run_id
from segattn.analysis.remote import ARTIFACT_TYPE, fetch_runs
from segattn.analysis.tables import gains
from segattn.base.errors import UserError
from segattn.base.runs import Run, load_runs, write_json
from segattn.evaluation.evaluate import evaluate, override_config
from segattn.training.train import train

MEASURED = (
    "images_per_second",
    "train_seconds",
    "test_seconds",
    "peak_memory_bytes",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tiny_config(tmp_path_factory.mktemp("trained"), "head=fla", "head.channels=8"))


def evaluate_it(run, out, *overrides):
    return evaluate(run.checkpoint_path, overrides, folder=EXPERIMENTS, out=out)


def test_the_same_test_gives_the_same_files(trained, tmp_path):
    again = evaluate_it(trained, tmp_path)
    assert again.objects_path.read_bytes() == trained.objects_path.read_bytes()
    assert again.attention_path.read_bytes() == trained.attention_path.read_bytes()
    assert again.config == trained.config | {"experiment": tmp_path.name}
    first, second = trained.result, again.result
    assert (first.pop("experiment"), second.pop("experiment")) == ("default", tmp_path.name)
    assert second["cost"].pop("train_seconds") == first["cost"].pop("train_seconds")
    for result in (first, second):
        result["cost"] = {k: v for k, v in result["cost"].items() if k not in MEASURED}
    assert second == first
    assert again.status["state"] == "done"


def test_another_protocol_is_named_and_changes_the_scores(trained, tmp_path, capsys):
    sliding = "protocol=sliding", "protocol.crop=[64,64]", "protocol.stride=[32,16]"
    run = evaluate_it(trained, tmp_path, *sliding)
    assert run.result["protocol"] == "sliding 64x64, stride 32x16"
    assert run.config["protocol"]["crop"] == [64, 64]
    assert run.result["scores"] != trained.result["scores"]
    assert compare(load_runs(tmp_path)).facts["protocol"] == "sliding 64x64, stride 32x16"
    evaluate_it(trained, tmp_path, *sliding)
    assert "already evaluated" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"another config:\n  protocol\.crop: \[64, 64\] -> None"):
        evaluate_it(trained, tmp_path)


def test_cheap_validation_does_not_carry_the_name_of_the_protocol(tmp_path):
    run = train(tiny_config(tmp_path, "protocol.flip=true", "trainer.val_every=2"))
    metrics = run.metrics()
    assert run.result["protocol"] == "whole, flip"
    assert "val/miou" not in metrics
    assert metrics["val_whole/miou"].notna().sum() == 1
    assert run.status["score"] == {"val_whole/miou": metrics["val_whole/miou"].dropna().item()}
    assert run.status["epoch"] == 2


def test_other_data_and_bins_are_scored(trained, tmp_path):
    run = evaluate_it(trained, tmp_path, "data.num_test=3", "metric.radius=2")
    assert run.result["num_images"] == 3
    assert run.result["metric"]["radius"] == 2
    assert run.result["training"] == trained.result["training"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("protocol=slide", r"unknown protocol 'slide'; choose one of \[.*'sliding', 'whole'\]"),
        ("protocol.name=sliding", r"protocol\.crop"),
        ("protocol.flip=perhaps", "perhaps"),
        ("trainer.max_epochs=99", r"'trainer\.max_epochs=99'.*belongs to the training"),
        ("loader.batch_size=9", "belongs to the training"),
        ("protocol.crop=[64,", r"cannot read 'protocol\.crop=\[64,': a word is"),
        ("head.channels=9", r"cannot evaluate with 'head\.channels=9'.*belongs to the training"),
        ("seed", "an override is key=value"),
        ("metric.bins=1", "bins"),
        ("data.rot=x", "no knob 'rot'"),
        ("data=camvid", r"not set: data\.root; pass data\.root=VALUE"),
    ],
)
def test_overrides_that_do_not_fit_are_named(trained, override, message):
    with pytest.raises(ValueError, match=message):
        override_config(trained.config, [override], folder=EXPERIMENTS)


def test_other_classes_and_missing_files_are_named(trained, tmp_path):
    from camvid_files import write_camvid

    root = write_camvid(tmp_path / "CamVid")
    with pytest.raises(ValueError, match=r"knows 15 classes .*camvid has 11 \(sky"):
        evaluate_it(trained, tmp_path / "out", "data=camvid", f"data.root={root}")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="no checkpoint"):
        evaluate(tmp_path / "none.ckpt", [], folder=EXPERIMENTS)
    alone = tmp_path / "a" / "checkpoints" / "last.ckpt"
    alone.parent.mkdir(parents=True)
    torch.save({}, alone)
    with pytest.raises(ValueError, match=r"config\.yaml is missing; keep a checkpoint"):
        evaluate(alone, [], folder=EXPERIMENTS)
    with pytest.raises(ValueError, match="is the trained run itself"):
        evaluate_it(trained, trained.path.parent)


def test_script_evaluates_beside_the_experiment(trained, monkeypatch, capsys):
    assert call_script(monkeypatch, "evaluate.py", f"checkpoint={trained.checkpoint_path}") == 0
    expected = trained.path.parent.parent / "default-evaluated" / trained.path.name
    assert f"run folder: {expected}" in capsys.readouterr().out
    told = str(call_script(monkeypatch, "evaluate.py", "checkpoint=nowhere"))
    assert told.startswith("error: no checkpoint ")
    assert "nowhere" in told


def test_a_path_is_taken_as_typed_and_the_accelerator_is_this_machines(trained):
    config = trained.config
    config["trainer"]["accelerator"] = "gpu"
    changed = override_config(config, ["data.root=my data #2"], folder=EXPERIMENTS)
    assert changed["data"]["root"] == "my data #2"
    assert changed["trainer"]["accelerator"] == ("gpu" if torch.cuda.is_available() else "cpu")


def test_other_weights_or_data_of_the_same_name_are_no_repetition(trained, tmp_path, monkeypatch):
    run = evaluate_it(trained, tmp_path / "out")
    stamp = run.result_path.stat().st_mtime_ns
    evaluate_it(trained, tmp_path / "out", f"data.root={tmp_path}")  # the same images elsewhere
    assert run.result_path.stat().st_mtime_ns == stamp
    result = run.result
    write_json(run.result_path, {**result, "data": {**result["data"], "sha256": "of others"}})
    with pytest.raises(UserError, match=r"evaluated on other test images than these; name another"):
        evaluate_it(trained, tmp_path / "out")
    write_json(run.result_path, result)
    other = trained.checkpoint_path.with_name("other.ckpt")
    stored = torch.load(trained.checkpoint_path, weights_only=True)
    stored["state_dict"]["model.head.classify.1.bias"] += 1
    torch.save(stored, other)
    with pytest.raises(ValueError, match=r"holds the evaluation of other weights; name another"):
        evaluate(other, [], folder=EXPERIMENTS, out=tmp_path / "out")
    monkeypatch.chdir(trained.path)
    again = evaluate(Path("checkpoints/last.ckpt"), [], folder=EXPERIMENTS, out=tmp_path / "again")
    assert again.result["checkpoint"] == trained.result["checkpoint"]


def test_unfinished_training_is_refused(trained, tmp_path):
    copy = Run(tmp_path / "runs" / "unfinished")
    shutil.copytree(trained.path, copy.path)
    copy.result_path.unlink()
    with pytest.raises(ValueError, match=r"the training of .*unfinished has not finished"):
        evaluate_it(copy, tmp_path / "out")


@pytest.fixture
def both(trained, tmp_path):
    """Copies of a trained run and, beside its experiment, of its evaluation."""
    run = Run(tmp_path / "runs" / "default" / trained.path.name)
    shutil.copytree(trained.path, run.path)
    return run, evaluate_it(run, None, "data.num_test=2")


def test_in_w_and_b_an_evaluation_is_no_seed_of_the_training(both, monkeypatch, tmp_path):
    monkeypatch.setattr("segattn.analysis.publish.COMPARISON_TABLES", {"gains": gains})
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        publish(tmp_path / "runs", media=False)
        comparisons = {"comparison-default", "comparison-default-evaluated"}
        assert set(server.runs) == {*map(run_id, both)} | comparisons
        facts = [server.runs[run_id(run)]["facts"] for run in both]
    group = "default{}-fla-resnet18-scenes"
    assert [f["groupName"] for f in facts] == [group.format(""), group.format("-evaluated")]
    assert [f["jobType"] for f in facts] == ["train", "evaluation"]
    assert [f["tags"] for f in facts] == [["default", "fla"], ["default-evaluated", "fla"]]


def test_training_and_evaluation_are_fetched_apart(both, tmp_path):
    def published(run):
        artifact = SimpleNamespace(
            type=ARTIFACT_TYPE, digest="d", created_at="2026-01-01T00:00:00Z"
        )
        artifact.download = lambda root: shutil.copytree(run.path, root, dirs_exist_ok=True)
        return SimpleNamespace(config=run.config, logged_artifacts=lambda: [artifact])

    api = SimpleNamespace(runs=lambda project: [published(run) for run in both])
    folder = fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api)
    found = {run.path.parent.name: run.result["num_images"] for run in load_runs(folder)}
    assert found == {"default": 4, "default-evaluated": 2}


def test_another_folder_of_the_name_of_the_training_is_still_an_evaluation(trained, tmp_path):
    run = evaluate_it(trained, tmp_path / "default", "data.num_test=2")
    assert run.config["experiment"] == run.result["experiment"] == "default-evaluated"
