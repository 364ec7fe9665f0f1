"""What happens beside training: seeds, progress, cost, and the evidence of the test split."""

import resource
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
    """Keeps status.json: state and epochs done; prints a line per epoch where there is no bar."""

    def __init__(self, run: Run, *, verbose: bool) -> None:
        self._run, self._verbose = run, verbose
        self._started = time.time()

    def write(self, state: str, **details: object) -> None:
        """Write the state: running, done or failed."""
        content = {"state": state, "started": self._started, "updated": time.time(), **details}
        write_json(self._run.status_path, content)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the epoch, so that a reader sees the run as soon as it trains."""
        self.write("running", epoch=trainer.current_epoch, max_epochs=trainer.max_epochs)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A line for logs without a progress bar."""
        if self._verbose and not trainer.sanity_checking:
            miou = float(trainer.callback_metrics["val/miou"])
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            print(f"{epoch}  val/miou {miou:.4f}", flush=True)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last stage."""
        self.write("running", epoch=trainer.max_epochs, max_epochs=trainer.max_epochs, stage="test")


class CostMeter(Callback):
    """Seconds spent training and testing; survives a resume through the checkpoint."""

    def __init__(self) -> None:
        self.train_seconds, self.test_seconds, self.train_images = 0.0, 0.0, 0
        self._mark = 0.0

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"train_seconds": self.train_seconds, "train_images": self.train_images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.train_seconds = state_dict["train_seconds"]
        self.train_images = state_dict["train_images"]

    def on_train_batch_start(self, *_: Any) -> None:
        """The clock runs over the step alone; loading shows up as the rest of the wall time."""
        self._mark = self._now()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Any,
        *_: Any,
    ) -> None:
        """Stop the clock."""
        self.train_seconds += self._now() - self._mark
        self.train_images += len(batch["name"])

    def on_test_start(self, *_: Any) -> None:
        """Start the clock."""
        self._mark = self._now()

    def on_test_end(self, *_: Any) -> None:
        """Stop the clock."""
        self.test_seconds = self._now() - self._mark

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def summary(self) -> dict[str, float]:
        """images_per_second of the training step, seconds, and the process's peak memory in bytes.

        On a GPU the peak is what torch allocated there, on a CPU the resident set of the process.
        """
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        else:  # kilobytes on Linux, bytes on macOS
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {
            "images_per_second": self.train_images / max(self.train_seconds, 1e-9),
            "train_seconds": self.train_seconds,
            "test_seconds": self.test_seconds,
            "peak_memory_bytes": peak,
        }


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
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
