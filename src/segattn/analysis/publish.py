"""Finished run folders as runs of W&B: at any time, and as often as one likes.

The run folder is the truth and W&B a view of it, so publishing again must add nothing. A run has
one id, kept in its folder. Rows up to those that its summary in W&B tells of are left out; so an
upload that was cut off goes on, and a run that was logged while it trained is only completed. What
is published whole says so itself: in its summary in W&B, or in the folder of its offline files.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from segattn.analysis.comparison import compare
from segattn.analysis.tables import claim_table, costs, gains
from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import digest
from segattn.base.runs import Run, load_runs
from segattn.tracking.loggers import wandb_settings
from segattn.tracking.login import log_in, resolve_mode
from segattn.tracking.media import final_numbers, log_media
from segattn.tracking.wandb_folder import (
    find_whole,
    holds,
    identity,
    keep_id,
    note_whole,
    place_of,
    plain,
    run_artifact,
    sync_command,
    wandb_facts,
    wandb_folder,
)

MODES = ("online", "offline", "auto")
COMPARISON_TABLES = {
    "gains": gains,
    "claims": claim_table,
    "costs": lambda comparison: costs(comparison).reset_index(),
}
"""What the artifact of an experiment holds."""

_STATE = "published"  # in the summary of a W&B run: of which result, and whether with pictures
_OFFLINE = "Or write files with --mode offline, and upload them later with `wandb sync`."


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
    place = _place(mode, entity=entity, project=project)
    for number, run in enumerate(runs, start=1):
        with _named_errors(run.path):
            done = _publish_run(run, place, media=media)
        print(f"[{number}/{len(runs)}] {run.path.name}: {done}", flush=True)
    for experiment in dict.fromkeys(run.path.parent for run in runs):
        members = [run for run in runs if run.path.parent == experiment]
        with _named_errors(experiment):
            done = _publish_comparison(experiment, members, place)
        print(f"{experiment.name}: {done}", flush=True)


def _place(mode: str, *, entity: str | None, project: str | None) -> dict[str, Any]:
    """Options of wandb.init; None for the entity and project in the config of each run."""
    check_choice("mode", mode, MODES)
    mode = resolve_mode(mode)
    if mode not in ("online", "offline"):
        raise UserError(f"WANDB_MODE={mode} publishes nothing; unset it, or pass --mode online")
    if mode == "online":
        try:
            log_in()
        except UserError as error:
            raise UserError(f"{error} {_OFFLINE}") from error
    return {"mode": mode, "entity": entity, "project": project}


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


def _publish_run(run: Run, place: dict[str, Any], *, media: bool) -> str:
    """What was done, in words."""
    config = run.config
    place = _of_config(place, config)
    state = {"result": digest(run.result_path), "pictures": media}
    # only a training logs as it goes
    job_type = "train" if run.metrics_path.exists() else "evaluation"
    facts = {"id": run_id(run), "config": config, **wandb_facts(config, job_type=job_type)}

    def send(wandb_run: Any, before: dict[str, Any]) -> None:
        _replay(run, wandb_run)
        _log_result(run, wandb_run, media=media, changed=bool(before))
        _send(run_artifact(run, wandb_run.id, media=media), wandb_run)

    return _publish(wandb_folder(run), place, facts, state, send)


def _of_config(place: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return place | {key: place[key] or value for key, value in place_of(config).items()}


def _publish(
    folder: Path,
    place: dict[str, Any],
    facts: dict[str, Any],
    state: dict[str, Any],
    send: Callable[[Any, dict[str, Any]], None],
) -> str:
    """Send what is not there yet; what was done, in words.

    Args:
        folder: `wandb_folder` of a run or an experiment.
        place: Options of wandb.init: mode, entity and project.
        facts: Others of them.
        state: What is there afterwards: a digest of the results, and whether with pictures.
        send: Called with the W&B run, and the state that is there, {} for none.
    """
    offline = place["mode"] == "offline"
    note = state | {"entity": place["entity"], "project": place["project"]}
    if offline and (files := find_whole(folder, note)):
        return f"is written already: {sync_command(files)}"
    with _open_run(folder, place, facts) as wandb_run:
        before = dict(dict(wandb_run.summary).get(_STATE) or {})
        if holds(before, state):
            return f"is there already: {wandb_run.url}"
        send(wandb_run, before)
        wandb_run.summary.update({_STATE: state})
    if not offline:
        return str(wandb_run.url)
    files = note_whole(wandb_run, note)
    older = sorted({path.name for path in folder.glob(f"offline-run-*-{facts['id']}")})[:-1]
    # W&B would take their rows for more of the run
    return sync_command(files) + (f" (do not sync {', '.join(older)} too)" if older else "")


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
def _open_run(folder: Path, place: dict[str, Any], facts: dict[str, Any]) -> Iterator[Any]:
    """A W&B run; ended also after an error, so that the next one is not this one."""
    import wandb

    wandb_run = wandb.init(
        resume="allow" if place["mode"] == "online" else None,  # offline there is nothing to resume
        dir=str(folder.parent),
        # nothing of this moment and machine, which are not the training's
        settings=wandb_settings(
            console="off", disable_git=True, x_disable_meta=True, x_disable_stats=True
        ),
        **place,
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


def _publish_comparison(experiment: Path, runs: list[Run], place: dict[str, Any]) -> str:
    """The tables of an experiment as an artifact of a run of its own; what was done, in words."""
    try:
        comparison = compare(runs)
    except UserError as error:
        return f"no comparison: {error}"
    config, name = runs[0].config, f"comparison-{runs[0].config['experiment']}"
    facts = {"id": plain(name), "name": name, "tags": [config["experiment"]]}
    state = {"result": _digest(run.result_path for run in runs), "pictures": False}

    def send(wandb_run: Any, _: dict[str, Any]) -> None:
        tables = {key: table(comparison) for key, table in COMPARISON_TABLES.items()}
        _log_tables(tables, wandb_run)

    place = _of_config(place, config)
    facts["job_type"] = "comparison"
    return "comparison " + _publish(wandb_folder(Run(experiment)), place, facts, state, send)


def _log_tables(tables: dict[str, pd.DataFrame], wandb_run: Any) -> None:
    import wandb

    artifact = wandb.Artifact(plain(wandb_run.id), type="comparison")
    for name, frame in tables.items():
        artifact.add(wandb.Table(dataframe=frame), name)
    _send(artifact, wandb_run)
    wandb_run.log({f"comparison/{k}": wandb.Table(dataframe=v) for k, v in tables.items()})


def _send(artifact: Any, wandb_run: Any) -> None:
    """Log it; online, wait for the server to say that it has it."""
    logged = wandb_run.log_artifact(artifact)
    if not wandb_run.offline:
        try:
            logged.wait()
        except ValueError as error:  # as W&B says that its server did not take it
            raise OSError(f"artifact {artifact.name} is not uploaded ({error})") from error


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
