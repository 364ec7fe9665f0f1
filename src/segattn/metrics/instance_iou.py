"""The instance-level IoU of Cityscapes, from the object table.

It weighs each instance alike whatever its size, as a second opinion on bins of size.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def instance_iou(frame: pd.DataFrame, *, average_size: Mapping[int, float]) -> dict[int, float]:
    """Instance-level IoU of each class, iIoU = iTP / (iTP + FP + iFN).

    Metric of the pixel-level task of Cityscapes (Cordts et al. 2016,
    https://www.cityscapes-dataset.com/benchmarks/): the pixels of an instance weigh (average size
    of its class) / (its size), in iTP and in iFN. False positives belong to no instance and weigh
    1. Objects without an instance id, such as groups, take no part in iTP and iFN.

    One deviation from cityscapesScripts: a class without an instance is NaN there only if it has no
    false positive either, else 0; here it is always NaN, as there is nothing to find.

    Args:
        frame: Object table. The reach of the attribution does not matter.
        average_size: Label of each class to score -> mean area of its instances in the training
            labels, px at the resolution of the table. The numbers of cityscapesScripts are for
            1024 x 2048.

    Returns:
        Label -> iIoU in 0..1, one for each key of `average_size`.

    Raises:
        ValueError: If an average size is not positive.
    """
    wrong = {label: size for label, size in average_size.items() if not size > 0}
    if wrong:
        raise ValueError(f"average_size must hold positive areas in px, got {wrong}")
    return {label: _class_score(frame, label, size) for label, size in average_size.items()}


def _class_score(frame: pd.DataFrame, label: int, size: float) -> float:
    rows = frame[frame["cls"] == label]
    instances = rows[rows["from_instance"]]
    if instances.empty:
        return float("nan")
    # tp_k * size / area_k summed is size * (sum of recalls), and iTP + iFN is size per instance.
    recalls = instances["tp"].to_numpy(np.float64) / instances["area"].to_numpy(np.float64)
    false = rows[["fp", "fp_far"]].to_numpy(np.int64).sum()
    return float(size * recalls.sum() / (size * len(instances) + false))
