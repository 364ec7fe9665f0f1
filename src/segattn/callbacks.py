"""What happens beside training: seeds, progress, cost, and the evidence of the test split."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from segattn.files import atomic_path
from segattn.hardware import process_peak_memory
from segattn.metrics.table import object_frame, write_table
from segattn.runs import Run, write_json
from segattn.task import SegmentationTask


class StepSeed(Callback):
    """Seeds dropout by (seed, step), so that a resumed run draws what the whole one would.

    Once an epoch would not do: creating a loader's iterator draws from the same stream, and a
    resumed run creates it at another moment.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Seed."""
        torch.manual_seed(self._seed * 1_000_003 + trainer.global_step)


class StatusWriter(Callback):
    """Keeps status.json: state, epochs done, and the last validation score under its own name.

    Prints a line per epoch where standard output is no terminal and so has no progress bar.
    """

    def __init__(self, run: Run, *, max_epochs: int) -> None:
        self._run, self._started = run, time.time()
        self._progress: dict[str, Any] = {"epoch": 0, "max_epochs": max_epochs}

    def write(self, state: str, **details: Any) -> None:
        """Write the state: running, done or failed."""
        times = {"started": self._started, "updated": time.time()}
        write_json(self._run.status_path, {"state": state, **self._progress, **details, **times})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A new score."""
        assert isinstance(pl_module, SegmentationTask)
        key = f"{pl_module.stage_of_validation}/miou"
        self._progress["score"] = {key: float(trainer.callback_metrics[key])}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One more epoch is done."""
        epoch = trainer.current_epoch + 1
        self._progress["epoch"] = epoch
        self.write("running")
        if not sys.stdout.isatty():
            score = "".join(f"  {k} {v:.4f}" for k, v in self._progress.get("score", {}).items())
            print(f"epoch {epoch}/{trainer.max_epochs}{score}", flush=True)


class CostMeter(Callback):
    """Seconds spent training and testing, and peak memory; survives a resume in the checkpoint."""

    def __init__(self) -> None:
        self.train_seconds, self.test_seconds, self.train_images = 0.0, 0.0, 0
        self.peak_memory, self._mark = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
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

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """The clock runs over the step alone; loading shows up as the rest of the wall time."""
        self._mark = _now(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Stop the clock."""
        self.train_seconds += _now(pl_module.device) - self._mark
        self.train_images += len(batch["name"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the memory before the checkpoint of the epoch is written."""
        self.peak_memory = max(self.peak_memory, process_peak_memory(pl_module.device))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._mark = _now(pl_module.device)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.test_seconds = _now(pl_module.device) - self._mark
        self.peak_memory = max(self.peak_memory, process_peak_memory(pl_module.device))

    def summary(self) -> dict[str, float]:
        """Images per second of the training step, seconds, and peak memory in bytes."""
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


class Evidence(Callback):
    """Writes objects.parquet and examples.npz of the test split.

    Args:
        run: Where to write.
        num_examples: Keep images, labels and predictions of the first so many test images.
    """

    def __init__(self, run: Run, *, num_examples: int) -> None:
        self._run, self._num_examples = run, num_examples
        self.names: list[str] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self.names, self._frames, self._examples = [], [], []  # type: ignore[var-annotated]

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Collect the rows of the batch that the metric has just counted."""
        assert isinstance(pl_module, SegmentationTask)
        rows = pl_module.test_metric.rows
        assert rows is not None
        frame = object_frame(
            rows,
            truth=batch["objects"],
            prediction=outputs["predicted_objects"],
            images=batch["name"],
        )
        self._frames.append(frame)
        room = max(self._num_examples - len(self.names), 0)
        for position in range(min(room, len(batch["name"]))):
            self._examples.append(_example(batch, outputs["predictions"], position))
        self.names += batch["name"]

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write."""
        write_table(pd.concat(self._frames, ignore_index=True), self._run.objects_path)
        if self._examples:
            _write_examples(self._run.examples_path, self._examples)


def _example(batch: dict[str, Any], predictions: torch.Tensor, position: int) -> dict[str, Any]:
    return {
        "images": batch["image"][position].permute(1, 2, 0).cpu().numpy(),
        "labels": batch["label"][position].cpu().numpy().astype(np.uint8),
        "predictions": predictions[position].cpu().numpy().astype(np.uint8),
        "names": batch["name"][position],
    }


def _write_examples(path: Path, examples: list[dict[str, Any]]) -> None:
    shape = examples[0]["labels"].shape  # images of another size cannot stand in one array
    same = [example for example in examples if example["labels"].shape == shape]
    arrays = {key: np.stack([example[key] for example in same]) for key in same[0]}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
