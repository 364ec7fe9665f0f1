"""The oracle: what a perfect head would score, given no more than the resolution of its input.

The labels themselves, averaged over the cells of a feature map and upsampled as every head's
logits are. Small and thin objects lose most, for any head; that is why bins are not compared with
each other, and the oracle's row stands beside the heads to show it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from segattn.metrics import (
    SizeBins,
    SizeStratifiedIoU,
    find_objects,
    object_frame,
    other_radii,
    stack_objects,
    write_table,
)
from segattn.runs import oracle_path
from segattn.upsampling import upsample

STRIDES = (4, 8, 16, 32)


def perfect_head(target: Tensor, *, num_classes: int, stride: int) -> Tensor:
    """Prediction int64 [N, H, W] of a head that knows the share of each class in every cell.

    Args:
        target: int64 [N, H, W]; a value outside 0..num_classes-1 is void.
        num_classes: C.
        stride: px per cell of the feature map.
    """
    height, width = target.shape[1:]
    classes = torch.arange(num_classes, device=target.device)[:, None, None]
    shares = (target[:, None] == classes).float()
    shares = functional.pad(shares, (0, -width % stride, 0, -height % stride))
    cells = functional.avg_pool2d(shares, kernel_size=stride)
    return upsample(cells, stride=stride, size=(height, width)).max(1).indices


def write_oracle(
    batches: Iterable[dict[str, Any]],
    folder: Path,
    *,
    num_classes: int,
    metric: dict[str, Any],
    strides: Sequence[int] = STRIDES,
) -> None:
    """Score a perfect head at each stride and write its object tables.

    Args:
        batches: The test split, as `SegmentationData.test_dataloader` gives it.
        folder: Where to write stride_<px>.parquet.
        num_classes: C.
        metric: As in result.json: stride, size_edges, elongation, radius, min_area.
        strides: px per cell.
    """
    bins = SizeBins(metric["stride"], metric["size_edges"], metric["elongation"])
    radius = metric["radius"]
    counter = SizeStratifiedIoU(
        num_classes, num_bins=bins.num_bins, radius=radius, other_radii=other_radii(radius)
    )
    frames: dict[int, list[pd.DataFrame]] = {stride: [] for stride in strides}
    for batch in batches:
        for stride in strides:
            frames[stride].append(_score(counter, bins, batch, num_classes, stride))
    folder.mkdir(parents=True, exist_ok=True)
    for stride, parts in frames.items():
        write_table(pd.concat(parts, ignore_index=True), oracle_path(folder, stride))


def _score(
    counter: SizeStratifiedIoU,
    bins: SizeBins,
    batch: dict[str, Any],
    num_classes: int,
    stride: int,
) -> pd.DataFrame:
    """Object table of one batch."""
    target, truth = batch["label"], batch["objects"]
    preds = perfect_head(target, num_classes=num_classes, stride=stride)
    found = stack_objects([find_objects(p, ignore_index=None) for p in preds.numpy()])
    counter.update(preds, target, truth.ids, truth.bins(bins), found.ids, found.bins(bins))
    assert counter.rows is not None
    return object_frame(counter.rows, truth=truth, prediction=found, images=batch["name"])
