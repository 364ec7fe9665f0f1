"""A run in W&B: its place, name and id, and the folder `wandb` with W&B's own files."""

import os
import re
import secrets
import shlex
from pathlib import Path
from typing import Any

from segattn.base.files import atomic_path
from segattn.base.runs import Run, read_json, write_json
from segattn.tracking.login import own_setting

_WHOLE = "segattn.json"  # beside offline files that hold a whole run: of which result, where to
_MAX_NAME, _MAX_TAG = 128, 64  # letters that W&B takes
_MAX_ID = 100  # letters of a name in an id; W&B takes 128 in all
ARTIFACT_TYPE = "run-folder"
RUN_FILES = ("config.yaml", "status.json", "metrics.jsonl", "result.json", "objects.parquet")
"""What the artifact of a run holds; no weights."""
PICTURE_FILES = ("examples.npz", "attention.npz")
"""What it holds with pictures: images of the data set, and the attention on them."""


def place_of(config: dict[str, Any]) -> dict[str, Any]:
    """Entity and project of a run: of its config, else of W&B's settings, else segattn.

    The entity is None for the default one of the login.
    """
    logger = config.get("logger") or {}  # predictions of other code have none
    project = logger.get("project") or own_setting("project") or "segattn"
    return {"entity": logger.get("entity"), "project": project}


def wandb_facts(config: dict[str, Any], *, job_type: str = "train") -> dict[str, Any]:
    """Name, group, job type and tags of a run in W&B.

    Heads compare side by side: the runs of one head share a group, so W&B averages their seeds;
    WANDB_RUN_GROUP is another one, and WANDB_TAGS are added.

    Args:
        config: Of the run.
        job_type: "train", or "evaluation" for a checkpoint that was tested again.
    """
    name, experiment = config["name"], config["experiment"]
    tags = [experiment, config["head"]["name"], *(config.get("logger") or {}).get("tags", ())]
    tags += [tag for tag in own_setting("run_tags") or () if tag not in tags]
    group = own_setting("run_group") or f"{experiment}-{name}".removesuffix(f"-s{config['seed']}")
    return {
        "name": name[:_MAX_NAME],
        "group": group[:_MAX_NAME],
        "job_type": job_type,
        "tags": [tag[:_MAX_TAG] for tag in tags],
    }


def wandb_folder(run: Run) -> Path:
    """The folder `wandb` of a run, made; W&B of this process leaves its files there alone."""
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    # W&B stages artifacts below the home directory otherwise, offline too, and never cleans up
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[variable] = str(folder)
    os.environ.setdefault("WANDB_SILENT", "true")
    return folder


def wandb_id(folder: Path, config: dict[str, Any]) -> str:
    """The run's id: drawn once and kept, so that only a resume of this folder continues it.

    Args:
        folder: `wandb_folder` of the run; id.txt is there.
        config: Of the run.
    """
    path = folder / "id.txt"
    if not path.exists():
        keep_id(folder, identity(config, secrets.token_hex(4)))
    return path.read_text(encoding="utf-8")


def identity(config: dict[str, Any], ending: str) -> str:
    """An id of a run in W&B: experiment and name, as far as W&B takes them, and what tells it."""
    return f"{plain(config['experiment'] + '-' + config['name'])[:_MAX_ID]}-{ending}"


def keep_id(folder: Path, identity: str) -> None:
    """Write id.txt."""
    with atomic_path(folder / "id.txt") as draft:
        draft.write_text(identity, encoding="utf-8")


def run_artifact(run: Run, identity: str, *, media: bool) -> Any:
    """The files of a run that `segattn.analysis.remote` reads, as a wandb.Artifact.

    Args:
        run: Finished.
        identity: Of the run in W&B.
        media: Whether to add `PICTURE_FILES`; those that the run has.
    """
    import wandb

    artifact = wandb.Artifact(plain(identity), type=ARTIFACT_TYPE)
    for name in (*RUN_FILES, *(PICTURE_FILES if media else ())):
        if (run.path / name).exists():
            artifact.add_file(str(run.path / name))
    return artifact


def note_whole(wandb_run: Any, state: dict[str, Any]) -> Path:
    """Note beside the files of a W&B run that was offline that they hold a whole run.

    Args:
        wandb_run: The W&B run.
        state: Of which result, with or without pictures, and where to.

    Returns:
        The folder of the files.
    """
    files = Path(wandb_run.dir).parent
    write_json(files / _WHOLE, state)
    return files


def find_whole(folder: Path, state: dict[str, Any]) -> Path | None:
    """The folder of offline files that hold `state`, None if there are none."""
    notes = sorted(folder.glob(f"offline-run-*/{_WHOLE}"))
    return next((n.parent for n in notes if holds(read_json(n), state)), None)


def holds(there: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether what is there has what `state` says; more pictures than asked for are no harm."""
    return there in (state, state | {"pictures": True})


def sync_command(files: Path) -> str:
    """The command that uploads a folder of offline files."""
    return shlex.join(["wandb", "sync", str(files)])


def plain(name: str) -> str:
    """`name` in the letters that W&B allows in the names of runs and of artifacts."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
