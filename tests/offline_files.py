"""Committed runs to publish, and what W&B's own reader finds in the files of offline runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from segattn.analysis.publish import run_id
from segattn.base.runs import Run
from segattn.tracking.wandb_folder import ARTIFACT_TYPE

FIXTURE = Path(__file__).parent / "fixture" / "runs"
NAMES = ("channel_nl-resnet18-scenes-s0", "spatial_nl-resnet18-scenes-s0")


def copy_runs(folder: Path, *names: str) -> list[Run]:
    """Some of the committed runs, as they were before anybody published them."""
    for name in names:
        shutil.copytree(FIXTURE / name, folder / name)
    return [Run(folder / name) for name in names]


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/wandb/offline-run-*/*.wandb"))


def records(path: Path) -> list[dict]:
    """By W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def sync(path: Path) -> str:
    """Upload offline files by W&B's own client; what it prints."""
    command = [sys.executable, "-m", "wandb", "sync", str(path)]
    # in a folder where its log harms nobody
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=path.parent)
    return done.stderr


def of_kind(found: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in found if record["type"] == kind]


def rows(run: Run) -> list[dict]:
    """metrics.jsonl as the rows of a W&B run."""
    frame = run.metrics().rename(columns={"step": "trainer/global_step"})
    return [row.dropna().to_dict() for _, row in frame.iterrows()]


def values(row: dict) -> dict:
    """Without what W&B adds."""
    return {key: value for key, value in row.items() if not key.startswith("_")}


def files_of(found: list[dict], run: Run) -> set[str]:
    """Of the artifact of a run."""
    (artifact,) = [a for a in of_kind(found, "artifact") if a["type"] == ARTIFACT_TYPE]
    assert artifact["name"] == run_id(run)
    return {entry["path"] for entry in artifact["manifest"]["contents"]}
