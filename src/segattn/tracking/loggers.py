"""Loggers: metrics.jsonl is always written, and others get the same keys.

The others are W&B, where it can be used without waiting or asking, TensorBoard, and CSV files.
"""

import json
import os
import signal
import threading
import warnings
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from segattn.base.errors import UserError
from segattn.base.runs import Run, nan_to_none
from segattn.tracking import wandb_folder as folders
from segattn.tracking.login import clear_variables, reason, resolve_mode


class JsonlLogger(Logger):
    """Appends one JSON object per call to metrics.jsonl: epoch, step and the logged values."""

    name, version = "jsonl", None  # the progress bar shows no version

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("a", encoding="utf-8") as file:  # a killed process left half a line
                file.write("\n")

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        row = {"epoch": metrics.get("epoch"), "step": step, **metrics}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(nan_to_none(row), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # the checkpoint of the epoch follows, and is synced too

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Do nothing: config.yaml holds them."""


class TolerantWandbLogger(WandbLogger):
    """W&B's logger; neither its errors nor a server that is gone stop a run.

    Attributes:
        broken: W&B failed, for example since its service process died. Nothing more is logged
            then, and `segattn.analysis.publish` sends the run as a whole.
        older: Folders of offline files with earlier parts of this run, which the new W&B run holds
            from the beginning.
        sends_model: Whether the weights that were tested go to W&B too.
    """

    broken, sends_model = False, False
    older: Collection[Path] = ()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log them, unless W&B failed before."""
        if self.broken:
            return
        try:
            super().log_metrics(metrics, step)
        except Exception as error:  # W&B's errors have no common base class
            self.broken = True
            text = f"W&B failed, and the run goes on without it: {type(error).__name__}: {error}"
            warnings.warn(text, stacklevel=3)

    def close(self, *, failed: bool) -> None:
        """End W&B's run in a bounded time, and report if it did not take everything."""
        import wandb

        if threading.current_thread() is threading.main_thread():
            # Lightning ignores Ctrl-C from the first one on, and this can take a minute
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            if not failed and not self.broken:
                self._add_result()
            wandb.finish(exit_code=int(failed))
            if not self.broken:
                folders.skip_in_sync(self.older)
                return
            why = "it failed on the way"
        except (Exception, KeyboardInterrupt) as error:  # Ctrl-C: the user waits no longer
            why = str(error) or type(error).__name__
        print(
            f"W&B did not take everything ({why}); the run folder has it, and once the run is "
            f"done, `python scripts/publish.py {self.save_dir}` sends all of it",
            flush=True,
        )
        with suppress(Exception, KeyboardInterrupt):
            wandb.teardown()  # else a service that died shows a traceback when Python ends

    def _add_result(self) -> None:
        """Add the run's files, and say that W&B holds this result, unless something is missing."""
        run, wandb_run = Run(Path(str(self.save_dir))), self.experiment
        if self.sends_model:
            wandb_run.log_model(run.tested_checkpoint)
        if "flops" not in dict(wandb_run.summary):  # logged last, after the pictures
            return
        folders.send_files(run, wandb_run, media=True)
        if not wandb_run.resumed:  # W&B may lack rows of a process that was killed
            wandb_run.summary.update({folders.PUBLISHED: folders.result_state(run, media=True)})


def build_loggers(config: dict[str, Any], run: Run) -> list[Logger]:
    """Build the loggers that `logger.name` asks for, and the local one.

    TensorBoard's events are in the folder `tensorboard` of the run, CSV files in `csv/version_N`.
    After a restart the newest CSV file, and the newest offline files of W&B, hold the run from its
    beginning.

    Raises:
        UserError: W&B does not let us in, and `logger.mode` is not auto.
    """
    name = config["logger"]["name"]
    asked = [name] if isinstance(name, str) else name
    found = [logger for one in asked for logger in _BUILD[one](config, run)]
    # the local one last: a row that it has is not logged again after a kill
    return [*found, JsonlLogger(run.metrics_path)]


def _done(run: Run) -> tuple[int, int]:
    """Return the last whole epoch of a run and the steps done by then, -1 and 0 at its start."""
    try:
        content = torch.load(run.checkpoint_path, weights_only=True, map_location="cpu", mmap=True)
        return content["epoch"], content["global_step"]
    except Exception:  # no checkpoint; the trainer reports one that is damaged
        return -1, 0


def _past_rows(run: Run) -> pd.DataFrame:
    """Return the logged rows of the epochs that a restart does not train again."""
    rows = run.metrics()
    return rows[rows["epoch"] <= _done(run)[0]]


def _tensorboard(config: dict[str, Any], run: Run) -> list[Logger]:
    # TensorBoard then drops the events of an epoch that a restart trains again
    options: dict[str, Any] = {"default_hp_metric": False, "purge_step": _done(run)[1]}
    return [TensorBoardLogger(run.path, name="tensorboard", version="", **options)]


def _csv(config: dict[str, Any], run: Run) -> list[Logger]:
    # a version for every start: Lightning would delete what a cut-off run has left
    logger = CSVLogger(run.path, name="csv")
    for row in _past_rows(run).to_dict("records"):
        values = {str(key): value for key, value in row.items() if pd.notna(value)}
        logger.log_metrics(values, int(values.pop("step")))
    return [logger]


def _wandb(config: dict[str, Any], run: Run) -> list[Logger]:
    """Build W&B's logger unless its mode is "disabled".

    In mode "auto", a server that answers but does not let us in makes the run offline. If W&B
    cannot start at all, the run continues without it.
    """
    clear_variables(run.path)
    asked = config["logger"]["mode"]
    mode = resolve_mode(asked)
    for offline in dict.fromkeys((mode == "offline", True)) if mode != "disabled" else ():
        try:
            return [_start_wandb(config, run, offline=offline)]
        except Exception as error:  # W&B's errors have no common base class
            import wandb

            with suppress(Exception):  # settings that cannot be read stop this too
                wandb.teardown()  # else its service holds the run's id as "in use"
            if asked != "auto":
                raise UserError(
                    f"W&B does not start with logger.mode={asked} ({reason(error)}); "
                    "logger.mode=auto goes on without it"
                ) from error
            instead = "without it" if offline else "offline"
            print(f"W&B does not start ({reason(error)}); going on {instead}", flush=True)
    return []


_BUILD: dict[str, Callable[[dict[str, Any], Run], list[Logger]]] = {
    "wandb": _wandb,
    "tensorboard": _tensorboard,
    "csv": _csv,
    "none": lambda config, run: [],
}


def _start_wandb(config: dict[str, Any], run: Run, *, offline: bool) -> TolerantWandbLogger:
    """Start W&B's run, or resume it.

    W&B resumes a run that it has, if no part of it was offline. In every other case the new W&B run
    gets the rows so far, and replaces what W&B has under its id.
    """
    import wandb

    identity = folders.wandb_id(run, config)
    older = folders.offline_parts(run, identity)
    resumes = run.checkpoint_path.exists() and not offline and not older
    # not by Lightning, which passes W&B a setting that it warns of (`anonymous`)
    wandb_run = wandb.init(
        id=identity,
        **folders.place_of(config),
        notes=config["logger"]["notes"],
        **folders.wandb_facts(config),
        dir=os.environ.get("WANDB_DIR") or str(run.path),
        mode="offline" if offline else "online",  # else WANDB_MODE would win without a word
        resume="allow" if resumes else None,
        config=config,
        settings=wandb_settings(),
    )
    # an agent of a sweep names its runs itself, and W&B drops our id
    folders.keep_id(run, wandb_run.id)
    past = _past_rows(run)
    folders.log_rows(wandb_run, past.iloc[:0] if wandb_run.resumed else past)
    if offline:
        whole = " (it holds all rows of the run; do not sync its earlier parts)" if older else ""
        command = folders.sync_command(Path(wandb_run.dir).parent)
        print(f"W&B is offline; later: {command}{whole}", flush=True)
    logger = TolerantWandbLogger(experiment=wandb_run, save_dir=str(run.path))
    logger.sends_model, logger.older = config["logger"]["log_model"], older
    return logger


def wandb_settings(**more: Any) -> Any:
    """Return W&B's settings with bounded waits, and `more` settings."""
    import wandb

    # W&B would wait 90 s for a server that accepts and does not answer, and for ever at the end,
    # and a grid with it. Pictures of a run need seconds; publish.py sends what was cut off.
    end: Any = os.environ.get("WANDB_FINISH_TIMEOUT") or 60
    return wandb.Settings(init_timeout=20, finish_timeout=end, finish_timeout_raises=True, **more)


def close_loggers(loggers: list[Logger], *, failed: bool) -> None:
    """End the loggers, also after an error; else W&B's next run in this process would be this one.

    A CSV file gets the costs of the finished run, which W&B and TensorBoard have from
    `segattn.tracking.media.log_finished`.
    """
    for logger in loggers:
        if isinstance(logger, CSVLogger) and not failed:
            result = Run(Path(logger.save_dir)).result
            if result is not None:
                done = result["training"]
                logger.log_metrics({"epoch": done["max_epochs"], **result["cost"]}, done["steps"])
                logger.save()
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.close()  # a picture after the test has opened it again
        if isinstance(logger, TolerantWandbLogger):
            logger.close(failed=failed)
