import os
import shutil
from types import SimpleNamespace

import pytest
import wandb
from simulated_runs import simulate

from segattn.analysis import compare
from segattn.analysis.remote import RunsError, fetch_runs, find_runs_folder
from segattn.base.runs import load_runs, write_json


class Artifact:
    """An artifact as `wandb.Api` gives it, published on the `day` of a month."""

    def __init__(self, source, *, version=0, type="run-folder", day=1):
        self.source, self.version, self.type = source, f"v{version}", type
        self.digest, self.downloads = f"digest {source} {version}", 0
        self.created_at = f"2026-01-{day:02}T00:00:00Z"

    def download(self, root):
        self.downloads += 1
        shutil.copytree(self.source, root, dirs_exist_ok=True)


def run_of(*artifacts, name, experiment="heads"):
    config = {"experiment": experiment, "name": name}
    return SimpleNamespace(config=config, logged_artifacts=lambda: artifacts)


class Api:
    def __init__(self, *runs):
        self.found = runs

    def runs(self, path):
        assert path == "me/size"
        return self.found


@pytest.fixture
def source(tmp_path):
    return simulate(tmp_path / "source", heads={"fcn": {}}, seeds=(0, 1), num_images=4)


def test_fetched_runs_compare_like_local_ones(source, tmp_path):
    runs = [run_of(Artifact(source / f"fcn-{k}"), name=f"fcn-{k}") for k in range(2)]
    folder = fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=Api(*runs))
    assert folder == tmp_path / "cache" / "me" / "size"
    assert compare(load_runs(folder)).heads == compare(load_runs(source)).heads == ["fcn"]
    assert [run.path.parent.name for run in load_runs(folder)] == ["heads", "heads"]


def test_a_notebook_finds_runs_behind_links(source, tmp_path, monkeypatch):
    monkeypatch.delenv("SEGATTN_RUNS", raising=False)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(source)
    assert find_runs_folder(tmp_path / "runs") == tmp_path / "runs" / "linked"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SEGATTN_RUNS", "~/source")
    assert find_runs_folder() == source


def test_the_experiment_whose_run_finished_last_is_read(source, tmp_path, monkeypatch):
    """The times of files are those of a copy."""
    monkeypatch.delenv("SEGATTN_RUNS", raising=False)
    for experiment, finished in (("old", 1e9), ("new", 2e9), ("new-evaluated", 3e9)):
        shutil.copytree(source / "fcn-0", tmp_path / "runs" / experiment / "fcn-0")
        (run,) = load_runs(tmp_path / "runs" / experiment)
        write_json(run.status_path, {"state": "done", "updated": finished})
    os.utime(tmp_path / "runs" / "old" / "fcn-0" / "result.json", (4e9, 4e9))
    assert find_runs_folder(tmp_path / "runs") == tmp_path / "runs" / "new"


def test_the_newest_of_two_runs_of_one_name_is_taken(source, tmp_path):
    """Versions count within a W&B run: the older run here has had more of them."""
    older = [Artifact(source / "fcn-0", version=k, day=k + 1) for k in range(3)]
    newer = [Artifact(source / "fcn-1", version=0, day=9)]
    for runs in ((older, newer), (newer, older)):
        api = Api(*(run_of(*artifacts, name="fcn-0") for artifacts in runs))
        folder = fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api)
        assert [run.result["seed"] for run in load_runs(folder)] == [1]
    assert [artifact.downloads for artifact in (*older, *newer)] == [0, 0, 0, 1]


def test_files_of_another_run_do_not_stay_in_the_cache(source, tmp_path):
    first, second = (Artifact(source / f"fcn-{k}", day=k + 1) for k in range(2))
    for name in ("examples.npz", "attention.npz"):
        (source / "fcn-0" / name).write_text("a picture of the first run")
        (source / "fcn-1" / name).unlink(missing_ok=True)
    artifacts = [first]
    api = Api(run_of(first, name="gone"), SimpleNamespace(**vars(run_of(name="fcn-0"))))
    api.found[1].logged_artifacts = lambda: artifacts
    folder = fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api) / "heads"
    assert (folder / "fcn-0" / "examples.npz").exists()
    assert {path.name for path in folder.iterdir()} == {"fcn-0", "gone"}
    (folder / "report.html").write_text("a file of the user's")
    artifacts.append(second)
    fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=Api(api.found[1]))
    assert {path.name for path in folder.iterdir()} == {"fcn-0", "report.html"}
    assert not list((folder / "fcn-0").glob("*.npz"))
    assert [run.result["seed"] for run in load_runs(folder)] == [1]


def test_the_newest_version_is_taken_and_only_a_new_one_is_fetched_again(source, tmp_path):
    versions = [Artifact(source / "fcn-0", version=k, day=k) for k in (10, 9)]
    other = Artifact(source / "fcn-1", version=11, type="model", day=11)
    api = Api(run_of(*versions, other, name="fcn-0"))
    for _ in range(2):
        fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api)
    assert [versions[0].downloads, versions[1].downloads, other.downloads] == [1, 0, 0]
    versions[0].digest = "changed"
    fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api)
    assert versions[0].downloads == 2


def test_a_download_that_was_cut_off_is_made_again(source, tmp_path):
    artifact = Artifact(source / "fcn-0")
    artifact.source = tmp_path / "missing"
    api = Api(run_of(artifact, name="fcn-0"))
    with pytest.raises(FileNotFoundError):
        fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api)
    artifact.source = source / "fcn-0"
    folder = fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api)
    assert load_runs(folder)[0].result["seed"] == 0


def test_one_experiment_can_be_named(source, tmp_path):
    runs = [
        run_of(Artifact(source / "fcn-0"), name="fcn-0"),
        run_of(Artifact(source / "fcn-0"), name="fcn-0", experiment="other"),
    ]
    folder = fetch_runs("wandb:me/size/other", cache=tmp_path / "cache", api=Api(*runs))
    assert folder == tmp_path / "cache" / "me" / "size" / "other"
    assert len(load_runs(tmp_path / "cache")) == 1


@pytest.mark.parametrize("address", ["wandb:me", "wandb:me/size/heads/fcn", "wandb:me//heads"])
def test_other_addresses_are_refused(address):
    with pytest.raises(RunsError, match="expected wandb:ENTITY/PROJECT"):
        fetch_runs(address, api=Api())


def test_a_project_without_run_folders_names_the_command(tmp_path):
    with pytest.raises(RunsError, match=r"scripts/publish\.py RUNS"):
        fetch_runs("wandb:me/size", cache=tmp_path, api=Api(run_of(name="fcn-0")))


@pytest.mark.parametrize("error", [ValueError("no project"), wandb.Error("401")])
def test_a_project_that_cannot_be_read_names_login(tmp_path, error):
    class Closed:
        def runs(self, path):
            raise error

    with pytest.raises(RunsError, match=f"cannot read me/size on W&B.*{error}.*wandb login"):
        fetch_runs("wandb:me/size", cache=tmp_path, api=Closed())


@pytest.mark.parametrize("name", ["../../home", "..", "a/b", ""])
def test_a_name_cannot_lead_out_of_the_cache(source, tmp_path, name):
    api = Api(run_of(Artifact(source / "fcn-0"), name=name))
    with pytest.raises(RunsError, match="not a plain folder name"):
        fetch_runs("wandb:me/size", cache=tmp_path / "cache", api=api)
