"""Publishing without a server: one folder of files per run, whoever wrote it, found where it is."""

import shutil
import time

import pytest
import yaml
from offline_files import NAMES, copy_runs, files_of, of_kind, offline_runs, records, rows
from pytorch_lightning import Trainer
from tiny import tiny_config

from segattn.analysis.publish import publish
from segattn.analysis.tables import gains
from segattn.base.runs import write_json
from segattn.tracking.wandb_folder import PICTURE_FILES, RUN_FILES
from segattn.training.train import train

pytestmark = pytest.mark.usefixtures("cheap_comparison")


@pytest.fixture
def cheap_comparison(monkeypatch):
    monkeypatch.setattr(
        "segattn.analysis.publish.COMPARISON_TABLES", {"gains": gains}
    )  # the others take a second


def test_numbers_alone_leave_every_picture_out(tmp_path, capsys):
    (run,) = copy_runs(tmp_path, NAMES[0])
    publish(tmp_path, mode="offline", media=False)
    assert not list(run.path.glob("wandb/offline-run-*/files/media"))
    (numbers,) = offline_runs(run.path)
    assert files_of(records(numbers), run) == set(RUN_FILES)
    capsys.readouterr()
    time.sleep(1.1)  # W&B names the folder of its files by the second
    publish(tmp_path, mode="offline")  # now with them
    assert len(list(run.path.glob("wandb/offline-run-*/files/media"))) == 1
    assert f"(do not sync {numbers.parent.name} too)" in capsys.readouterr().out
    publish(tmp_path, mode="offline", media=False)
    assert "is written already: wandb sync" in capsys.readouterr().out


def test_offline_files_count_where_they_are(tmp_path, capsys):
    copy_runs(tmp_path / "before", NAMES[0])
    publish(tmp_path / "before", mode="offline", media=False)
    moved = (tmp_path / "before").rename(tmp_path / "moved here")
    capsys.readouterr()
    publish(moved, mode="offline", media=False)
    told = capsys.readouterr().out
    files = [path.parent for path in offline_runs(moved)]
    assert len(files) == 2  # the run and the comparison
    assert all(f"is written already: wandb sync '{path}'" in told for path in files)
    for path in files:
        shutil.rmtree(path)
    publish(moved, mode="offline", media=False)
    assert "already" not in capsys.readouterr().out
    assert len(offline_runs(moved)) == 2


def test_a_training_that_was_offline_is_not_written_twice(tmp_path, capsys):
    run = train(tiny_config(tmp_path, "head=danet", "logger=wandb", "logger.mode=offline"))
    capsys.readouterr()
    publish(run.path, mode="offline")
    (path,) = offline_runs(run.path)
    assert f"is written already: wandb sync {path.parent}" in capsys.readouterr().out
    assert files_of(records(path), run) == {*RUN_FILES, *PICTURE_FILES}


def test_a_training_that_was_offline_from_the_middle_is_written_as_a_whole(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise OSError("power cut")

    with monkeypatch.context() as cut_off:
        cut_off.setattr(Trainer, "test", stop)
        with pytest.raises(OSError, match="power cut"):
            train(tiny_config(tmp_path))
    run = train(tiny_config(tmp_path, "logger=wandb", "logger.mode=offline"))
    publish(run.path, mode="offline")
    whole = offline_runs(run.path)[-1]  # after what is left of the training
    assert len(offline_runs(run.path)) == 2
    assert len(of_kind(records(whole), "history")) == 1 + len(rows(run))


def test_predictions_of_other_code_are_published_too(tmp_path, capsys):
    """They have neither a logger, nor costs, nor a training."""
    (run,) = copy_runs(tmp_path, NAMES[0])
    for name in ("metrics.jsonl", "examples.npz", "attention.npz"):
        (run.path / name).unlink(missing_ok=True)
    config, result = run.config, run.result
    known = {key: config[key] for key in ("experiment", "name", "seed", "head", "data", "metric")}
    run.config_path.write_text(yaml.safe_dump(known))
    for key in ("cost", "training", "encoder"):
        del result[key]
    write_json(run.result_path, {**result, "protocol": None})
    publish(tmp_path, mode="offline")
    assert f"{NAMES[0]}: wandb sync" in capsys.readouterr().out
    (facts,) = of_kind(records(offline_runs(run.path)[0]), "run")
    assert facts["job_type"] == "evaluation"
