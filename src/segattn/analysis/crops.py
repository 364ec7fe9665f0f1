"""Crops of single objects that a head wins or loses, for the report.

A report reads result files alone, so that it can be made where neither data nor checkpoints are.
This step follows a grid, and leaves the crops in the experiment folder.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.progress import track

from segattn.analysis.comparison import Comparison, compare
from segattn.analysis.details import object_differences
from segattn.base.errors import UserError
from segattn.base.files import atomic_path
from segattn.base.runs import CROPS_FILE, Run, load_runs
from segattn.data.source import Sample, Source
from segattn.metrics import find_objects
from segattn.training.build import build_data
from segattn.training.checkpoint import load_task

CROP_SIZE = 96  # px of a stored crop
_MIN_SIDE = 48  # px of the image; below it a crop would show a small object without its context
_CONTEXT = 2  # sides of a crop in sides of its object
_NUMBER = 4  # gains, and as many losses


def collect(folder: Path) -> None:
    """Write crops.npz: K crops, head by head, gains before losses.

    image uint8 [K, 96, 96, 3]; mask bool, prediction and reference uint8 [K, 96, 96]; head, cls,
    area (px), iou and reference_iou [K] (means over the common seeds). Both predictions are of the
    lowest seed that the head shares with the reference, by the weights that were tested. A head
    without such a seed or its checkpoints has no crops, and a printed line says so.

    Raises:
        UserError: No run is finished, the runs cannot be compared, or the data is missing.
    """
    comparison = compare(load_runs(folder))
    crops: list[dict[str, Any]] = []
    source = None  # opened for the first head with a checkpoint; predictions alone have no data
    for head in track(comparison.heads[1:], description="collecting objects won and lost"):
        pairs = comparison.paired_runs(head)
        if not pairs:
            print(f"no crops of {head}: it shares no seed with {comparison.reference}")
            continue
        missing = [run for run in pairs[0] if not run.tested_checkpoint.exists()]
        if missing:
            print(f"no crops of {head}: {missing[0].tested_checkpoint} is missing")
            continue
        source = source or build_data(pairs[0][0].config).source("test")
        crops += _crops(comparison, head, pairs[0], source)
    if crops:
        arrays = {key: np.stack([crop[key] for crop in crops]) for key in crops[0]}
        with atomic_path(folder / CROPS_FILE) as draft:
            np.savez_compressed(draft, **arrays)  # type: ignore[arg-type]


def _crops(
    comparison: Comparison, head: str, runs: tuple[Run, Run], source: Source
) -> list[dict[str, Any]]:
    found = extremes(object_differences(comparison, head)).to_dict("records")
    rows = [{str(key): value for key, value in row.items()} for row in found]
    index = {name: position for position, name in enumerate(source.names)}
    samples = {row["image"]: source.load(index[row["image"]]) for row in rows}
    predictions, references = (_predict(run, samples) for run in runs)
    return [
        {"head": head, **{key: row[key] for key in ("cls", "area", "iou", "reference_iou")}}
        | _crop(
            samples[row["image"]],
            row,
            prediction=predictions[row["image"]],
            reference=references[row["image"]],
        )
        for row in rows
    ]


def extremes(frame: pd.DataFrame) -> pd.DataFrame:
    """The largest gains, then the largest losses, largest first; at most one of each per image."""
    parts = []
    for part, ascending in (
        (frame[frame["difference"] > 0], False),
        (frame[frame["difference"] < 0], True),
    ):
        ordered = part.sort_values(
            ["difference", "area", "image"], ascending=[ascending, False, True]
        )
        parts.append(ordered.drop_duplicates("image").head(_NUMBER))
    return pd.concat(parts, ignore_index=True)


def _predict(run: Run, samples: dict[str, Sample]) -> dict[str, NDArray[np.uint8]]:
    """The label maps of a run's test for some images: same weights, protocol and precision."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = load_task(run.tested_checkpoint, device=device)
    with autocast_of_test(run, device):
        return {n: task.label_map(s.image, protocol=task.protocol) for n, s in samples.items()}


def autocast_of_test(run: Run, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast of a run's test; float32 for fp16 on a CPU, which a printed line says."""
    precision = run.config["trainer"]["precision"]
    if precision == "fp16" and device.type == "cpu":
        print(f"{run.path.name} was tested in fp16, which needs a GPU: shown in fp32")
        precision = "fp32"
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def _crop(
    sample: Sample,
    row: dict[str, Any],
    *,
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
) -> dict[str, NDArray[Any]]:
    mask = find_objects(sample.label, sample.instances).ids == row["object"]
    if mask.sum() != row["area"]:
        raise UserError(
            f"{sample.name} is not labelled as it was when the runs were tested; use that data"
        )
    window, nearest = crop_window(mask), Image.Resampling.NEAREST
    # any touched pixel counts: a thin object must not fall between the samples of its outline
    touched = _resize(mask[window].astype(np.uint8) * 255, Image.Resampling.BOX, fill="black")
    return {
        "image": _resize(sample.image[window], Image.Resampling.BILINEAR),
        "mask": touched > 0,
        "prediction": _resize(prediction[window], nearest),
        "reference": _resize(reference[window], nearest),
    }


def crop_window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of a square around an object [H, W], moved inside the image.

    Its side is twice the longer side of the object's bounding box and at least 48 px. Where the
    image is smaller than the square, the window ends with the image.
    """
    spans = [np.flatnonzero(mask.any(axis))[[0, -1]] for axis in (1, 0)]
    longest = max(int(last - first) + 1 for first, last in spans)
    side = max(_CONTEXT * longest, _MIN_SIDE)
    rows, columns = (
        _window(int(first + last + 1), side, length)
        for (first, last), length in zip(spans, mask.shape, strict=True)
    )
    return rows, columns


def _window(twice_centre: int, side: int, length: int) -> slice:
    side = min(side, length)
    start = min(max((twice_centre - side) // 2, 0), length - side)
    return slice(start, start + side)


def _resize(
    crop: NDArray[np.uint8], resample: Image.Resampling, *, fill: str = "white"
) -> NDArray[np.uint8]:
    """A crop as a square; what an oblong window lacks is filled, labels with 255, which is void."""
    size = (CROP_SIZE, CROP_SIZE)
    return np.asarray(ImageOps.pad(Image.fromarray(crop), size, method=resample, color=fill))
