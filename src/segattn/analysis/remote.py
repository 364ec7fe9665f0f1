"""Which runs a notebook reads: a folder, or W&B, from where they are fetched into a cache.

scripts/publish.py leaves the files of a run, but for its weights, in an artifact of the type
"run-folder".
"""

import os
from pathlib import Path
from typing import Any

from rich.progress import track

import segattn
from segattn.analysis.report import experiment_folders
from segattn.base.commandline import as_path
from segattn.base.errors import UserError
from segattn.base.runs import load_runs
from segattn.tracking.wandb_folder import ARTIFACT_TYPE

PREFIX = "wandb:"
CHECKOUT = Path(segattn.__file__).parents[2]
RUNS_VARIABLE = "SEGATTN_RUNS"
_DIGEST = ".digest"  # of the artifact that a cached folder holds; written last


class RunsError(UserError):
    """There are no runs to read. A notebook shows the message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this before it prints its own
        return [f"{self}"]


def default_cache() -> Path:
    """Where fetched run folders are kept: segattn/wandb in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segattn" / "wandb"


def find_runs_folder(
    root: Path = CHECKOUT / "runs", *, example: str = "results/heads-scenes"
) -> Path:
    """The folder of the experiment to look at, with at least one finished run.

    $SEGATTN_RUNS names it: a folder, also one of the checkout, or `wandb:ENTITY/PROJECT` with the
    experiment behind another slash where the project has several. Without it, the one below `root`
    with the newest result; one that scripts/evaluate.py made only where there is no other.

    Args:
        root: Of the folders of experiments.
        example: A folder of the checkout that the message names to those without runs.

    Raises:
        RunsError: There is no finished run, or there are several experiments to choose from.
    """
    given = os.environ.get(RUNS_VARIABLE, "")
    if not given:
        runs = load_runs(root) if root.is_dir() else []
        results = [run.result_path for run in runs if run.result_path.exists()]
        if not results:
            raise RunsError(
                f"There is no finished run below {root} yet. Run `make ablation` first, or the "
                f"short `make ablation-quick`, or set {RUNS_VARIABLE} to a folder, for example "
                f"{example}."
            )
        return max(results, key=_trained_and_new).parents[1]
    if given.startswith(PREFIX):
        return _one_experiment(fetch_runs(given), given=given)
    # a notebook runs in its own folder, not in that of the shell
    folder = as_path(given) if as_path(given).is_dir() else CHECKOUT / given
    return _one_experiment(folder, given=given)


def _trained_and_new(result: Path) -> tuple[bool, float]:
    """Any training is before an evaluation, whose folder holds a single run as a rule."""
    return not result.parents[1].name.endswith("-evaluated"), result.stat().st_mtime


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
    """Fetch the run folders of a W&B project; those that have not changed stay as they are.

    Args:
        address: "wandb:ENTITY/PROJECT", or "wandb:ENTITY/PROJECT/EXPERIMENT" for one experiment.
        cache: Folder to keep them in, see `default_cache`.
        api: A `wandb.Api`; None makes one, which needs a login.

    Returns:
        Folder with one folder per experiment, each with its run folders; of one experiment where
        the address names it.

    Raises:
        RunsError: The address has another form, the project cannot be read, it holds no run
            folder, or a name in it is no plain file name.
    """
    parts = address.removeprefix(PREFIX).split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise RunsError(
            f"expected wandb:ENTITY/PROJECT or wandb:ENTITY/PROJECT/EXPERIMENT, got {address!r}"
        )
    project, wanted = parts[:2], (parts[2] if len(parts) == 3 else None)
    folder = (cache or default_cache()).joinpath(*map(_plain_name, project))
    found = _run_folders("/".join(project), wanted=wanted, api=api)
    if not found:
        raise RunsError(
            f"{address} holds no published run folder. Publish finished runs first: "
            "python scripts/publish.py RUNS"
        )
    for (experiment, name), artifact in track(found.items(), description="fetching runs"):
        _download(artifact, folder / _plain_name(experiment) / _plain_name(name))
    return folder / wanted if wanted else folder


def _run_folders(project: str, *, wanted: str | None, api: Any) -> dict[tuple[str, str], Any]:
    """The newest artifact of each run, by experiment and name."""
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
    folders.sort(key=lambda pair: int(pair[1].version.removeprefix("v")))
    return {(str(run.config["experiment"]), str(run.config["name"])): a for run, a in folders}


def _plain_name(name: str) -> str:
    """`name`, which others chose, if it cannot lead out of its folder."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise RunsError(f"a run on W&B has the name {name!r}, which is no plain folder name")
    return name


def _download(artifact: Any, folder: Path) -> None:
    digest = folder / _DIGEST
    if digest.exists() and digest.read_text(encoding="utf-8") == artifact.digest:
        return
    digest.unlink(missing_ok=True)
    artifact.download(root=str(folder))
    digest.write_text(artifact.digest, encoding="utf-8")
