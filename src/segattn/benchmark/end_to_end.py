"""A training as scripts/train.py runs it against a bare loop of PyTorch, epoch by epoch in turn.

Both load, augment, step and follow the schedule, with the same model, data, workers and precision;
what the product adds is Lightning, its callbacks, the log, and the watch over the losses.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from segattn.callbacks import CostMeter
from segattn.config import compose_config
from segattn.data.datamodule import SegmentationData
from segattn.logging import build_loggers
from segattn.losses import segmentation_loss
from segattn.optimizers import build_optimizer
from segattn.runs import Run
from segattn.task import SegmentationTask
from segattn.train import build_data, build_task, run_folder
from segattn.trainer import build_trainer, quiet_lightning, training_callbacks

Row = dict[str, Any]

# images of an epoch and their size: seconds of work on either device
_CPU, _GPU = (48, 160, 224), (240, 360, 480)


class BareLoop(Callback):
    """Trains a copy of the model for an epoch of its own after each epoch of the trainer.

    Args:
        task: Before its training.
        data: With the same samples as the trainer's.
        meter: Of the trainer.
    """

    def __init__(self, task: SegmentationTask, data: SegmentationData, meter: CostMeter) -> None:
        self.task, self.meter = copy.deepcopy(task), meter
        self.loader = data.train_dataloader()
        self.seconds: list[tuple[float, float]] = []  # of an epoch: the trainer's, and the bare one

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Weights to the device, and an optimizer for them."""
        self.task.to(pl_module.device)
        options = dict(self.task.hparams["optimizer"])
        del options["schedule"], options["warmup"]
        model: Any = self.task.model
        self.optimizer = build_optimizer(model.encoder, model.head, **options)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: 1.0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One epoch, and the seconds of both."""
        of_trainer = self.meter.train_seconds - sum(seconds for seconds, _ in self.seconds)
        device = pl_module.device
        _wait(device)
        start = time.perf_counter()
        for batch in self.loader:
            images, labels = (
                batch[key].to(device, non_blocking=True) for key in ("image", "label")
            )
            with trainer.precision_plugin.train_step_context():
                loss = self._loss(images, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
        _wait(device)
        self.seconds.append((of_trainer, time.perf_counter() - start))

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        losses = segmentation_loss(
            self.task(images),
            labels,
            aux_weight=self.task.hparams["loss"]["aux_weight"],
            class_weights=self.task.class_weights,
            ignore_index=255,
        )
        return losses["loss"]


def end_to_end(
    heads: Iterable[str],
    *,
    device: torch.device,
    batch_size: int,
    epochs: int = 5,
    experiments: Path,
) -> Iterator[Row]:
    """Images per second of both, per head, on built-in scenes.

    Args:
        heads: Keys of `HEADS`.
        device: CPU or CUDA.
        batch_size: Images of a step.
        experiments: The config folder.
        epochs: Of each, after one that warms up.

    Yields:
        head, images, size, num_workers, precision, images_per_second, bare_images_per_second, and
        ratio, the median over epochs of product / bare.
    """
    images, height, width = _GPU if device.type == "cuda" else _CPU
    for head in heads:
        with tempfile.TemporaryDirectory() as folder:
            words = [
                *(f"head={head}", "data=scenes", "encoder.depth=4", "logger=csv"),
                *(f"runs_dir={folder}", f"loader.batch_size={batch_size}"),
                *(f"data.height={height}", f"data.width={width}", f"data.num_train={images}"),
                *("data.num_val=1", "data.num_test=1", f"trainer.max_epochs={epochs + 1}"),
                f"trainer.val_every={epochs + 2}",
                f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}",
            ]
            config = compose_config(words, folder=experiments)
            data, bare = _train(config, run_folder(config))
        ours, bares = zip(*bare.seconds[1:], strict=True)
        yield {
            "head": head,
            "images": images,
            "size": f"{height} x {width}",
            "num_workers": data.num_workers,
            "precision": config["trainer"]["precision"],
            "images_per_second": images / statistics.median(ours),
            "bare_images_per_second": images / statistics.median(bares),
            "ratio": statistics.median(b / a for a, b in bare.seconds[1:]),
        }


def _train(config: dict[str, Any], run: Run) -> tuple[SegmentationData, BareLoop]:
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    data, meter = build_data(config), CostMeter()
    task = build_task(config, data)
    bare = BareLoop(task, build_data(config), meter)
    callbacks = [meter, *training_callbacks(run, config), bare]
    loggers = build_loggers(config, run)
    with quiet_lightning():
        trainer = build_trainer(run, config, loggers=loggers, callbacks=callbacks)
        trainer.fit(task, datamodule=data)
    return data, bare


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
