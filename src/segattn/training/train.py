"""One run from a checked config: train, test, and leave the run folder. Idempotent."""

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml

from segattn.base.distributed import find_rank, is_main
from segattn.base.errors import UserError, told
from segattn.base.files import atomic_path, remove_drafts
from segattn.base.lock import hold, is_held
from segattn.base.runs import Run, write_json
from segattn.config.compose import differences
from segattn.tracking.loggers import build_loggers, close_loggers
from segattn.tracking.media import log_finished, pictures_may_fail
from segattn.training.advice import explained
from segattn.training.build import build_data, build_task
from segattn.training.callbacks import CostMeter, StatusWriter, ValidationScenes
from segattn.training.checkpoint import check_checkpoint, load_tested
from segattn.training.identity import CHOSEN_ON_TEST, check_same_data, chosen_on_test
from segattn.training.outputs import Evidence
from segattn.training.result import build_result, training_facts
from segattn.training.trainer import (
    EndAtSigterm,
    build_trainer,
    quiet_lightning,
    training_callbacks,
)


def run_folder(config: dict[str, Any]) -> Run:
    """runs_dir / experiment / name."""
    return Run(Path(config["runs_dir"]) / config["experiment"] / config["name"])


def train(config: dict[str, Any]) -> Run:
    """Train and test one run; a finished run returns at once, a cut-off one goes on.

    Every process of several devices calls this; the first one writes.

    Args:
        config: What `segattn.config.compose.resolve_config` returns.

    Raises:
        Busy: Another process is at this run.
        UserError: The run cannot go on as it is: a loss that is not finite, no memory, a full disk.
        UserError: The folder holds a run with another config, or the data is missing or damaged.
    """
    find_rank(config["trainer"]["devices"] * config["trainer"]["num_nodes"])
    if config["trainer"].get("fast_dev_run"):
        return _try_out(config)
    run = run_folder(config)
    status = StatusWriter(run, max_epochs=config["trainer"]["max_epochs"])
    if not is_main():
        if run.result is None:
            _attempt(run, config, status)
        return run
    with hold(run.lock_path):
        claim(run, config)
        remove_drafts(*run.written)
        _finish(run, config, status)
    return run


def _try_out(config: dict[str, Any]) -> Run:
    """Run one batch of everything in a temporary folder; its scores are not a result."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_folder({**config, "runs_dir": folder})
        with explained(run, config):
            silent = {**config, "logger": {**config["logger"], "name": "none"}}
            _fit_and_test(run, silent, StatusWriter(run, max_epochs=1))
    if is_main():
        print("fast_dev_run: training, validation and test went through; nothing is kept")
    return run_folder(config)


def _finish(run: Run, config: dict[str, Any], status: StatusWriter) -> None:
    """Do what the run still lacks, and say in status.json how it went."""
    if run.result is not None:
        if run.status["state"] != "done":  # killed just before it could say so
            status.write("done", epoch=config["trainer"]["max_epochs"])
        if run.config["data"].get("root") != config["data"].get("root"):
            check_same_data(run, build_data(config))
        print(f"already finished: {run.path}")
        return
    status.write("running")
    try:
        _attempt(run, config, status)
    except (KeyboardInterrupt, SystemExit):  # Lightning makes SystemExit of Ctrl-C
        status.interrupt()
        print("interrupted; the same command goes on from the last whole epoch", flush=True)
        raise


def _attempt(run: Run, config: dict[str, Any], status: StatusWriter) -> None:
    """Train and test; the process that fails first says why in status.json."""
    try:
        with explained(run, config):
            _fit_and_test(run, config, status)
    except Exception as error:
        # a process that only lost the first one, which was killed or interrupted, does not know why
        if run.status["state"] == "running" and (is_main() or is_held(run.lock_path)):
            bug = not isinstance(error, UserError)
            text = f"{type(error).__name__}: {error}" if bug else told(error)
            with suppress(OSError):  # the disk may be full
                status.write("failed", error=text)
        raise


def claim(
    run: Run,
    config: dict[str, Any],
    *,
    advice: str = "start it under another name (experiment=... or name=...)",
) -> None:
    """Write config.yaml, or check that it is the same experiment.

    Raises:
        UserError: It is not; the message lists the differences.
    """
    if not run.config_path.exists():
        if run.result_path.exists():
            raise UserError(
                f"{run.result_path} has no config.yaml beside it, which says what was trained; "
                f"bring it back, or delete {run.path}"
            )
        with atomic_path(run.config_path) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return
    changes = differences(run.config, config)
    if changes:
        raise UserError(
            f"{run.path} holds a run with another config:\n  "
            + "\n  ".join(changes)
            + f"\nTo keep both, {advice}; or delete that folder."
        )


def _fit_and_test(run: Run, config: dict[str, Any], status: StatusWriter) -> None:
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    data = build_data(config)
    data.prepare_data()
    data.warn_unless_official()
    checkpoint = str(run.checkpoint_path) if run.checkpoint_path.exists() else None
    if is_main():
        check_same_data(run, data)
        if checkpoint is None:  # rows of an attempt whose checkpoint is gone
            run.metrics_path.unlink(missing_ok=True)
    if chosen_on_test(config, data):
        warnings.warn(CHOSEN_ON_TEST, stacklevel=2)
    task = build_task(config, data, pretrained=checkpoint is None)
    if config["trainer"]["compile"]:
        task.compile_models()
    loggers = build_loggers(config, run) if is_main() else []
    num_examples, meter = config["num_examples"], CostMeter()
    evidence = Evidence(run, num_examples=num_examples)
    scenes = ValidationScenes(num_scenes=num_examples)
    failed = True
    try:
        if checkpoint:
            check_checkpoint(run.checkpoint_path)
        with quiet_lightning():
            monitor = f"{task.stage_of_validation}/miou"
            # pictures before the meter starts its clock again, or after it has stopped it
            callbacks = [scenes, meter, evidence, EndAtSigterm()]
            callbacks += [*training_callbacks(run, config, monitor=monitor), status]
            trainer = build_trainer(run, config, loggers=loggers, callbacks=callbacks)
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            # a run that is resumed after its last epoch would keep the number before it
            epochs: Any = trainer.fit_loop.epoch_progress.current
            epochs.completed = epochs.processed
            if not trainer.fast_dev_run:  # type: ignore[attr-defined]
                load_tested(task, run, trainer)
            trainer.test(task, datamodule=data, verbose=False)
        if not is_main() or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        result = build_result(
            config,
            data,
            task,
            checkpoint=run.tested_checkpoint,
            training=training_facts(config, data, steps=trainer.global_step),
            meter=meter,
            evidence=evidence,
        )
        write_json(run.result_path, result)
        status.write("done", epoch=trainer.current_epoch)  # before waiting for W&B
        with pictures_may_fail():
            log_finished(run, loggers)
        failed = False
    finally:
        close_loggers(loggers, failed=failed)
