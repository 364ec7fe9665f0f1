"""One run from a checked config: train, test, and leave the run folder. Idempotent."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import WARNING, getLogger
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import Logger

from segattn.callbacks import CostMeter, Evidence, StatusWriter, StepSeed, ValidationScenes
from segattn.commandline import own_message
from segattn.config import differences
from segattn.data.datamodule import SegmentationData
from segattn.encoders import build_encoder
from segattn.files import atomic_path
from segattn.logging import build_loggers, close_loggers
from segattn.losses import inverse_sqrt_weights
from segattn.media import log_finished, picture_loggers, pictures_may_fail
from segattn.result import build_result, objects_of_training, training_facts
from segattn.runs import Run, write_json
from segattn.task import SegmentationTask

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}


def run_folder(config: dict[str, Any]) -> Run:
    """runs_dir / experiment / name."""
    return Run(Path(config["runs_dir"]) / config["experiment"] / config["name"])


def train(config: dict[str, Any]) -> Run:
    """Train and test one run; a finished run returns at once, a cut-off one goes on.

    Args:
        config: As `segattn.config.resolve_config` gives it.

    Raises:
        ValueError: The folder holds a run with another config, or the data is missing or damaged.
    """
    run = run_folder(config)
    claim(run, config)
    epochs = config["trainer"]["max_epochs"]
    status = StatusWriter(run, max_epochs=epochs)
    if run.result is not None:
        if run.status["state"] != "done":  # killed just before it could say so
            status.write("done", epoch=epochs)
        print(f"already finished: {run.path}")
        return run
    status.write("running")
    try:
        _fit_and_test(run, config, status)
    except (KeyboardInterrupt, SystemExit):  # Lightning makes SystemExit of Ctrl-C and SIGTERM
        status.write("failed", error="interrupted; start it again to go on")
        raise
    except Exception as error:
        told = own_message(error) if isinstance(error, ValueError) else None
        status.write("failed", error=f"{type(error).__name__}: {told or error}")
        raise
    status.write("done", epoch=epochs)
    return run


def claim(
    run: Run,
    config: dict[str, Any],
    *,
    advice: str = "start it under another name (experiment=... or name=...)",
) -> None:
    """Write config.yaml, or check that it is the same experiment.

    Raises:
        ValueError: It is not; the message lists the differences.
    """
    if not run.config_path.exists():
        with atomic_path(run.config_path) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return
    changes = differences(run.config, config)
    if changes:
        raise ValueError(
            f"{run.path} holds a run with another config:\n  "
            + "\n  ".join(changes)
            + f"\nTo keep both, {advice}; or delete that folder."
        )


def _fit_and_test(run: Run, config: dict[str, Any], status: StatusWriter) -> None:
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    data = build_data(config)
    data.prepare_data()
    data.warn_unless_official()
    task = build_task(config, data)
    loggers = build_loggers(config, run)
    num_examples, meter = config["num_examples"], CostMeter()
    evidence = Evidence(run, num_examples=num_examples, meter=meter)
    scenes = ValidationScenes(meter, num_scenes=num_examples)
    failed = True
    try:
        checkpoint = str(run.checkpoint_path) if run.checkpoint_path.exists() else None
        with quiet_lightning():
            callbacks = [status, meter, evidence, scenes, *_training_callbacks(run, config)]
            trainer = build_trainer(run, config, loggers=loggers, callbacks=callbacks)
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
            trainer.test(task, datamodule=data, verbose=False)
        result = build_result(
            config,
            data,
            task,
            checkpoint=run.checkpoint_path,
            training=training_facts(config, data, steps=trainer.global_step),
            train_objects=objects_of_training(config, data),
            meter=meter,
            evidence=evidence,
        )
        write_json(run.result_path, result)
        _log_finished(run, loggers, meter=meter, device=task.device)
        failed = False
    finally:
        close_loggers(loggers, failed=failed)


def _log_finished(
    run: Run, loggers: list[Logger], *, meter: CostMeter, device: torch.device
) -> None:
    """Pictures and tables of the finished run, and their seconds in its result."""
    if not picture_loggers(loggers):
        return
    with meter.media(device), pictures_may_fail():
        log_finished(run, loggers)
    result = run.result
    assert result is not None
    write_json(run.result_path, {**result, "cost": {**result["cost"], **meter.summary()}})


def build_data(config: dict[str, Any]) -> SegmentationData:
    """The data module of a config."""
    return SegmentationData(
        data=config["data"], augment=config["augment"], seed=config["seed"], **config["loader"]
    )


def build_task(config: dict[str, Any], data: SegmentationData) -> SegmentationTask:
    """The task of a config; its encoder holds the pretrained weights, if any are named."""
    balanced = config["loss"]["class_weights"] == "inverse_sqrt"
    task = new_task(
        config,
        classes=data.source("train").classes,
        class_weights=inverse_sqrt_weights(data.class_frequencies()) if balanced else None,
    )
    if config["encoder"]["weights"] is not None:
        pretrained = build_encoder(**config["encoder"])
        task.model.encoder.load_state_dict(pretrained.state_dict())
    return task


def new_task(
    config: dict[str, Any], *, classes: Sequence[str], class_weights: list[float] | None
) -> SegmentationTask:
    """A task without pretrained weights, which are none of its properties.

    So a checkpoint loads without a download.
    """
    return SegmentationTask(
        classes=list(classes),
        head=config["head"],
        encoder={key: value for key, value in config["encoder"].items() if key != "weights"},
        optimizer=config["optimizer"],
        loss=config["loss"] | {"class_weights": class_weights},
        metric=metric_options(config),
        protocol=config["protocol"],
    )


def metric_options(config: dict[str, Any]) -> dict[str, Any]:
    """The task's `metric`: the reach over false positives in px instead of cells."""
    metric = dict(config["metric"])
    metric["radius"] = metric.pop("radius_cells") * metric["stride"]
    return metric


def _training_callbacks(run: Run, config: dict[str, Any]) -> list[Callback]:
    # monitor=None: with a monitor, Lightning 2.6 writes last.ckpt only when the monitor improves
    last = ModelCheckpoint(
        dirpath=run.checkpoint_path.parent,
        filename="last",
        monitor=None,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    return [StepSeed(config["seed"]), last]


def build_trainer(
    run: Run, config: dict[str, Any], *, loggers: list[Any], callbacks: list[Callback]
) -> pl.Trainer:
    """The Trainer of a config; with a progress bar on a terminal."""
    bar = sys.stdout.isatty()
    if bar:
        callbacks = [*callbacks, RichProgressBar()]
    return pl.Trainer(
        default_root_dir=run.path,
        max_epochs=config["trainer"]["max_epochs"],
        accelerator=config["trainer"]["accelerator"],
        devices=1,
        precision=_LIGHTNING_PRECISION[config["trainer"]["precision"]],  # type: ignore[arg-type]
        logger=loggers or False,
        callbacks=callbacks,
        num_sanity_val_steps=0,
        enable_progress_bar=bar,
        enable_model_summary=False,
        check_val_every_n_epoch=config["trainer"]["val_every"],
        log_every_n_steps=10,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Mute what no user of a run could act on."""
    with warnings.catch_warnings():
        _filter_warnings()
        yield


def _filter_warnings() -> None:
    getLogger("pytorch_lightning").setLevel(WARNING)  # devices and advertisements, at every start
    # a resumed run finds its own checkpoint
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # Lightning 2.6 on torch 2.15; nothing that a user could change
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    # advice for large GPU machines; here workers compete with training for the same two cores
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # the last, short epoch of a tiny grid is meant to be short
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
