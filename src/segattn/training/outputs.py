"""What a test leaves behind: the object table, examples, and the attention on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback

from segattn.base.distributed import gather, interleave
from segattn.base.files import atomic_path
from segattn.base.runs import Run
from segattn.data.datamodule import SegmentationData
from segattn.metrics.table import table_of, write_table
from segattn.models.attention_maps import example_attention
from segattn.tracking.media import pictures_may_fail
from segattn.training.task import SegmentationTask


class Evidence(Callback):
    """Writes objects.parquet, examples.npz and attention.npz of the test split.

    The table is sorted by image, in the order of the data set, so that neither the size of a batch
    nor the number of processes shows in it.

    Args:
        run: Where to write.
        num_examples: Keep images, labels, predictions and attention of the first so many test
            images.
    """

    def __init__(self, run: Run, *, num_examples: int) -> None:
        self._run, self._num_examples = run, num_examples
        self.names: list[str] = []
        self.table = pd.DataFrame()
        self._frames: list[pd.DataFrame] = []
        self._examples: list[dict[str, Any]] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self.names, self._frames, self._examples = [], [], []

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
        rows = dict(zip(batch["name"], pl_module.test_metric.rows, strict=True))
        self._frames.append(table_of(rows))
        for position, name in enumerate(batch["name"]):
            # image k of the data set is the k // world_size-th of process k % world_size
            if len(self.names) * trainer.world_size + trainer.global_rank < self._num_examples:
                self._examples.append(_example(batch, outputs["predictions"], position))
            self.names.append(name)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, in the first process, what all of them have seen."""
        mine = pd.concat(self._frames, ignore_index=True)
        parts = gather((self.names, mine, self._examples))
        if parts is None:
            return
        names, frames, found = zip(*parts, strict=True)
        self.names = interleave(names)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SegmentationData)
        # of all of them, but for trainer.limit_test_batches
        tested = data.source("test").names[: len(self.names)]
        assert self.names == tested, "each image is tested once"
        self.table = _sorted(pd.concat(frames, ignore_index=True), self.names)
        with atomic_path(self._run.objects_path) as draft:
            write_table(self.table, draft)
        if all_examples := interleave(found):
            examples = _stack_examples(all_examples)
            _write_arrays(self._run.examples_path, examples)
            with pictures_may_fail():
                self._write_attention(trainer, pl_module, examples)

    def _write_attention(
        self, trainer: pl.Trainer, task: pl.LightningModule, examples: dict[str, NDArray[Any]]
    ) -> None:
        assert isinstance(task, SegmentationTask)
        with trainer.precision_plugin.test_step_context():
            attention = example_attention(task.model, examples)
        if attention:
            _write_arrays(self._run.attention_path, attention)


def _sorted(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Sort rows by image; the rows of one image keep their order."""
    place = {name: position for position, name in enumerate(names)}
    order = np.argsort(frame["image"].map(place).to_numpy(), kind="stable")
    return frame.iloc[order].reset_index(drop=True)


def _example(batch: dict[str, Any], predictions: torch.Tensor, position: int) -> dict[str, Any]:
    return {
        "images": batch["image"][position].permute(1, 2, 0).cpu().numpy(),
        "labels": batch["label"][position].cpu().numpy().astype(np.uint8),
        "predictions": predictions[position].cpu().numpy().astype(np.uint8),
        "names": batch["name"][position],
    }


def _stack_examples(examples: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    shape = examples[0]["labels"].shape  # images of another size cannot stand in one array
    same = [example for example in examples if example["labels"].shape == shape]
    return {key: np.stack([example[key] for example in same]) for key in same[0]}


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
