"""The folder `wandb` of a run: its id in W&B, what is published where, and W&B's own files."""

import json
import os
import re
import secrets
import shlex
from pathlib import Path
from typing import Any

from segattn.base.files import atomic_path, digest
from segattn.base.runs import Run, write_json

_MAX_ID = 100  # letters of a name in an id; W&B takes 128 in all
ARTIFACT_TYPE = "run-folder"
RUN_FILES = ("config.yaml", "status.json", "metrics.jsonl", "result.json", "objects.parquet")
"""What the artifact of a run holds; no weights."""
PICTURE_FILES = ("examples.npz", "attention.npz")
"""What it holds with pictures: images of the data set, and the attention on them."""


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


def published(folder: Path) -> dict[str, Any]:
    """What is published where: a record per address, from published.json.

    A record has `digest` (of the results), `where` (a page, or the folder of W&B's files relative
    to the run folder), and of a run `media`.
    """
    path = folder / "published.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def remember(folder: Path, address: str, record: dict[str, Any]) -> None:
    """Add a record to published.json."""
    write_json(folder / "published.json", {**published(folder), address: record})


def remember_offline(run: Run, wandb_run: Any) -> None:
    """Record that the files of a W&B run that was offline hold the whole of `run`."""
    address = offline_address(wandb_run.project, entity=None)
    where = offline_place(wandb_run)
    record = {"digest": digest(run.result_path), "media": True, "where": where}
    remember(wandb_folder(run), address, record)


def offline_address(project: str, *, entity: str | None) -> str:
    """The address of files for `wandb sync`."""
    return "/".join(["files", entity or "", project])


def offline_place(wandb_run: Any) -> str:
    """Folder of the files of a W&B run, relative to the run folder."""
    return f"wandb/{Path(wandb_run.dir).parent.name}"


def sync_command(folder: Path, place: str) -> str:
    """The command that uploads the files at `place`.

    Args:
        folder: `wandb_folder` of the run.
        place: From `offline_place`.
    """
    return shlex.join(["wandb", "sync", str(folder.parent / place)])


def plain(name: str) -> str:
    """`name` in the letters that W&B allows in the names of runs and of artifacts."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
