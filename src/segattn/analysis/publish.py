"""Finished run folders as runs of W&B, at any time and as often as one likes.

The run folder is the truth, and W&B a view of it. A run has one id, kept in its folder. If W&B has
the run with this result, it stays as it is. If W&B has it with another result, or only a part of
it, then the run there is replaced as a whole.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segattn.analysis.comparison import compare
from segattn.analysis.tables import claim_table, costs, gains
from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.runs import Run, load_runs
from segattn.tracking import wandb_folder as folders
from segattn.tracking.loggers import wandb_settings
from segattn.tracking.login import clear_variables, log_in, resolve_mode
from segattn.tracking.media import final_numbers, log_media

MODES = ("online", "offline", "auto")
COMPARISON_TABLES = {
    "gains": gains,
    "claims": claim_table,
    "costs": lambda comparison: costs(comparison).reset_index(),
}
"""Tables in the artifact of an experiment."""


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
        folder: Folder with the runs of one or several experiments.
        project: Project in W&B; None for the one in the config of each run.
        entity: User or team; None for the one in the config of each run, or of the login.
        mode: One of `MODES`. "offline" leaves files for `wandb sync` in the run folders; "auto"
            does so where no server answers or no key is set.
        media: Whether to send pictures too. Examples hold images of the data set, whose licence
            has to allow that.

    Raises:
        UserError: No run is finished, W&B does not let us in, or it failed on the way. What was
            published before stays, and the same call continues from there.
    """
    runs = [run for run in load_runs(folder) if run.result is not None]
    if not runs:
        raise UserError(f"no run below {folder} is finished. Run `make ablation`, or wait for it.")
    place = _find_place(mode, entity=entity, project=project)
    for number, run in enumerate(runs, start=1):
        with _named_errors(run.path):
            done = _publish_run(run, place, media=media)
        print(f"[{number}/{len(runs)}] {run.path.name}: {done}", flush=True)
    for experiment in dict.fromkeys(run.path.parent for run in runs):
        members = [run for run in runs if run.path.parent == experiment]
        with _named_errors(experiment):
            done = _publish_comparison(experiment, members, place)
        print(f"{experiment.name}: {done}", flush=True)


def _find_place(mode: str, *, entity: str | None, project: str | None) -> dict[str, Any]:
    """Return options of wandb.init; None leaves entity or project to the config of each run."""
    check_choice("mode", mode, MODES)
    clear_variables()
    mode = resolve_mode(mode)
    if mode not in ("online", "offline"):
        raise UserError(f"WANDB_MODE={mode} publishes nothing; unset it, or pass --mode online")
    try:
        if mode == "online":
            log_in()
    except UserError as error:
        instead = "Or write files with --mode offline, and upload them later with `wandb sync`."
        raise UserError(f"{error} {instead}") from error
    return {"mode": mode, "entity": entity, "project": project}


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Name the folder at which W&B failed, and what to do."""
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
            "continues from there."
        ) from error


def _publish_run(run: Run, place: dict[str, Any], *, media: bool) -> str:
    """Publish one run; returns what was done."""
    # only a training logs as it goes
    job_type = "train" if run.metrics_path.exists() else "evaluation"
    facts = {"config": run.config, **folders.wandb_facts(run.config, job_type=job_type)}

    def send(wandb_run: Any) -> None:
        folders.log_rows(wandb_run, run.metrics())
        if media:
            log_media(run, wandb_run)
        else:
            wandb_run.summary.update(final_numbers(run.result or {}))
        folders.send_files(run, wandb_run, media=media)

    facts |= {"id": run_id(run), **_of_config(place, run.config)}
    return _publish(run, facts, folders.result_state(run, media=media), send)


def run_id(run: Run) -> str:
    """Return the id of a run in W&B, kept in wandb/id.txt of its folder.

    A run that W&B has logged has one. Else it follows from config and history, so that two copies
    of one folder are one run, and a run that is evaluated anew stays the same run.
    """
    files = (run.config_path, run.metrics_path)
    content = _digest(file for file in files if file.exists())
    return folders.wandb_id(run, run.config, ending=content[:8])


def _publish_comparison(experiment: Path, runs: list[Run], place: dict[str, Any]) -> str:
    """Publish the tables of an experiment as a run of its own; returns what was done."""
    try:
        comparison = compare(runs)
    except UserError as error:
        return f"no comparison: {error}"
    name = folders.slug(f"comparison-{runs[0].config['experiment']}")

    def send(wandb_run: Any) -> None:
        import wandb

        artifact = wandb.Artifact(name, type="comparison")
        for key, table in COMPARISON_TABLES.items():
            frame = table(comparison)
            artifact.add(wandb.Table(dataframe=frame), key)
            wandb_run.log({f"comparison/{key}": wandb.Table(dataframe=frame)})
        folders.send_artifact(artifact, wandb_run)

    facts = {"id": name, "name": name, "job_type": "comparison"}
    facts |= _of_config(place, runs[0].config)
    state = {"result": _digest(run.result_path for run in runs), "pictures": False}
    return f"comparison {_publish(Run(experiment), facts, state, send)}"


def _of_config(place: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Fill what `place` leaves to the config of a run."""
    return place | {k: place[k] or value for k, value in folders.place_of(config).items()}


def _publish(
    run: Run, facts: dict[str, Any], state: dict[str, Any], send: Callable[[Any], None]
) -> str:
    """Send a run, or the comparison of an experiment, unless W&B has it; returns what was done.

    W&B replaces a run that it is not asked to resume. Nothing is deleted before: W&B refuses the
    id of a deleted run for a week.

    Args:
        run: Folder of the run or the experiment.
        facts: Options of wandb.init.
        state: What W&B holds afterwards, see `result_state`.
        send: Logs everything to the W&B run that it is called with.
    """
    import wandb

    folders.wandb_folder(run)
    there = _find(facts) if facts["mode"] == "online" else None
    if there is not None and there.state == "finished":  # else its upload was cut off
        held = dict(there.summary.get(folders.PUBLISHED) or {})
        if held in (state, state | {"pictures": True}):
            return f"is there already: {there.url}"
    # nothing of this moment and machine, which are not the training's
    hidden = {"console": "off", "disable_git": True, "x_disable_meta": True}
    settings = wandb_settings(x_disable_stats=True, **hidden)
    wandb_run, failed = wandb.init(dir=str(run.path), settings=settings, **facts), True
    try:
        send(wandb_run)
        wandb_run.summary.update({folders.PUBLISHED: state})
        failed = False
    finally:  # so that the next run is not this one
        wandb_run.finish(exit_code=int(failed))
    files = Path(wandb_run.dir).parent
    folders.skip_in_sync(set(folders.offline_parts(run, facts["id"])) - {files})
    if wandb_run.offline:
        return folders.sync_command(files)
    return f"{wandb_run.url}{'' if there is None else ' (replaced)'}"


def _find(facts: dict[str, Any]) -> Any:
    """Return W&B's run under an id, or None."""
    import wandb

    try:
        # without an entity W&B takes the default one
        names = filter(None, (facts[key] for key in ("entity", "project", "id")))
        return wandb.Api().run("/".join(names))
    except (wandb.Error, ValueError) as error:
        if "Could not find" in str(error):
            return None
        raise


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
