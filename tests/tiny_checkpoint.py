"""A checkpoint as training leaves it, small and without training."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from segattn.metrics import Measures
from segattn.training.checkpoint import load_task
from segattn.training.task import SegmentationTask


def write_checkpoint(path: Path, *, head="fcn", classes=("a", "b", "c"), protocol=None, **knobs):
    """Random weights; gamma is not 0, so that attention counts, and every class is predicted."""
    torch.manual_seed(0)
    task = SegmentationTask(
        classes=list(classes),
        head={"name": head, "channels": 8, **knobs},
        encoder={"name": "resnet18", "depth": 3, "output_stride": 8},
        optimizer={},
        loss={"aux_weight": 0.4, "class_weights": None},
        metric=Measures(classes, size_edges=(8, 32), radius=8).plain(),
        protocol=protocol,
    )
    for name, parameter in task.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(0.5)
    task.eval()
    with torch.no_grad():
        logits = task(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)).logits
        task.model.head.classify[-1].bias -= logits.mean((0, 2, 3))
    content = {
        "state_dict": task.state_dict(),
        "hyper_parameters": dict(task.hparams),
        "pytorch-lightning_version": pl.__version__,
    }
    torch.save(content, path)
    return path


def make_task(folder: Path, head: str, **knobs):
    """The task of such a checkpoint."""
    knobs = {key: value for key, value in knobs.items() if value is not None}
    path = write_checkpoint(folder / "last.ckpt", head=head, **knobs)
    return load_task(path, device=torch.device("cpu"))


def make_images(count=2, height=44, width=60):
    """Noise, uint8 [count, 3, height, width]."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)
