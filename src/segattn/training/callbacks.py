"""What happens beside training: seeds, progress, cost and pictures."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from segattn.base.distributed import is_main
from segattn.base.hardware import process_peak_memory
from segattn.base.runs import Run, write_json
from segattn.data.datamodule import SegmentationData
from segattn.data.source import Source
from segattn.models.inference import Protocol
from segattn.tracking.media import Scene, log_scenes, picture_loggers, pictures_may_fail
from segattn.training.task import SegmentationTask


class StepSeed(Callback):
    """Seeds dropout by (seed, step), so that a resumed run draws what the whole one would.

    Once an epoch would not do: creating a loader's iterator draws from the same stream, and a
    resumed run creates it at another moment.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed."""
        # batches of one step and processes of a run drop out different things
        part = batch_idx % trainer.accumulate_grad_batches
        torch.manual_seed(
            self._seed * 1_000_003
            + trainer.global_step
            + part * 2**40
            + trainer.global_rank * 2**48
        )


class StatusWriter(Checkpoint):  # for Lightning calls these last: an epoch is done once it is saved
    """Keeps status.json: state, epochs done, and the last validation score under its own name.

    Prints a line per epoch where standard output is not a terminal and so has no progress bar.
    """

    def __init__(self, run: Run, *, max_epochs: int) -> None:
        self._run, self._started = run, time.time()
        # a resumed run is where its checkpoint is
        before = self._told() if run.checkpoint_path.exists() else {}
        self._progress: dict[str, Any] = {"epoch": 0, **before, "max_epochs": max_epochs}

    def write(self, state: str, **details: Any) -> None:
        """Write the state: running, interrupted, failed or done."""
        times = {"started": self._started, "updated": time.time()}
        if not is_main():  # the first process knows how far the run is
            self._progress |= self._told()
        write_json(self._run.status_path, {"state": state, **self._progress, **details, **times})

    def _told(self) -> dict[str, Any]:
        status = self._run.status
        return {key: status[key] for key in ("epoch", "score") if key in status}

    def interrupt(self) -> None:
        """Say that the run was cut off, unless its result is there and only pictures are not."""
        if self._run.result is None:
            self.write("interrupted", error="start it again to go on")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the new score."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        assert isinstance(pl_module, SegmentationTask)
        key = f"{pl_module.stage_of_validation}/miou"
        self._progress["score"] = {key: float(trainer.callback_metrics[key])}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One more epoch is done."""
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        self._progress["epoch"] = epoch
        self.write("running")
        if not sys.stdout.isatty():
            score = "".join(f"  {k} {v:.4f}" for k, v in self._progress.get("score", {}).items())
            print(f"epoch {epoch}/{trainer.max_epochs}{score}", flush=True)


class CostMeter(Callback):
    """Seconds of training and testing, and peak memory.

    Training is steps and loading, without validation and pictures. The checkpoint carries the sums
    to a resumed run. On several devices, images are counted on all of them, seconds and memory on
    the first.
    """

    def __init__(self) -> None:
        self.train_seconds, self.test_seconds, self.train_images = 0.0, 0.0, 0
        self.peak_memory = 0
        self._mark: float | None = None  # when the clock was started; None while it stands still

    def state_dict(self) -> dict[str, Any]:
        """Return the sums for the checkpoint."""
        return {
            "train_seconds": self.train_seconds,
            "train_images": self.train_images,
            "peak_memory": self.peak_memory,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.train_seconds = state_dict["train_seconds"]
        self.train_images = state_dict["train_images"]
        self.peak_memory = state_dict["peak_memory"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock. Timing every step would synchronise the device twice per step."""
        self._mark = _now(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the images."""
        self.train_images += len(batch["name"]) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.train_seconds += self._stop(pl_module.device)

    on_validation_end = on_train_epoch_start  # a validation may come within an epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock, and read the peak memory before the checkpoint is written."""
        self.train_seconds += self._stop(pl_module.device)
        self.peak_memory = max(self.peak_memory, process_peak_memory(pl_module.device))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._mark = _now(pl_module.device)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.test_seconds = self._stop(pl_module.device)
        self.peak_memory = max(self.peak_memory, process_peak_memory(pl_module.device))

    def _stop(self, device: torch.device) -> float:
        """Seconds since the clock was started; 0 if it was not, as in a sanity check."""
        seconds = 0.0 if self._mark is None else _now(device) - self._mark
        self._mark = None
        return seconds

    def summary(self) -> dict[str, float]:
        """Images per second of training, seconds, and peak memory in bytes."""
        return {
            "images_per_second": self.train_images / max(self.train_seconds, 1e-9),
            "train_seconds": self.train_seconds,
            "test_seconds": self.test_seconds,
            "peak_memory_bytes": self.peak_memory,
        }


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class ValidationScenes(Callback):
    """Shows the first validation images with prediction and ground truth in W&B or TensorBoard.

    It does so at the first validation after a start and in the last epoch. It draws no random
    number, and leaves weights and metrics alone.

    Args:
        num_scenes: Number of images.
    """

    def __init__(self, *, num_scenes: int) -> None:
        self._num_scenes, self._first = num_scenes, True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show them, if it is time."""
        every, epochs = trainer.check_val_every_n_epoch or 1, trainer.max_epochs or 0
        is_time = self._first or trainer.current_epoch + every >= epochs
        loggers = picture_loggers(trainer.loggers) if trainer.is_global_zero and is_time else []
        if not loggers or trainer.sanity_checking or self._num_scenes == 0:
            return
        self._first = False
        with pictures_may_fail():
            data = trainer.datamodule  # type: ignore[attr-defined]
            assert isinstance(data, SegmentationData)
            scenes = self._scenes(trainer, pl_module, data.source("val"))
            for logger in loggers:
                log_scenes(
                    logger,
                    "val/scenes",
                    scenes,
                    classes=data.source("val").classes,
                    palette=data.source("val").palette,
                    epoch=trainer.current_epoch,
                    step=trainer.global_step - 1,  # the step of the scores
                )

    def _scenes(self, trainer: pl.Trainer, task: pl.LightningModule, source: Source) -> list[Scene]:
        assert isinstance(task, SegmentationTask)
        scenes = []
        for index in range(min(self._num_scenes, len(source.names))):
            sample = source.load(index)
            with trainer.precision_plugin.val_step_context():
                prediction = task.label_map(sample.image, protocol=Protocol())
            scenes.append(Scene(sample.name, sample.image, sample.label, prediction))
        return scenes
