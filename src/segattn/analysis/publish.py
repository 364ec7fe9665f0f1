"""Finished run folders as runs of W&B: at any time, and as often as one likes.

The run folder is the truth and W&B a view of it, so publishing again must add nothing. Three things
see to that. A run has one id, kept in its folder. Rows up to those that its summary in W&B tells of
are left out; so an upload that was cut off goes on, and a run that was logged while it trained is
only completed. And what is published where stands in the folder, in wandb/published.json.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from segattn.analysis.comparison import compare
from segattn.analysis.tables import claim_table, costs, gains
from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import digest
from segattn.base.runs import Run, load_runs
from segattn.tracking.loggers import project_of, resolve_mode, wandb_facts, wandb_settings
from segattn.tracking.login import log_in
from segattn.tracking.media import final_numbers, log_media
from segattn.tracking.wandb_folder import (
    identity,
    keep_id,
    offline_address,
    offline_place,
    plain,
    published,
    remember,
    run_artifact,
    sync_command,
    wandb_folder,
)

MODES = ("online", "offline", "auto")
COMPARISON_TABLES = {
    "gains": gains,
    "claims": claim_table,
    "costs": lambda comparison: costs(comparison).reset_index(),
}
"""What the artifact of an experiment holds."""

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
        if self.mode == "offline":
            return offline_address(project, entity=self.entity)
        server = os.environ.get("WANDB_BASE_URL", "wandb.ai")
        return "/".join([server, self.entity or "", project])

    def place(self, wandb_run: Any) -> str:
        """`where` of a record in published.json: its page; offline, the folder of its files."""
        return str(wandb_run.url) if self.mode == "online" else offline_place(wandb_run)

    def told(self, place: str, folder: Path) -> str:
        """Its page; offline, the command that uploads it."""
        return place if self.mode == "online" else sync_command(folder, place)

    def has(self, record: dict[str, Any], content: str, folder: Path) -> bool:
        """Whether that is published; offline, whether its files are still in the run folder."""
        if record.get("digest") != content:
            return False
        return self.mode == "online" or (folder.parent / record["where"]).is_dir()

    @property
    def already(self) -> str:
        """How to say so."""
        return "is there already" if self.mode == "online" else "is written already"


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
        UserError: No run is finished, W&B does not let us in, or it failed on the way; what was
            published before stays, and the same call goes on from there.
    """
    runs = [run for run in load_runs(folder) if run.result is not None]
    if not runs:
        raise UserError(f"no run below {folder} is finished. Run `make ablation`, or wait for it.")
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
        raise UserError(f"WANDB_MODE={mode} publishes nothing; unset it, or pass --mode online")
    try:
        own = log_in()
    except UserError as error:
        raise UserError(f"{error} {_OFFLINE}") from error
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
        raise UserError(
            f"W&B failed at {path}: {error}. Folders before it are published; the same command "
            "goes on from there."
        ) from error


def _publish_run(run: Run, target: Target, *, media: bool) -> str:
    """What was done, in words."""
    config, folder = run.config, wandb_folder(run)
    project = target.project or project_of(config)
    address = target.address(project)
    content = digest(run.result_path)
    before = published(folder).get(address, {})
    if target.has(before, content, folder) and (before["media"] or not media):
        pictures = ", with pictures" if before["media"] and not media else ""
        return f"{target.already}{pictures}: {target.told(before['where'], folder)}"
    # only a training logs as it goes
    job_type = "train" if run.metrics_path.exists() else "evaluation"
    facts = {"id": run_id(run), "config": config, **wandb_facts(config, job_type=job_type)}
    with _open_run(folder, target, project=project, **facts) as wandb_run:
        where = target.place(wandb_run)
        _replay(run, wandb_run)
        _log_result(run, wandb_run, media=media, changed=bool(before))
        _send(run_artifact(run, wandb_run.id, media=media), wandb_run, target)
    remember(folder, address, {"digest": content, "media": media, "where": where})
    return target.told(where, folder) + _superseded(folder, run_id(run))


def _superseded(folder: Path, identity: str) -> str:
    """Files with parts of the run, whose rows W&B would take for more of it."""
    kept = {Path(record["where"]).name for record in published(folder).values()}
    files = sorted({path.name for path in folder.glob(f"offline-run-*-{identity}")} - kept)
    return f" (do not sync {', '.join(files)} too)" if files else ""


def run_id(run: Run) -> str:
    """The id of a run in W&B, kept in wandb/id.txt of its folder.

    A run that W&B has logged has one. Else it follows from config and history, so that two copies
    of one folder are one run, and a run that is evaluated anew stays the same run.
    """
    folder = wandb_folder(run)
    path = folder / "id.txt"
    if not path.exists():
        files = (run.config_path, run.metrics_path)
        content, config = _digest(file for file in files if file.exists()), run.config
        keep_id(folder, identity(config, content[:8]))
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


def _publish_comparison(experiment: Path, runs: list[Run], target: Target) -> str:
    """The tables of an experiment as an artifact of a run of its own; what was done, in words."""
    config, folder = runs[0].config, wandb_folder(Run(experiment))
    project = target.project or project_of(config)
    address = target.address(project)
    content = _digest(run.result_path for run in runs)
    before = published(folder).get(address, {})
    if target.has(before, content, folder):
        return f"the comparison {target.already}: {target.told(before['where'], folder)}"
    try:
        comparison = compare(runs)
    except UserError as error:
        return f"no comparison: {error}"
    name = f"comparison-{config['experiment']}"
    facts = {"id": plain(name), "name": name, "tags": [config["experiment"]]}
    with _open_run(folder, target, project=project, job_type="comparison", **facts) as wandb_run:
        where = target.place(wandb_run)
        tables = {key: table(comparison) for key, table in COMPARISON_TABLES.items()}
        _log_tables(tables, wandb_run, target)
    remember(folder, address, {"digest": content, "where": where})
    return f"comparison: {target.told(where, folder)}"


def _log_tables(tables: dict[str, pd.DataFrame], wandb_run: Any, target: Target) -> None:
    import wandb

    artifact = wandb.Artifact(plain(wandb_run.id), type="comparison")
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


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
