"""Publishing: W&B holds what the folders hold, once, however often it is done."""

import json
import time
from pathlib import Path

import pytest
import wandb
import yaml
from fake_wandb import fake_wandb
from offline_files import NAMES, copy_runs, files_of, of_kind, offline_runs, records, rows, values

from segattn.analysis.publish import publish, run_id
from segattn.analysis.tables import gains
from segattn.base.runs import Run, write_json
from segattn.tracking.wandb_folder import ARTIFACT_TYPE, PICTURE_FILES, RUN_FILES


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Two runs, published without a server."""
    folder = tmp_path_factory.mktemp("published")
    runs = copy_runs(folder, *NAMES)
    runs[1].examples_path.unlink()
    runs[1].attention_path.unlink(missing_ok=True)
    publish(folder, mode="offline")
    return runs, [records(path) for run in runs for path in offline_runs(run.path)]


def test_history_is_that_of_the_folder(offline):
    for run, found in zip(*offline, strict=True):
        *history, last = [values(h["item"]) for h in of_kind(found, "history")]
        assert history == [pytest.approx(row) for row in rows(run)]
        assert [h["item"]["_step"] for h in of_kind(found, "history")] == list(
            range(len(history) + 1)
        )
        assert last["epoch"] == run.result["training"]["max_epochs"]
        assert {"test/confusion.width", "test/confusion.path"} <= last.keys()


def test_run_is_told_as_a_live_one(offline):
    for run, found in zip(*offline, strict=True):
        (facts,) = of_kind(found, "run")
        head = run.config["head"]["name"]
        assert facts["run_id"] == run_id(run)
        assert facts["display_name"] == run.path.name
        assert facts["run_group"] == f"fixture-{head}-resnet18-scenes"
        assert facts["job_type"] == "train"
        assert facts["tags"] == ["fixture", head]
        logged = facts["config"]["update"]
        assert {key: logged[key] for key in run.config} == run.config
        assert "git" not in facts  # that of the training stands in result.json
        (metric,) = of_kind(found, "metric")
        assert (metric["glob_name"], metric["step_metric"]) == ("*", "epoch")


def test_summary_holds_the_final_numbers(offline):
    for run, found in zip(*offline, strict=True):
        numbers: dict = {}
        for record in of_kind(found, "summary"):
            numbers |= record["update"]
        assert numbers["flops"] == run.result["cost"]["flops"]
        assert numbers["test/miou"] == pytest.approx(run.result["scores"]["miou"])


def test_folder_without_examples_has_no_pictures_of_the_data(offline):
    with_examples, without = (of_kind(found, "history")[-1]["item"] for found in offline[1])
    assert "test/examples.count" in with_examples
    assert not [key for key in without if key.startswith(("test/examples", "test/attention"))]


def test_artifact_holds_what_the_notebooks_read_and_no_weights(offline):
    runs, found = offline
    assert files_of(found[0], runs[0]) == {*RUN_FILES, *PICTURE_FILES}
    assert files_of(found[1], runs[1]) == set(RUN_FILES)  # it has no pictures


def test_comparison_has_scores_with_intervals(offline):
    folder = offline[0][0].path.parent
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    (table,) = path.parent.glob("files/media/table/comparison/gains_*.json")
    content = json.loads(table.read_text())
    assert {"head", "score", "value", "gain", "low", "high", "seeds"} <= set(content["columns"])
    found = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    miou = {row["head"]: row["value"] for row in found if row["score"] == "miou"}
    assert miou == {
        run.config["head"]["name"]: pytest.approx(100 * run.result["scores"]["miou"], abs=0.01)
        for run in offline[0]
    }
    (artifact,) = [a for a in of_kind(records(path), "artifact") if a["type"] == "comparison"]
    assert artifact["name"] == "comparison-fixture"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "segattn.analysis.publish.COMPARISON_TABLES", {"gains": gains}
    )  # the others take a second
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        yield server


def published(folder: Path, **options) -> None:
    publish(folder, **{"media": False, **options})


def assert_whole(there: dict, run: Run) -> None:
    """W&B has the rows of the run once, and its result."""
    history = [values(row) for row in there["history"]]
    assert history[: len(rows(run))] == [pytest.approx(row) for row in rows(run)]
    assert [row["_step"] for row in there["history"]] == list(range(len(history)))
    assert len(history) - len(rows(run)) == sum("test/confusion" in row for row in history)
    assert there["summary"]["test/miou"] == run.result["scores"]["miou"]
    assert there["state"] == "finished"


def test_server_has_each_run_once(server, tmp_path, capsys):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    publish(tmp_path / "runs")
    facts = server.runs[run_id(run)]["facts"]
    publish(tmp_path / "runs")
    publish(tmp_path / "runs", media=False)  # the pictures stay
    assert capsys.readouterr().out.count(f"{run.path.name}: is there already: http") == 2
    assert set(server.runs) == {run_id(run), "comparison-fixture"}
    there = server.runs[run_id(run)]
    assert_whole(there, run)
    assert there["facts"] is facts
    assert sum("test/examples" in row for row in there["history"]) == 1
    assert there["artifacts"][run_id(run)] == ARTIFACT_TYPE
    assert server.runs["comparison-fixture"]["artifacts"]["comparison-fixture"] == "comparison"


def cut_off(there: dict) -> None:
    del there["history"][2:]
    there["summary"] = dict(there["history"][-1])


def parts(there: dict) -> None:
    """A live run whose server went away has half rows, and pictures between them."""
    there["history"] *= 3
    there["summary"]["published"] = {"result": "of another training", "pictures": True}


def still_uploading(there: dict) -> None:
    """Its summary came before the last picture."""
    there["state"] = "crashed"


@pytest.mark.parametrize("harm", [cut_off, parts, still_uploading])
def test_a_run_that_w_and_b_has_otherwise_is_replaced_as_a_whole(server, tmp_path, capsys, harm):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    published(tmp_path / "runs")
    identity = run_id(run)
    harm(server.runs[identity])
    published(tmp_path / "runs")
    assert f"/runs/{identity} (replaced)" in capsys.readouterr().out
    assert set(server.runs) == {identity, "comparison-fixture"}
    assert_whole(server.runs[identity], run)
    assert not server.deleted


def test_another_result_reaches_the_same_run(server, tmp_path):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    publish(tmp_path / "runs")
    result = run.result
    result["scores"]["miou"] = 0.125
    del result["scores"]["iou_size/small"]
    write_json(run.result_path, result)
    published(tmp_path / "runs")
    there = server.runs[run_id(run)]
    assert set(server.runs) == {run_id(run), "comparison-fixture"}
    assert_whole(there, run)
    assert not {"test/examples", "test/confusion"} & there["summary"].keys()  # of the old result


def test_variables_of_a_sweep_do_not_mix_published_runs(server, tmp_path, monkeypatch):
    for name, value in {"SWEEP_ID": "s", "RUN_ID": "agents", "RESUME": "must"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # W&B reads the environment once
    runs = copy_runs(tmp_path / "runs", *NAMES)
    published(tmp_path / "runs")
    assert set(server.runs) == {*map(run_id, runs), "comparison-fixture"}


def test_refused_files_are_not_taken_for_published(server, tmp_path):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    server.refuse_artifacts = True
    with pytest.raises(ValueError, match=f"W&B failed at .*{NAMES[0]}: artifact .*refused"):
        published(tmp_path / "runs")
    assert "published" not in server.runs[run_id(run)]["summary"]
    server.refuse_artifacts = False
    published(tmp_path / "runs")
    assert server.runs[run_id(run)]["artifacts"] == {run_id(run): ARTIFACT_TYPE}
    assert len(server.runs[run_id(run)]["history"]) == len(rows(run))


def test_refused_run_is_named(server, tmp_path):
    copy_runs(tmp_path / "runs", NAMES[0])
    server.refuse = True
    with pytest.raises(ValueError, match=f"W&B failed at .*{NAMES[0]}: refused.*same command"):
        published(tmp_path / "runs")
    assert not server.runs


def test_nobody_logged_in_sends_nothing(server, tmp_path, monkeypatch):
    (run,) = copy_runs(tmp_path, NAMES[0])
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    with pytest.raises(ValueError, match=r"nobody is logged in.*wandb login.*--mode offline"):
        publish(tmp_path)
    assert not (run.path / "wandb").exists()


def test_id_stays_and_is_the_same_for_a_copy(tmp_path):
    (first,) = copy_runs(tmp_path / "a", NAMES[0])
    (second,) = copy_runs(tmp_path / "b", NAMES[0])
    assert run_id(first) == run_id(second)
    assert run_id(first).startswith(f"fixture-{NAMES[0]}-")
    (other,) = copy_runs(tmp_path / "c", NAMES[1])
    assert run_id(other) != run_id(first)
    first.metrics_path.write_text("")
    assert run_id(first) == run_id(second)


def test_id_of_a_live_run_is_kept(tmp_path):
    (run,) = copy_runs(tmp_path, NAMES[0])
    (run.path / "wandb").mkdir()
    (run.path / "wandb" / "id.txt").write_text("default-fcn-0a1b2c3d")
    assert run_id(run) == "default-fcn-0a1b2c3d"


def test_predictions_of_other_code_are_published_too(tmp_path):
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
    publish(run.path, mode="offline")
    (facts,) = of_kind(records(offline_runs(run.path)[0]), "run")
    assert facts["job_type"] == "evaluation"


def test_numbers_alone_leave_every_picture_out_and_only_the_newest_files_are_synced(
    tmp_path, capsys
):
    (run,) = copy_runs(tmp_path, NAMES[0])
    publish(run.path, mode="offline", media=False)
    assert not list(run.path.glob("wandb/offline-run-*/files/media"))
    assert files_of(records(offline_runs(run.path)[0]), run) == set(RUN_FILES)
    time.sleep(1.1)  # W&B names the folder of its files by the second
    publish(run.path, mode="offline", media=False)
    first, second = sorted(run.path.glob("wandb/offline-run-*"))
    assert f"wandb sync {second}" in capsys.readouterr().out
    assert [*first.glob("*.wandb.synced")]  # `wandb sync` skips it
    assert not [*second.glob("*.synced")]


def test_unfinished_runs_are_named(tmp_path):
    (run,) = copy_runs(tmp_path, NAMES[0])
    run.result_path.unlink()
    with pytest.raises(ValueError, match=r"no run below .* is finished\. Run `make ablation`"):
        publish(tmp_path, mode="offline")


def test_disabled_w_and_b_publishes_nothing(tmp_path, monkeypatch):
    copy_runs(tmp_path, NAMES[0])
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(ValueError, match="WANDB_MODE=disabled publishes nothing"):
        publish(tmp_path, mode="auto")
