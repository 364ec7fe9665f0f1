"""Run folders from W&B: fetched into a cache, then read like any others.

scripts/publish.py leaves the files of a run, but for its weights, in an artifact of the type
"run-folder".
"""

import os
from pathlib import Path
from typing import Any

from rich.progress import track

from segattn.wandb_folder import ARTIFACT_TYPE

PREFIX = "wandb:"
_DIGEST = ".digest"  # of the artifact that a cached folder holds; written last


class RunsError(ValueError):
    """There are no runs to read. A notebook shows the message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this before it prints its own
        return [f"{self}"]


def default_cache() -> Path:
    """Where fetched run folders are kept: segattn/wandb in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segattn" / "wandb"


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
