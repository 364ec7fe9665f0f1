"""Publishing: W&B holds what the folders hold, once, however often it is done."""

import collections
import json
from pathlib import Path

import pytest
import wandb
from fake_wandb import fake_wandb
from offline_files import NAMES, copy_runs, files_of, of_kind, offline_runs, records, rows, values

from segattn.analysis.publish import publish, run_id
from segattn.analysis.tables import gains
from segattn.base.runs import Run
from segattn.tracking.wandb_folder import ARTIFACT_TYPE, PICTURE_FILES, RUN_FILES


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Two runs, published twice without a server."""
    folder = tmp_path_factory.mktemp("published")
    runs = copy_runs(folder, *NAMES)
    runs[1].examples_path.unlink()
    runs[1].attention_path.unlink(missing_ok=True)
    publish(folder, mode="offline")
    publish(folder, mode="offline")
    return runs, [records(path) for run in runs for path in offline_runs(run.path)]


def test_published_twice_is_there_once(offline):
    runs, found = offline
    assert len(found) == len(runs)
    assert len(offline_runs(runs[0].path.parent)) == len(runs) + 1  # the comparison


def test_history_is_that_of_the_folder(offline):
    for run, found in zip(*offline, strict=True):
        *history, last = [values(h["item"]) for h in of_kind(found, "history")]
        assert history == [pytest.approx(row) for row in rows(run)]
        assert [h["item"]["_step"] for h in of_kind(found, "history")] == list(
            range(len(history) + 1)
        )
        assert last["epoch"] == run.result["training"]["max_epochs"]
        assert "test/iou_by_size.path" in last


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
    (path,) = offline_runs(Run(folder / "wandb").path.parent)[-1:]
    (table,) = folder.glob("wandb/offline-run-*/files/media/table/comparison/gains_*.json")
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


def test_server_has_each_run_once(server, tmp_path):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    publish(tmp_path / "runs")
    del server.runs[run_id(run)]["summary"]["published"]  # as if cut off before the end
    publish(tmp_path / "runs")
    assert set(server.runs) == {run_id(run), "comparison-fixture"}
    there = server.runs[run_id(run)]
    assert [values(row) for row in there["history"][:-1]] == [pytest.approx(r) for r in rows(run)]
    assert sum("test/examples" in row for row in there["history"]) == 1
    assert there["artifacts"][run_id(run)] == ARTIFACT_TYPE
    assert server.runs["comparison-fixture"]["artifacts"]["comparison-fixture"] == "comparison"


def test_upload_that_was_cut_off_goes_on(server, tmp_path):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    published(tmp_path / "runs")
    there = server.runs[run_id(run)]
    del there["history"][5:]
    there["summary"] = dict(collections.ChainMap(*reversed(there["history"])))
    published(tmp_path / "runs")
    assert [values(row) for row in there["history"]] == [pytest.approx(row) for row in rows(run)]


def live_rows(run: Run) -> list[dict]:
    """What a run logs while it trains: two rows of a validated epoch, and pictures in between."""
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    logged = []
    for line in lines:
        line["trainer/global_step"] = line.pop("step")
        logged.append({key: value for key, value in line.items() if value is not None})
        if "val/miou" in line:
            logged.append({"epoch": line["epoch"], "val/scenes": "pictures"})
    return [row | {"_step": step} for step, row in enumerate(logged)]


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 5, 6, 9, 10])
def test_live_run_whose_server_went_away_is_completed(server, tmp_path, taken):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    published(tmp_path / "runs")
    there, live = server.runs[run_id(run)], live_rows(run)
    assert len(live) == 10
    there["history"][:] = live[:taken]
    there["summary"] = dict(collections.ChainMap(*reversed(there["history"])))
    published(tmp_path / "runs")
    found: dict = {}
    for row in there["history"]:
        found.setdefault(row["epoch"], {}).update(values(row) | {"val/scenes": None})
    wanted = {row["epoch"]: pytest.approx(row | {"val/scenes": None}) for row in rows(run)}
    assert found == wanted
    assert [row["_step"] for row in there["history"]] == list(range(len(there["history"])))
    whole = sum("train/loss" in row or "test/miou" in row for row in live[:taken])
    assert len(there["history"]) == taken + len(rows(run)) - whole


def test_another_result_reaches_the_same_run(server, tmp_path):
    (run,) = copy_runs(tmp_path / "runs", NAMES[0])
    published(tmp_path / "runs")
    result = run.result
    result["scores"]["miou"] = 0.125
    run.result_path.write_text(json.dumps(result))
    published(tmp_path / "runs")
    assert set(server.runs) == {run_id(run), "comparison-fixture"}
    assert server.runs[run_id(run)]["summary"]["test/miou"] == 0.125
    assert len(server.runs[run_id(run)]["history"]) == len(rows(run))


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
