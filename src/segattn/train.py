"""One run from a checked config: train, test, and leave the run folder. Idempotent."""

import platform
import subprocess
import sys
import warnings
from importlib.metadata import version
from logging import WARNING, getLogger
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch.utils.flop_counter import FlopCounterMode

import segattn
from segattn.callbacks import CostMeter, Evidence, StatusWriter, StepSeed
from segattn.config import differences
from segattn.data.datamodule import SegmentationData, image_tensor
from segattn.data.source import IGNORE_INDEX
from segattn.data.training_objects import training_objects
from segattn.files import atomic_path
from segattn.logging import build_loggers, close_loggers
from segattn.losses import inverse_sqrt_weights
from segattn.model import build_encoder
from segattn.runs import RESULT_SCHEMA, Run, write_json
from segattn.task import SegmentationTask, summarise

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}
PROTOCOL = "whole"  # every image as a whole, at its own size


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
    _claim(run, config)
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
        status.write("failed", error=f"{type(error).__name__}: {error}")
        raise
    status.write("done", epoch=epochs)
    return run


def _claim(run: Run, config: dict[str, Any]) -> None:
    """Write config.yaml, or check that it is the same experiment."""
    if not run.config_path.exists():
        with atomic_path(run.config_path) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return
    changes = differences(run.config, config)
    if changes:
        raise ValueError(
            f"{run.path} holds a run with another config:\n  "
            + "\n  ".join(changes)
            + "\nStart it under another name (experiment=... or name=...), or delete that folder."
        )


def _fit_and_test(run: Run, config: dict[str, Any], status: StatusWriter) -> None:
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    data = build_data(config)
    data.prepare_data()
    task = build_task(config, data)
    loggers = build_loggers(config, run)
    meter, evidence = CostMeter(), Evidence(run, num_examples=config["num_examples"])
    failed = True
    try:
        checkpoint = str(run.checkpoint_path) if run.checkpoint_path.exists() else None
        with warnings.catch_warnings():
            _quiet_lightning()
            trainer = _build_trainer(run, config, loggers, [status, meter, evidence])
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
            trainer.test(task, datamodule=data, verbose=False)
        write_json(run.result_path, _result(config, data, task, trainer, meter, evidence))
        failed = False
    finally:
        close_loggers(loggers, failed=failed)


def build_data(config: dict[str, Any]) -> SegmentationData:
    """The data module of a config."""
    return SegmentationData(
        data=config["data"], augment=config["augment"], seed=config["seed"], **config["loader"]
    )


def build_task(config: dict[str, Any], data: SegmentationData) -> SegmentationTask:
    """The task of a config; its encoder holds the pretrained weights, if any are named."""
    encoder, metric = dict(config["encoder"]), dict(config["metric"])
    weights = encoder.pop("weights")
    metric["radius"] = metric.pop("radius_cells") * metric["stride"]
    loss = dict(config["loss"])
    balanced = loss["class_weights"] == "inverse_sqrt"
    loss["class_weights"] = inverse_sqrt_weights(data.class_frequencies()) if balanced else None
    task = SegmentationTask(
        classes=list(data.source("train").classes),
        head=config["head"],
        encoder=encoder,
        optimizer=config["optimizer"],
        loss=loss,
        metric=metric,
    )
    if weights is not None:  # not a property of the model: a checkpoint loads without a download
        pretrained = build_encoder(**encoder, weights=weights)
        task.model.encoder.load_state_dict(pretrained.state_dict())
    return task


def _build_trainer(
    run: Run, config: dict[str, Any], loggers: list[Any], callbacks: list[Callback]
) -> pl.Trainer:
    # monitor=None: with a monitor, Lightning 2.6 writes last.ckpt only when the monitor improves
    last = ModelCheckpoint(
        dirpath=run.checkpoint_path.parent,
        filename="last",
        monitor=None,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    callbacks = [*callbacks, StepSeed(config["seed"]), last]
    bar = sys.stdout.isatty()
    if bar:
        callbacks.append(RichProgressBar())
    return pl.Trainer(
        default_root_dir=run.path,
        max_epochs=config["trainer"]["max_epochs"],
        accelerator=config["trainer"]["accelerator"],
        devices=1,
        precision=_LIGHTNING_PRECISION[config["trainer"]["precision"]],  # type: ignore[arg-type]
        logger=loggers,
        callbacks=callbacks,
        num_sanity_val_steps=0,
        enable_progress_bar=bar,
        enable_model_summary=False,
        log_every_n_steps=10,
    )


def _quiet_lightning() -> None:
    getLogger("pytorch_lightning").setLevel(WARNING)  # devices and advertisements, at every start
    # a resumed run finds its own checkpoint
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # Lightning 2.6 on torch 2.15; nothing that a user could change
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    # advice for large GPU machines; here workers compete with training for the same two cores
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # the last, short epoch of a tiny grid is meant to be short
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")


def _result(
    config: dict[str, Any],
    data: SegmentationData,
    task: SegmentationTask,
    trainer: pl.Trainer,
    meter: CostMeter,
    evidence: Evidence,
) -> dict[str, Any]:
    """The content of result.json."""
    source, metric = data.source("test"), dict(task.hparams["metric"])
    return {
        "schema": RESULT_SCHEMA,
        "name": config["name"],
        "experiment": config["experiment"],
        "seed": config["seed"],
        "split": "test",
        "protocol": PROTOCOL,
        "num_images": int(task.test_metric.n_images),
        "images": evidence.names,
        "blocks": source.blocks(),
        "head": config["head"],
        "encoder": config["encoder"],
        "data": {
            "name": config["data"]["name"],
            "title": source.title,
            "classes": list(source.classes),
            "palette": [list(colour) for colour in source.palette],
            "ignore_index": IGNORE_INDEX,
            "groups": {name: list(classes) for name, classes in source.groups.items()},
        },
        "train_objects": training_objects(data.source("train"), min_area=metric["min_area"]),
        "metric": metric,
        "scores": summarise(task.test_metric, classes=source.classes),
        "confusion": task.test_confusion.compute().tolist(),
        "cost": {**_model_cost(task, data), **meter.summary()},
        "training": {
            "optimizer": config["optimizer"],
            "augment": config["augment"],
            "class_weights": config["loss"]["class_weights"],
            "max_epochs": config["trainer"]["max_epochs"],
            "batch_size": config["loader"]["batch_size"],
            "images": len(data.source("train").names),
            "steps": trainer.global_step,
        },
        "environment": _environment(config),
    }


def _model_cost(task: SegmentationTask, data: SegmentationData) -> dict[str, int]:
    """Parameters, and FLOPs of one test image through the whole model, upsampling included.

    Multiply and add count as 2.
    """
    image = image_tensor(data.source("test").load(0))[None]
    task.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        task(image.to(task.device))
    return {
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "head_parameters": sum(p.numel() for p in task.model.head.parameters()),
        "flops": counter.get_total_flops(),
    }


def _environment(config: dict[str, Any]) -> dict[str, Any]:
    gpu = config["trainer"]["accelerator"] == "gpu"
    return {
        "segattn": segattn.__version__,
        **_git_state(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "device": device_name(gpu=gpu),
        "threads": torch.get_num_threads(),
        "precision": config["trainer"]["precision"],
    }


def device_name(*, gpu: bool) -> str:
    """The GPU's or the processor's own name."""
    if gpu:
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} (CPU)"


def _git_state() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; None outside a checkout or without git."""
    folder = Path(segattn.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
            )
        except OSError:  # no git here
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
    }
