"""The runs that a notebook reads: a folder, or runs of W&B, which are fetched into a cache.

A W&B run has the files of its run folder, but for the weights, in an artifact of the type
"run-folder".
"""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from rich.progress import track

import segattn
from segattn.analysis.report import experiment_folders
from segattn.base.commandline import as_path
from segattn.base.errors import UserError
from segattn.base.files import cache_folder
from segattn.base.runs import Run, load_runs
from segattn.tracking.wandb_folder import ARTIFACT_TYPE

PREFIX = "wandb:"
CHECKOUT = Path(segattn.__file__).parents[2]
RUNS_VARIABLE = "SEGATTN_RUNS"
_DIGEST = ".digest"  # names the artifact that a cached folder holds


class RunsError(UserError):
    """No runs were found. A notebook shows the message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this before it prints its own
        return [f"{self}"]


def default_cache() -> Path:
    """Return where fetched run folders are kept: segattn/wandb in the user's cache folder."""
    return cache_folder() / "wandb"


def find_runs_folder(
    root: Path = CHECKOUT / "runs", *, example: str = "results/heads-scenes"
) -> Path:
    """Return the folder of the experiment to look at, with at least one finished run.

    $SEGATTN_RUNS names it: a folder, also one of the checkout, or an address of `fetch_runs`.
    Without it, the experiment below `root` whose run finished last is taken; an experiment
    of scripts/evaluate.py only if nothing else has finished.

    Args:
        root: Folder with the folders of experiments.
        example: A folder of the checkout that the message names to users without runs.

    Raises:
        RunsError: No run has finished, or several experiments are there to choose from.
    """
    given = os.environ.get(RUNS_VARIABLE, "")
    if not given:
        runs = load_runs(root) if root.is_dir() else []
        finished = [run for run in runs if run.result_path.exists()]
        if not finished:
            raise RunsError(
                f"No run below {root} has finished yet. Run `make ablation` first, or the "
                f"short `make ablation-quick`, or set {RUNS_VARIABLE} to a folder, for example "
                f"{example}."
            )
        return max(finished, key=_trained_and_new).path.parent
    if given.startswith(PREFIX):
        return _one_experiment(fetch_runs(given), given=given)
    # a notebook runs in its own folder, not in the folder of the shell
    folder = as_path(given) if as_path(given).is_dir() else CHECKOUT / given
    return _one_experiment(folder, given=given)


def _trained_and_new(run: Run) -> tuple[bool, float]:
    """Sort key: trainings after evaluations, then by the time at which the run finished."""
    # a copied file has another time; only scores of other code have no time of their own
    finished = run.status.get("updated") or run.result_path.stat().st_mtime
    return not run.path.parent.name.endswith("-evaluated"), float(finished)


def _one_experiment(folder: Path, *, given: str) -> Path:
    found = experiment_folders(folder) if folder.is_dir() else []
    if not found:
        raise RunsError(
            f"{RUNS_VARIABLE}={given} has no finished run. Run `make ablation` first, or set it to "
            "a folder of finished runs."
        )
    if len(found) > 1:
        choices = ", ".join(f"{given.rstrip('/')}/{path.relative_to(folder)}" for path in found)
        raise RunsError(
            f"{RUNS_VARIABLE}={given} holds several experiments. Set it to one: {choices}"
        )
    return found[0]


def fetch_runs(address: str, *, cache: Path | None = None, api: Any = None) -> Path:
    """Fetch the run folders of a W&B project into a cache, and return the folder above them.

    A run is the newest one that was published under its experiment and name, whichever W&B run
    holds it. What has not changed stays as it is; what W&B no longer has is removed.

    Args:
        address: "wandb:ENTITY/PROJECT", or "wandb:ENTITY/PROJECT/EXPERIMENT" for one experiment.
        cache: Folder to keep them in, see `default_cache`.
        api: A `wandb.Api`; None makes one, which needs a login.

    Raises:
        RunsError: The address has another form, the project cannot be read, it holds no run
            folder, or a name in it is not a plain file name.
    """
    parts = address.removeprefix(PREFIX).split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise RunsError(
            f"expected wandb:ENTITY/PROJECT or wandb:ENTITY/PROJECT/EXPERIMENT, got {address!r}"
        )
    project, wanted = parts[:2], (parts[2] if len(parts) == 3 else None)
    folder = (cache or default_cache()).joinpath(*map(_plain_name, project))
    artifacts = _run_folders("/".join(project), wanted=wanted, api=api)
    if not artifacts:
        raise RunsError(
            f"{address} holds no published run folder. Publish finished runs first: "
            "python scripts/publish.py RUNS"
        )
    found = {folder.joinpath(*map(_plain_name, key)): one for key, one in artifacts.items()}
    for path, artifact in track(found.items(), description="fetching runs"):
        _download(artifact, path)
    for path in (marker.parent for marker in folder.glob(f"*/*/{_DIGEST}")):
        if path not in found and wanted in (None, path.parent.name):
            shutil.rmtree(path)
    return folder / wanted if wanted else folder


def _run_folders(project: str, *, wanted: str | None, api: Any) -> dict[tuple[str, str], Any]:
    """Return the newest artifact of each run, by experiment and name."""
    import wandb  # slow to import, and only here

    try:
        runs = (api or wandb.Api()).runs(project)
        mine = [r for r in runs if wanted is None or r.config.get("experiment") == wanted]
        artifacts = [(run, a) for run in mine for a in run.logged_artifacts()]
    except (wandb.Error, ValueError) as error:  # ValueError: no such project
        raise RunsError(
            f"cannot read {project} on W&B ({error}). Log in with `wandb login`, and check the "
            "names of entity and project."
        ) from error
    folders = [(run, a) for run, a in artifacts if a.type == ARTIFACT_TYPE]
    # by time: versions count within one W&B run, and several may share experiment and name
    folders.sort(key=lambda pair: pd.to_datetime(pair[1].created_at, utc=True))
    return {(str(run.config["experiment"]), str(run.config["name"])): a for run, a in folders}


def _plain_name(name: str) -> str:
    """Return `name`, which others chose, if it cannot lead out of its folder."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise RunsError(f"a run on W&B has the name {name!r}, which is not a plain folder name")
    return name


def _download(artifact: Any, folder: Path) -> None:
    """Replace a cached folder by the files of an artifact, unless it holds them already."""
    digest = folder / _DIGEST
    if digest.exists() and digest.read_text(encoding="utf-8") == artifact.digest:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parents[2]) as draft:
        files = Path(draft) / "run"
        artifact.download(root=str(files))
        (files / _DIGEST).write_text(artifact.digest, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # it may hold files that the artifact has not
        files.rename(folder)
