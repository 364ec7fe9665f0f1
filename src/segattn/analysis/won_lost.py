"""Objects won and lost: single objects that one head segments better than another."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segattn.analysis.comparison import Comparison, size_bins
from segattn.metrics import GROUPS
from segattn.runs import Run

GALLERY_FILE = "won_lost.npz"
"""Crops of the extremes in the experiment folder; `segattn.gallery` writes it."""

THRESHOLD = 0.1
"""IoU by which an object has to differ to be won or lost."""

# the first claims set these two against each other rather than against the baseline
_RIVALS = ("channel_nl", "spatial_nl")


def pairs(comparison: Comparison) -> list[tuple[str, str]]:
    """Heads to set against each other, each pair once.

    Every head with its reference, and channel_nl with spatial_nl. A pair without a common seed is
    left out.
    """
    found = list(comparison.references.items())
    if set(_RIVALS) <= set(comparison.heads):
        found.append(_RIVALS)
    unique = {frozenset(pair): pair for pair in found}
    return [(a, b) for a, b in unique.values() if common_runs(comparison, a, b)]


def common_runs(comparison: Comparison, a: str, b: str) -> list[tuple[Run, Run]]:
    """Runs of heads `a` and `b` by common seed, in the order of the seeds."""
    of_a, of_b = (
        dict(zip(comparison.samples[head].seeds, comparison.runs[head], strict=True))
        for head in (a, b)
    )
    return [(run, of_b[seed]) for seed, run in of_a.items() if seed in of_b]


def object_differences(comparison: Comparison, a: str, b: str) -> pd.DataFrame:
    """IoU of every ground-truth object under two heads, means over their common seeds.

    The IoU of an object is tp / (area + fp); fp are the false positives that it owns.

    Args:
        comparison: Gives the runs, the minimum area and the bins.
        a: Head whose gains are positive.
        b: Head it is compared with.

    Returns:
        One row per object of at least the minimum area, in the order of the object table: image,
        cls, area (px), width (px), object (its number in `find_objects` of the image's label), bin
        (joint bin of `SizeBins`), iou_a, iou_b (0..1) and difference, which is iou_a - iou_b.

    Raises:
        ValueError: The heads share no seed.
    """
    runs = common_runs(comparison, a, b)
    if not runs:
        seeds = [comparison.samples[head].seeds for head in (a, b)]
        raise ValueError(
            f"heads {a!r} and {b!r} share no seed, got {seeds[0]} and {seeds[1]}; "
            "train both with one seed"
        )
    truth = _objects(runs[0][0])
    iou_a, iou_b = (
        np.mean([_iou(_objects(run), truth=truth) for run in side], axis=0)
        for side in zip(*runs, strict=True)
    )
    frame = truth[["image", "cls", "area", "width"]].assign(
        object=truth.groupby("image", sort=False).cumcount(),
        bin=size_bins(comparison.facts).of(truth),
        iou_a=iou_a,
        iou_b=iou_b,
        difference=iou_a - iou_b,
    )
    counted = frame["area"] >= comparison.facts["metric"]["min_area"]
    return frame[counted].reset_index(drop=True)


def _objects(run: Run) -> pd.DataFrame:
    table = run.objects()
    return table[table["kind"] == "object"]


def _iou(table: pd.DataFrame, *, truth: pd.DataFrame) -> NDArray[np.float64]:
    for column in ("image", "cls", "area"):
        assert np.array_equal(table[column], truth[column]), "runs list their objects alike"
    union = table["area"].to_numpy() + table["fp"].to_numpy()
    return table["tp"].to_numpy() / union


def won_and_lost(frame: pd.DataFrame, *, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Objects won and lost per group of `GROUPS`.

    Args:
        frame: As `object_differences` gives it.
        threshold: IoU that a difference must exceed to count.

    Returns:
        One row per group: group, objects, num_won, num_lost, and won and lost as shares of the
        objects (0..1, NaN in an empty group).
    """
    rows = []
    for group, members in GROUPS.items():
        difference = frame.loc[frame["bin"].isin(members), "difference"]
        won, lost = difference > threshold, difference < -threshold
        rows.append(
            {
                "group": group,
                "objects": len(difference),
                "num_won": int(won.sum()),
                "num_lost": int(lost.sum()),
                "won": won.mean(),
                "lost": lost.mean(),
            }
        )
    return pd.DataFrame(rows)


def extremes(frame: pd.DataFrame, *, number: int = 5) -> pd.DataFrame:
    """The largest gains, then the largest losses, largest first; at most one of each per image.

    Of equal differences the larger object comes first, then the image that is first by name.

    Args:
        frame: As `object_differences` gives it.
        number: Gains, and as many losses; fewer where fewer images have one.
    """
    gains, losses = frame[frame["difference"] > 0], frame[frame["difference"] < 0]
    parts = [
        part.sort_values(["difference", "area", "image"], ascending=[ascending, False, True])
        .drop_duplicates("image")
        .head(number)
        for part, ascending in ((gains, False), (losses, True))
    ]
    return pd.concat(parts, ignore_index=True)
