"""Loggers: metrics.jsonl is always written, and one more with the same keys.

W&B when it can be had without waiting or asking, TensorBoard, or a CSV file.
"""

import json
import os
import signal
import threading
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from segattn.base.errors import UserError
from segattn.base.files import digest
from segattn.base.runs import Run, nan_to_none
from segattn.tracking.login import reason, resolve_mode
from segattn.tracking.media import costs
from segattn.tracking.wandb_folder import (
    keep_id,
    note_whole,
    place_of,
    run_artifact,
    wandb_facts,
    wandb_folder,
    wandb_id,
)

_INIT_SECONDS = 20  # W&B would wait 90 for a server that accepts and does not answer
# W&B would wait for ever, and a grid with it; pictures of a run need seconds, and publish.py sends
# what was cut off. WANDB_FINISH_TIMEOUT is for slower lines.
_FINISH_SECONDS = 60


class JsonlLogger(Logger):
    """Appends one JSON object per call to metrics.jsonl: epoch, step and the logged values."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("a", encoding="utf-8") as file:  # a killed process left half a line
                file.write("\n")

    @property
    def name(self) -> str:
        """Of the logger."""
        return "jsonl"

    @property
    def version(self) -> None:
        """None, so that the progress bar shows no version."""
        return

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        row = {"epoch": metrics.get("epoch"), "step": step, **metrics}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(nan_to_none(row), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # as the checkpoint of the epoch, which follows

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Nothing: config.yaml holds them."""


class TolerantWandbLogger(WandbLogger):
    """W&B's logger; neither its errors nor a server that is gone stop a run.

    Attributes:
        broken: It failed, as when W&B's service process died. It logs no more then: what W&B has
            is a beginning without gaps, which `segattn.analysis.publish` completes.
        keeps_all: It is offline, and it was there from the first row on; so it also takes what
            publishing would add, and `wandb sync` of its files is enough.
        sends_model: The last checkpoint goes to W&B too.
    """

    broken, keeps_all, sends_model = False, False, False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log them, unless it is broken."""
        self._attempt(super().log_metrics, metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log them, unless it is broken."""
        self._attempt(super().log_hyperparams, params)

    def _attempt(self, log: Callable[..., None], *arguments: Any) -> None:
        if self.broken:
            return
        try:
            log(*arguments)
        except Exception as error:  # of W&B: segattn computes nothing here
            self.broken = True
            text = f"W&B failed, and the run goes on without it: {type(error).__name__}: {error}"
            warnings.warn(text, stacklevel=3)

    def close(self, *, failed: bool) -> None:
        """End W&B's run, in a bounded time, and say if it did not take everything."""
        import wandb

        if threading.current_thread() is threading.main_thread():
            # Lightning ignores Ctrl-C from the first one on, and this can take a minute
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            whole = self._add_files()
            if self.sends_model and not failed:
                self.experiment.log_model(self._run.checkpoint_path)
            wandb.finish(exit_code=int(failed))
            if whole:
                state = {"result": digest(self._run.result_path), "pictures": True}
                note_whole(self.experiment, state | place_of(self._run.config))
            if not self.broken:
                return
            reason = "it failed on the way"
        except (Exception, KeyboardInterrupt) as error:  # Ctrl-C: the user waits no longer
            reason = str(error) or type(error).__name__
        print(
            f"W&B did not take everything ({reason}); the run folder has it, and once the run is "
            f"done, `python scripts/publish.py {self.save_dir}` completes it",
            flush=True,
        )
        with suppress(Exception, KeyboardInterrupt):
            wandb.teardown()  # else a service that died shows a traceback when Python ends

    @property
    def _run(self) -> Run:
        return Run(Path(str(self.save_dir)))

    def _add_files(self) -> bool:
        """Whether W&B's files hold the whole run; if so, the artifact is added."""
        # the final numbers come last
        if self.broken or not self.keeps_all or "flops" not in dict(self.experiment.summary):
            return False
        wandb_run = self.experiment
        wandb_run.log_artifact(run_artifact(self._run, wandb_run.id, media=True))
        return True


def build_loggers(config: dict[str, Any], run: Run) -> list[Logger]:
    """The loggers that `logger.name` asks for, and the local one.

    TensorBoard's events are in the folder `tensorboard` of the run, the CSV file in
    `csv/version_N`.

    Raises:
        UserError: W&B does not let us in, and `logger.mode` is not auto.
    """
    name = config["logger"]["name"]
    asked = [name] if isinstance(name, str) else name
    found = [logger for one in asked for logger in _BUILD[one](config, run)]
    # the local one last: a row that it has is not logged again after a kill
    return [*found, JsonlLogger(run.metrics_path)]


def _tensorboard(config: dict[str, Any], run: Run) -> list[Logger]:
    return [TensorBoardLogger(run.path, name="tensorboard", version="", default_hp_metric=False)]


def _csv(config: dict[str, Any], run: Run) -> list[Logger]:
    # a version for every start: Lightning would delete what a cut-off run has left
    return [CSVLogger(run.path, name="csv")]


def _wandb(config: dict[str, Any], run: Run) -> list[Logger]:
    """W&B's unless its mode is "disabled".

    In mode "auto", a server that answers but does not let us in makes the run offline, and a W&B
    that does not start at all is done without.
    """
    asked = config["logger"]["mode"]
    mode = resolve_mode(asked)
    if mode == "disabled":
        return []
    for offline in dict.fromkeys((mode == "offline", True)):
        try:
            return [_start_wandb(config, run, offline=offline)]
        except Exception as error:  # W&B's own have no common base class
            _let_go_of_wandb()
            if asked != "auto":
                raise UserError(
                    f"W&B does not start with logger.mode={asked} ({reason(error)}); "
                    "logger.mode=auto goes on without it"
                ) from error
            instead = "without it" if offline else "offline"
            print(f"W&B does not start ({reason(error)}); going on {instead}", flush=True)
    return []


def _let_go_of_wandb() -> None:
    """Else its service holds the run's id as "in use"."""
    import wandb

    with suppress(Exception):  # settings that cannot be read stop this too
        wandb.teardown()


_BUILD: dict[str, Callable[[dict[str, Any], Run], list[Logger]]] = {
    "wandb": _wandb,
    "tensorboard": _tensorboard,
    "csv": _csv,
    "none": lambda config, run: [],
}


def _start_wandb(config: dict[str, Any], run: Run, *, offline: bool) -> TolerantWandbLogger:
    import wandb

    folder = wandb_folder(run)
    # not by Lightning, which passes W&B a setting that it warns of (`anonymous`)
    wandb_run = wandb.init(
        id=wandb_id(folder, config),
        **place_of(config),
        notes=config["logger"]["notes"],
        **wandb_facts(config),
        dir=os.environ.get("WANDB_DIR") or str(run.path),
        mode="offline" if offline else "online",  # else WANDB_MODE would win without a word
        resume=None if offline else "allow",  # offline there is nothing to resume
        config=config,
        settings=wandb_settings(),
    )
    # an agent of a sweep names its runs itself, and W&B drops our id
    keep_id(folder, wandb_run.id)
    # Lightning counts in trainer/global_step; heads are compared by epoch
    wandb_run.define_metric("*", step_metric="epoch")
    if offline:
        print(f"W&B is offline; later: wandb sync {Path(wandb_run.dir).parent}", flush=True)
    logger = TolerantWandbLogger(experiment=wandb_run, save_dir=str(run.path))
    logger.sends_model = config["logger"]["log_model"]
    # files elsewhere are the user's own to sync
    inside = run.path.resolve() in Path(wandb_run.dir).resolve().parents
    logger.keeps_all = offline and inside and not run.metrics_path.exists()
    return logger


def wandb_settings(**more: Any) -> Any:
    """W&B's settings with bounded waits, and `more` of them."""
    import wandb

    waits: dict[str, Any] = {
        "init_timeout": _INIT_SECONDS,
        "finish_timeout": os.environ.get("WANDB_FINISH_TIMEOUT") or _FINISH_SECONDS,
    }
    return wandb.Settings(**waits, finish_timeout_raises=True, **more)


def close_loggers(loggers: list[Logger], *, failed: bool) -> None:
    """End them, also after an error; else W&B's next run in this process would be this one.

    A CSV file gets the costs of the finished run, which W&B and TensorBoard have from
    `segattn.tracking.media.log_finished`.
    """
    for logger in loggers:
        if isinstance(logger, CSVLogger) and not failed:
            _log_costs(logger)
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.close()  # a picture after the test has opened it again
        if isinstance(logger, TolerantWandbLogger):
            logger.close(failed=failed)


def _log_costs(logger: CSVLogger) -> None:
    result = Run(Path(logger.save_dir)).result
    if result is not None:
        done = result["training"]
        logger.log_metrics({"epoch": done["max_epochs"], **costs(result)}, done["steps"])
        logger.save()
