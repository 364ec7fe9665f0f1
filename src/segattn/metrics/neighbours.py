"""Scores that other papers read from the same predictions, computed from an object table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segattn.metrics.measures import Measures
from segattn.metrics.table import EDGES, image_counts

NEIGHBOURS = {f"miou_{kind}" for kind in ("image", "image_worst", "class", "class_worst")}
NEIGHBOURS |= {"iiou", "boundary_iou"}
"""Names of these scores."""


def neighbour_scores(
    table: pd.DataFrame, measures: Measures, *, images: Sequence[str]
) -> dict[str, float]:
    """Return six scores by name, each 0..1 or NaN.

    miou_image and miou_class are mIoU^I and mIoU^C of Wang et al. (NeurIPS 2023): IoUs of single
    images, over the classes that are in their labels, averaged by image or by class first. The
    `_worst` ones average the lowest 10, 20, ..., 100 % of these. iiou is Cityscapes' iIoU over the
    classes of the size bins: each object weighs its true and missed pixels by the mean area of its
    class over its own. boundary_iou is the mean over classes of the IoU within the bands of
    `segattn.metrics.counts.near_outline` (Cheng et al., CVPR 2021).

    Args:
        table: Object table.
        measures: Names the classes, and the classes of the size bins.
        images: Name of every test image.
    """
    counts = image_counts(table, measures, images=images)
    tp, area, fp = np.moveaxis(counts[:, :, 0].astype(float), -1, 0)
    iou = np.where(area > 0, tp / np.maximum(area + fp, 1), np.nan)
    shown = iou[(area > 0).any(1)]
    by_image = np.nanmean(shown, axis=1) if len(shown) else np.array([np.nan])
    by_class = [column[~np.isnan(column)] for column in iou.T]
    by_class = [column for column in by_class if len(column)] or [np.array([np.nan])]
    things = sorted({name for names in measures.size_classes.values() for name in names})
    return {
        "miou_image": float(by_image.mean()),
        "miou_image_worst": _worst(by_image),
        "miou_class": float(np.mean([column.mean() for column in by_class])),
        "miou_class_worst": float(np.mean([_worst(column) for column in by_class])),
        "iiou": _iiou(table, measures.labels(things)),
        "boundary_iou": _boundary_iou(table),
    }


def _worst(values: NDArray[np.float64]) -> float:
    """Mean of the means of the lowest 10, 20, ..., 100 % of values."""
    ordered = np.sort(values)
    return float(np.mean([ordered[: max(1, len(ordered) * q // 10)].mean() for q in range(1, 11)]))


def _iiou(table: pd.DataFrame, labels: list[int]) -> float:
    table = table[table["cls"].isin(labels) & ~table["crowd"]].astype({"area": float})
    true = table[~table["alarm"]]
    weight = true.groupby("cls")["area"].transform("mean") / true["area"]
    hit = (true["tp"] * weight).groupby(true["cls"]).sum()
    missed = ((true["area"] - true["tp"]) * weight).groupby(true["cls"]).sum()
    return float((hit / (hit + missed + table.groupby("cls")["fp"].sum())).mean())


def _boundary_iou(table: pd.DataFrame) -> float:
    if not set(EDGES) <= set(table):
        return float("nan")
    area, tp, fp = table.groupby("cls")[list(EDGES)].sum().to_numpy(float).T
    either = area + fp
    return float((tp[either > 0] / either[either > 0]).mean()) if (either > 0).any() else np.nan
