"""The workspace names only keys that runs log, groups them by head, and needs no login to print."""

import inspect
import json
import re
import sys
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_wandb import fake_wandb
from tiny import call_script

from segattn.base.runs import Run
from segattn.tracking import media
from segattn.tracking.dashboard import (
    build_workspace,
    find_baseline,
    save_workspace,
    workspace_json,
)
from segattn.tracking.media import final_numbers
from segattn.training import callbacks

# wandb-workspaces 0.4.13 on pydantic 2.14
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
RUN = Run(ROOT / "tests" / "fixture" / "runs" / "spatial_nl-resnet18-scenes-s0")


@pytest.fixture
def spec():
    workspace = build_workspace(entity="me", project="segattn", experiment="heads-scenes")
    return json.loads(workspace_json(workspace))["spec"]["section"]


def panels(spec: dict, kind: str) -> list[dict]:
    found = [p for section in spec["panelBankConfig"]["sections"] for p in section["panels"]]
    return [panel["config"] for panel in found if panel["viewType"] == kind]


def filters(runs: dict) -> dict:
    return {f["key"]["name"]: f["value"] for f in runs["filters"]["filters"]}


def test_sections(spec):
    assert [section["name"] for section in spec["panelBankConfig"]["sections"]] == [
        "IoU by object size",
        "Learning curves (validation)",
        "Efficiency",
        "Predictions",
    ]


def test_bars_show_every_group_with_the_spread_of_seeds(spec):
    bars = panels(spec, "Bar Chart")
    sizes = [f"test/iou_size/{name}" for name in ("small", "medium", "large")]
    groups = [f"test/iou_group/{name}" for name in ("small", "large", "thin")]
    keys = ("test/miou", *sizes, "test/iou_shape/thin", *groups)
    assert [bar["metrics"] for bar in bars] == [[key] for key in keys]
    for bar in bars:
        assert (bar["groupBy"], bar["groupAgg"], bar["groupArea"]) == ("group", "mean", "stddev")
    # a data set without large classes has no such group
    assert set(keys[:5]) <= {f"test/{name}" for name in RUN.result["scores"]}


def test_curves_are_logged_over_the_epoch(spec):
    lines = panels(spec, "Run History Line Plot")
    logged = RUN.metrics().columns
    for line in lines:
        assert line["xAxis"] == "epoch"
        assert line["groupBy"] == "group"
        assert {key.replace("val_whole/", "val/") for key in line["metrics"]} <= set(logged)
    # a run has the first, or where its test is not on whole images the second
    assert ["val/miou", "val_whole/miou"] in [line["metrics"] for line in lines]
    assert [line["metricRegex"] for line in lines if not line["metrics"]] == ["gamma/.*"]
    assert any(key.startswith("gamma/") for key in logged)


def test_scatter_sets_scores_against_costs(spec):
    points = [(plot["xAxis"], plot["yAxis"]) for plot in panels(spec, "Scatter Plot")]
    assert ("summary:flops", "summary:test/miou") in points
    keys = {key.removeprefix("summary:") for pair in points for key in pair}
    assert keys <= final_numbers(RUN.result).keys()


def test_pictures_are_those_that_runs_log(spec):
    keys = {key for panel in panels(spec, "Media Browser") for key in panel["mediaKeys"]}
    source = inspect.getsource(media) + inspect.getsource(callbacks)
    assert keys == {"test/examples", "test/attention", "val/scenes", "test/confusion"}
    assert all(f'"{key}"' in source for key in keys)


def test_runs_of_an_experiment_are_grouped_by_head(spec):
    (runs,) = spec["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [("run", "group")]
    assert filters(runs) == {"experiment": "heads-scenes"}


def test_evaluations_are_not_averaged_with_the_trainings_of_a_project():
    workspace = build_workspace(entity="me", project="segattn")
    (runs,) = json.loads(workspace_json(workspace))["spec"]["section"]["runSets"]
    assert filters(runs) == {"jobType": "train"}


def a_run(name: str, head: str, *, experiment: str = "heads", state: str = "finished"):
    config = {"experiment": experiment, "head": {"name": head}}
    return SimpleNamespace(id=name, config=config, state=state)


@pytest.mark.parametrize(
    ("experiment", "wanted"), [(None, "other"), ("heads", "newest"), ("nothing", None)]
)
def test_baseline_is_the_newest_finished_run_of_fcn(experiment, wanted):
    runs = [
        SimpleNamespace(id="comparison", config={}, state="finished"),
        a_run("unfinished", "fcn", state="crashed"),
        a_run("fla", "fla"),
        a_run("other", "fcn", experiment="other"),
        a_run("newest", "fcn"),
        a_run("older", "fcn"),
    ]
    api = SimpleNamespace(
        runs=lambda path, order: {("me/segattn", "-created_at"): runs}[path, order]
    )
    assert find_baseline(entity="me", project="segattn", experiment=experiment, api=api) == wanted


def test_script_pins_the_baseline_that_w_and_b_has(monkeypatch, tmp_path):
    with fake_wandb(monkeypatch, tmp_path) as server:
        for name in ("fcn", "fla"):
            config = {"head": {"value": {"name": name}}}
            facts = {"config": json.dumps(config)}
            server.runs[f"run-{name}"] = {"facts": facts, "state": "finished", "summary": {}}
        assert call_script(monkeypatch, "dashboard.py", "--save") == 0
        (runs,) = json.loads(server.views[0]["spec"])["section"]["runSets"]
        assert b64decode(runs["baselineRunId"]) == b"Run:v1:run-fcn:segattn:me"
        assert runs["pinnedRunIds"] == [runs["baselineRunId"]]


def test_saved_is_what_is_printed(monkeypatch, tmp_path):
    with fake_wandb(monkeypatch, tmp_path) as server:
        workspace = build_workspace(entity="me", project="segattn")
        printed = json.loads(workspace_json(workspace))
        page = save_workspace(workspace)
        assert page.startswith(f"{server.url}/me/segattn?nw=")
        (view,) = server.views
        assert json.loads(view["spec"]) == printed["spec"]
        server.refuse = True
        with pytest.raises(ValueError, match=r"does not save a view in me/segattn: refused"):
            save_workspace(workspace)


def test_script_prints_without_a_login(monkeypatch, capsys):
    call_script(monkeypatch, "dashboard.py", "--dry-run", "--project", "mine")
    assert json.loads(capsys.readouterr().out)["project"] == "mine"


def test_script_wants_a_login_to_save(monkeypatch, tmp_path):
    with fake_wandb(monkeypatch, tmp_path):
        monkeypatch.delenv("WANDB_API_KEY")
        told = str(call_script(monkeypatch, "dashboard.py", "--save"))
        assert re.match("error: nobody is logged in .*with `wandb login`", told)


def test_missing_package_is_named_before_a_login(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with fake_wandb(monkeypatch, tmp_path):
        monkeypatch.delenv("WANDB_API_KEY")
        told = str(call_script(monkeypatch, "dashboard.py", "--save"))
        assert re.search(r"needs wandb-workspaces .*\[dashboard\]", told)
