"""A run in W&B: its place, names and id, its rows and files, and the folder `wandb` of the run."""

import hashlib
import os
import re
import secrets
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from segattn.base.files import atomic_path, digest
from segattn.base.runs import Run
from segattn.tracking.login import own_setting

ARTIFACT_TYPE = "run-folder"
RUN_FILES = ("config.yaml", "status.json", "metrics.jsonl", "result.json", "objects.parquet")
"""Files in the artifact of a run. Weights are not among them."""
PICTURE_FILES = ("examples.npz", "attention.npz")
"""Files that an artifact with pictures adds: images of the data set, and the attention on them."""
PUBLISHED = "published"
"""Key of `result_state` in the summary of a W&B run."""


def place_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return entity and project of a run; an entity of None is the default one of the login."""
    logger = config.get("logger") or {}  # predictions of other code have none
    project = logger.get("project") or own_setting("project") or "segattn"
    return {"entity": logger.get("entity"), "project": project}


def wandb_facts(config: dict[str, Any], *, job_type: str = "train") -> dict[str, Any]:
    """Return name, group, job type and tags of a run in W&B.

    The runs of one head share a group, so that W&B averages over their seeds. WANDB_RUN_GROUP
    replaces the group, and WANDB_TAGS are added to the tags.
    """
    name, experiment = config["name"], config["experiment"]
    tags = [experiment, config["head"]["name"], *(config.get("logger") or {}).get("tags", ())]
    tags += [tag for tag in own_setting("run_tags") or () if tag not in tags]
    group = own_setting("run_group") or f"{experiment}-{name}".removesuffix(f"-s{config['seed']}")
    return {
        "name": slug(name),
        "group": slug(group),
        "job_type": job_type,
        "tags": [slug(tag, 64) for tag in tags],
    }


def slug(name: str, length: int = 128) -> str:
    """Return `name` in the letters and the length that W&B takes; different names stay different.

    W&B would average over two heads whose groups are cut to the same letters.
    """
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
    if plain == name and len(name) <= length:
        return name
    return f"{plain[: length - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def wandb_folder(run: Run) -> Path:
    """Make the folder `wandb` of a run, and have W&B keep its own files there alone."""
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    # W&B stages artifacts below the home directory otherwise, offline too, and never cleans up
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[variable] = str(folder)
    os.environ.setdefault("WANDB_SILENT", "true")
    return folder


def wandb_id(run: Run, config: dict[str, Any], *, ending: str | None = None) -> str:
    """Return the id of a run in W&B, which wandb/id.txt of its folder keeps.

    A new id has a random ending, unless one is given.
    """
    path = wandb_folder(run) / "id.txt"
    name = f"{slug(config['experiment'] + '-' + config['name'], 100)}-"
    copied = path.exists() and _is_copy(run, ours=path.read_text().startswith(name))
    if copied or not path.exists():
        unique = secrets.token_hex(4) if copied or ending is None else ending
        keep_id(run, name + unique)
    return path.read_text(encoding="utf-8")


def _is_copy(run: Run, *, ours: bool) -> bool:
    """Whether another folder that is still there has the id of `run`, but not its finished result.

    Args:
        run: The run.
        ours: Whether the id has the run's name: then the folder where the run began counts alone,
            else every folder beside it.
    """
    config = run.config if run.config_path.exists() else {}
    home = Path(config.get("runs_dir") or "", *(config.get(k, "") for k in ("experiment", "name")))
    beside = run.path.resolve().parent.parent.glob("*/*/wandb")
    own = run.path / "wandb" / "id.txt"
    for other in [home / "wandb" / "id.txt"] if ours else [folder / "id.txt" for folder in beside]:
        if other.exists() and not other.samefile(own) and other.read_text() == own.read_text():
            results = [path.parents[1] / "result.json" for path in (own, other)]
            return not all(map(Path.exists, results)) or digest(results[0]) != digest(results[1])
    return False


def keep_id(run: Run, identity: str) -> None:
    """Write the id of a run to wandb/id.txt."""
    with atomic_path(run.path / "wandb" / "id.txt") as draft:
        draft.write_text(identity, encoding="utf-8")


def log_rows(wandb_run: Any, rows: pd.DataFrame) -> None:
    """Log rows of `Run.metrics` to a W&B run as a live run does."""
    # Lightning counts in trainer/global_step; heads are compared by epoch
    wandb_run.define_metric("*", step_metric="epoch")
    for row in rows.rename(columns={"step": "trainer/global_step"}).to_dict("records"):
        wandb_run.log({str(key): value for key, value in row.items() if pd.notna(value)})


def result_state(run: Run, *, media: bool) -> dict[str, Any]:
    """Return what a W&B run holds that has the result of `run`, with or without pictures."""
    return {"result": digest(run.result_path), "pictures": media}


def send_files(run: Run, wandb_run: Any, *, media: bool) -> None:
    """Send the files of a finished run that `segattn.analysis.remote` fetches."""
    import wandb

    artifact = wandb.Artifact(slug(wandb_run.id), type=ARTIFACT_TYPE)
    for name in (*RUN_FILES, *(PICTURE_FILES if media else ())):
        if (run.path / name).exists():
            artifact.add_file(str(run.path / name))
    send_artifact(artifact, wandb_run)


def send_artifact(artifact: Any, wandb_run: Any) -> None:
    """Log an artifact; online, wait until the server has it, or raise an OSError."""
    logged = wandb_run.log_artifact(artifact)
    if not wandb_run.offline:
        try:
            logged.wait(timeout=int(wandb_run.settings.finish_timeout))
        except Exception as error:  # W&B's errors have no common base class
            raise OSError(f"artifact {artifact.name} is not uploaded ({error})") from error


def offline_parts(run: Run, identity: str) -> set[Path]:
    """Return the folders with offline files of a W&B run, below the run folder and WANDB_DIR."""
    pattern = f"wandb/offline-run-????????_??????-{identity}"
    return {*run.path.glob(pattern), *Path(os.environ.get("WANDB_DIR") or run.path).glob(pattern)}


def skip_in_sync(parts: Iterable[Path]) -> None:
    """Have `wandb sync` skip offline files, by its own mark.

    It replaces a run by the files that it is given, so that a part would replace the whole.
    """
    for log in (log for part in parts for log in part.glob("*.wandb")):
        log.with_name(f"{log.name}.synced").touch()


def sync_command(files: Path) -> str:
    """Return the command that uploads a folder of offline files."""
    return shlex.join(["wandb", "sync", str(files)])
