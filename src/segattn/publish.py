"""Finished run folders as runs of W&B: at any time, and as often as one likes.

The run folder is the truth and W&B a view of it, so publishing again must add nothing. Three things
see to that. A run has one id, kept in its folder. Rows up to those that its summary in W&B tells of
are left out; so an upload that was cut off goes on, and a run that was logged while it trained is
only completed. And what is published where stands in the folder, in wandb/published.json.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from segattn.analysis.catalogue import TIDY
from segattn.analysis.comparison import compare
from segattn.analysis.remote import ARTIFACT_TYPE
from segattn.arguments import check_choice
from segattn.files import atomic_path
from segattn.logging import resolve_mode, wandb_facts, wandb_folder, wandb_settings
from segattn.login import log_in
from segattn.media import final_numbers, log_media
from segattn.runs import Run, load_runs, write_json

MODES = ("online", "offline", "auto")
RUN_FILES = ("config.yaml", "status.json", "metrics.jsonl", "result.json", "objects.parquet")
"""What the artifact of a run holds: no pictures, and no weights."""
COMPARISON_TABLES = ("heads", "differences", "costs")
"""What the artifact of an experiment holds, of `segattn.analysis.catalogue.TIDY`."""

_OFFLINE = "Or write files with --mode offline, and upload them later with `wandb sync`."


@dataclass(frozen=True)
class Target:
    """Where to publish.

    Attributes:
        mode: "online" or "offline".
        entity: User or team; None offline, where it is not known before `wandb sync`.
        project: None for the project in the config of each run.
    """

    mode: Literal["online", "offline"]
    entity: str | None
    project: str | None

    def address(self, project: str) -> str:
        """What tells two places apart, in published.json."""
        server = os.environ.get("WANDB_BASE_URL", "wandb.ai") if self.mode == "online" else "files"
        return "/".join([server, self.entity or "", project])


def publish(
    folder: Path,
    *,
    project: str | None = None,
    entity: str | None = None,
    mode: str = "online",
    media: bool = True,
) -> None:
    """Publish every finished run below `folder`, and a comparison of each experiment.

    Args:
        folder: Of runs, of one or several experiments.
        project: None for the one in the config of each run.
        entity: User or team; None for the default of the login.
        mode: One of `MODES`; "offline" leaves files for `wandb sync` in the run folders, "auto"
            does so where there is no server or no key.
        media: Whether to send pictures and charts too. Examples hold images of the data set,
            whose licence has to allow that.

    Raises:
        ValueError: No run is finished, W&B does not let us in, or it failed on the way; what was
            published before stays, and the same call goes on from there.
    """
    runs = [run for run in load_runs(folder) if run.result is not None]
    if not runs:
        raise ValueError(f"no run below {folder} is finished. Run `make ablation`, or wait for it.")
    target = _target(mode, entity=entity, project=project)
    for number, run in enumerate(runs, start=1):
        with _named_errors(run.path):
            done = _publish_run(run, target, media=media)
        print(f"[{number}/{len(runs)}] {run.path.name}: {done}", flush=True)
    for experiment in dict.fromkeys(run.path.parent for run in runs):
        members = [run for run in runs if run.path.parent == experiment]
        with _named_errors(experiment):
            done = _publish_comparison(experiment, members, target)
        print(f"{experiment.name}: {done}", flush=True)


def _target(mode: str, *, entity: str | None, project: str | None) -> Target:
    check_choice("mode", mode, MODES)
    mode = resolve_mode(mode)
    if mode == "offline":
        return Target("offline", entity, project)
    if mode != "online":
        raise ValueError(f"WANDB_MODE={mode} publishes nothing; unset it, or pass --mode online")
    try:
        own = log_in()
    except ValueError as error:
        raise ValueError(f"{error} {_OFFLINE}") from error
    return Target("online", entity or own, project)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """An error of W&B says which folder it stopped at, and what to do."""
    try:
        yield
    except Exception as error:
        # W&B's own errors have no common base class
        if not isinstance(error, OSError) and not type(error).__module__.startswith("wandb"):
            raise
        import wandb

        wandb.teardown()  # else its service holds the run's id as "in use"
        raise ValueError(
            f"W&B failed at {path}: {error}. Folders before it are published; the same command "
            "goes on from there."
        ) from error


def _publish_run(run: Run, target: Target, *, media: bool) -> str:
    """What was done, in words."""
    config, folder = run.config, wandb_folder(run)
    project = target.project or config["logger"]["project"]
    address = target.address(project)
    digest = _digest([run.result_path])
    before = _published(folder).get(address)
    if before and before["digest"] == digest and (before["media"] or not media):
        return f"is there already: {before['where']}"
    # only a training logs as it goes
    job_type = "train" if run.metrics_path.exists() else "evaluation"
    facts = {"id": run_id(run), "config": config, **wandb_facts(config, job_type=job_type)}
    with _open_run(folder, target, project=project, **facts) as wandb_run:
        where = _where(wandb_run, target)
        _replay(run, wandb_run)
        _log_result(run, wandb_run, media=media, changed=before is not None)
        _log_files(run, wandb_run, target)
    _remember(folder, address, {"digest": digest, "media": media, "where": where})
    return where


def run_id(run: Run) -> str:
    """The id of a run in W&B, kept in wandb/id.txt of its folder.

    A run that W&B has logged has one. Else it follows from config and history, so that two copies
    of one folder are one run, and a run that is evaluated anew stays the same run.
    """
    path = wandb_folder(run) / "id.txt"
    if not path.exists():
        files = (run.config_path, run.metrics_path)
        content, config = _digest(file for file in files if file.exists()), run.config
        with atomic_path(path) as draft:
            text = _plain(f"{config['experiment']}-{config['name']}-{content[:8]}")
            draft.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


@contextmanager
def _open_run(folder: Path, target: Target, *, project: str, **facts: Any) -> Iterator[Any]:
    """A W&B run; ended also after an error, so that the next one is not this one."""
    import wandb

    wandb_run = wandb.init(
        project=project,
        entity=target.entity,
        mode=target.mode,
        resume="allow" if target.mode == "online" else None,  # offline there is nothing to resume
        dir=str(folder.parent),
        # nothing of this moment and machine, which are not the training's
        settings=wandb_settings(
            console="off", disable_git=True, x_disable_meta=True, x_disable_stats=True
        ),
        **facts,
    )
    try:
        yield wandb_run
    except BaseException:
        with suppress(Exception):  # what went wrong first is what to tell
            wandb_run.finish(exit_code=1)
        raise
    wandb_run.finish()


def _replay(run: Run, wandb_run: Any) -> None:
    """Log metrics.jsonl as a live run does, from where W&B's history ends."""
    wandb_run.define_metric("*", step_metric="epoch")
    there = dict(wandb_run.summary)
    rows = run.metrics().rename(columns={"step": "trainer/global_step"}).to_dict("records")
    for row in rows:
        known = {str(key): value for key, value in row.items() if pd.notna(value)}
        if not _is_there(known, there):
            wandb_run.log(known)


def _is_there(row: dict[str, float], summary: dict[str, Any]) -> bool:
    """W&B's own step cannot tell: in a live run, pictures and half rows have steps of their own."""
    # the final numbers reach W&B after every row; and of its last row it may have a half
    place, last = ((v.get("epoch", -1), v.get("trainer/global_step", -1)) for v in (row, summary))
    return "flops" in summary or place < last or row.items() <= summary.items()


def _log_result(run: Run, wandb_run: Any, *, media: bool, changed: bool) -> None:
    """Final numbers and pictures; a run that was online while it trained has the pictures."""
    there = "test/iou_by_size" in dict(wandb_run.summary)
    if media and (changed or not there):
        log_media(run, wandb_run)
    else:
        wandb_run.summary.update(final_numbers(run.result or {}))


def _log_files(run: Run, wandb_run: Any, target: Target) -> None:
    """The artifact that `segattn.analysis.remote` reads."""
    import wandb

    artifact = wandb.Artifact(_plain(wandb_run.id), type=ARTIFACT_TYPE)
    for name in RUN_FILES:
        if (run.path / name).exists():
            artifact.add_file(str(run.path / name))
    _send(artifact, wandb_run, target)


def _publish_comparison(experiment: Path, runs: list[Run], target: Target) -> str:
    """The tables of an experiment as an artifact of a run of its own; what was done, in words."""
    config, folder = runs[0].config, wandb_folder(Run(experiment))
    project = target.project or config["logger"]["project"]
    address = target.address(project)
    digest = _digest(run.result_path for run in runs)
    before = _published(folder).get(address)
    if before and before["digest"] == digest:
        return f"the comparison is there already: {before['where']}"
    try:
        comparison = compare(runs)
    except ValueError as error:
        return f"no comparison: {error}"
    name = f"comparison-{config['experiment']}"
    facts = {"id": _plain(name), "name": name, "tags": [config["experiment"]]}
    with _open_run(folder, target, project=project, job_type="comparison", **facts) as wandb_run:
        where = _where(wandb_run, target)
        tables = {key: TIDY[key](comparison) for key in COMPARISON_TABLES}
        _log_tables(tables, wandb_run, target)
    _remember(folder, address, {"digest": digest, "where": where})
    return f"comparison: {where}"


def _log_tables(tables: dict[str, pd.DataFrame], wandb_run: Any, target: Target) -> None:
    import wandb

    artifact = wandb.Artifact(_plain(wandb_run.id), type="comparison")
    for name, frame in tables.items():
        artifact.add(wandb.Table(dataframe=frame), name)
    _send(artifact, wandb_run, target)
    wandb_run.log({f"comparison/{k}": wandb.Table(dataframe=v) for k, v in tables.items()})


def _send(artifact: Any, wandb_run: Any, target: Target) -> None:
    """Log it; online, wait for the server to say that it has it."""
    logged = wandb_run.log_artifact(artifact)
    if target.mode == "online":
        try:
            logged.wait()
        except ValueError as error:  # as W&B says that its server did not take it
            raise OSError(f"artifact {artifact.name} is not uploaded ({error})") from error


def _where(wandb_run: Any, target: Target) -> str:
    """Its page; offline, the command that uploads it."""
    if target.mode == "online":
        return str(wandb_run.url)
    return f"wandb sync {Path(wandb_run.dir).parent}"


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _published(folder: Path) -> dict[str, Any]:
    path = folder / "published.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _remember(folder: Path, address: str, record: dict[str, Any]) -> None:
    write_json(folder / "published.json", {**_published(folder), address: record})


def _plain(name: str) -> str:
    """`name` in the letters that W&B allows in the names of runs and of artifacts."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
