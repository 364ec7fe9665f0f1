"""What a report needs from data and checkpoints: the oracle, and crops of objects won and lost.

A report reads result files alone, so that it can be made where neither data nor checkpoints are.
This step follows a grid and leaves both in the experiment folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.progress import track

from segattn.analysis.comparison import Comparison, compare
from segattn.analysis.won_lost import (
    GALLERY_FILE,
    common_runs,
    extremes,
    object_differences,
    pairs,
)
from segattn.checkpoint import load_task
from segattn.data.datamodule import SegmentationData, image_tensor
from segattn.data.source import Sample, Source
from segattn.files import atomic_path
from segattn.metrics import find_objects
from segattn.oracle import STRIDES, write_oracle
from segattn.runs import Run, load_runs, read_oracle
from segattn.train import build_data

CROP_SIZE = 96  # px of a stored crop
_MIN_SIDE = 48  # px of the image; below it a crop would show a small object without its context
_CONTEXT = 2  # sides of a crop in sides of its object


def collect(folder: Path) -> None:
    """Write the oracle's tables and won_lost.npz of an experiment.

    The oracle is left as it is where it was made from the same objects. The crops are made anew;
    a pair of heads without checkpoints has none, and a printed line says so.

    won_lost.npz holds K crops, pair by pair, gains before losses: image uint8 [K, 96, 96, 3],
    mask bool, label, prediction_a and prediction_b uint8 [K, 96, 96] (the first common seed), pair
    [K, 2], name and cls [K], area [K] (px), iou_a and iou_b [K] (means over the common seeds).

    Args:
        folder: Experiment folder with finished runs.

    Raises:
        ValueError: No run is finished, the runs cannot be compared, or the data is missing.
    """
    finished = [run for run in load_runs(folder) if run.result is not None]
    if not finished:
        raise ValueError(
            f"no run in {folder} is finished, so there is nothing to collect. "
            "Run `make ablation`, or wait for it."
        )
    data = build_data(finished[0].config)
    _collect_oracle(finished[0], data, folder / "oracle")
    _collect_crops(compare(finished), data.source("test"), folder / GALLERY_FILE)


def _collect_oracle(run: Run, data: SegmentationData, folder: Path) -> None:
    tables = read_oracle(folder)
    if list(tables) == list(STRIDES) and _truth(tables[STRIDES[0]]).equals(_truth(run.objects())):
        return
    result = run.result
    assert result is not None
    write_oracle(
        track(data.test_dataloader(), description="scoring the perfect head"),
        folder,
        num_classes=len(result["data"]["classes"]),
        metric=result["metric"],
    )


def _truth(table: pd.DataFrame) -> pd.DataFrame:
    objects = table.loc[table["kind"] == "object", ["image", "cls", "area"]]
    return objects.reset_index(drop=True)


@dataclass(frozen=True)
class _Shown:
    """One crop to make: a row of `extremes`, and the runs whose predictions it shows."""

    pair: tuple[str, str]
    runs: tuple[Run, Run]
    row: dict[str, Any]


def _collect_crops(comparison: Comparison, source: Source, path: Path) -> None:
    shown = [item for pair in pairs(comparison) for item in _choose(comparison, pair)]
    if not shown:
        return
    samples = _load(source, [item.row["image"] for item in shown])
    predictions = _predict_all(shown, samples)
    crops = []
    for item in shown:
        name = item.row["image"]
        maps = [predictions[run, name] for run in item.runs]
        mask = _mask(samples[name], item.row)
        crops.append(_crop(samples[name], mask=mask, predictions=maps))
    arrays = {key: np.stack([crop[key] for crop in crops]) for key in crops[0]}
    arrays["pair"] = np.array([item.pair for item in shown])
    arrays["name"] = np.array([item.row["image"] for item in shown])
    for key in ("cls", "area", "iou_a", "iou_b"):
        arrays[key] = np.array([item.row[key] for item in shown])
    with atomic_path(path) as draft:
        np.savez_compressed(draft, **arrays)  # type: ignore[arg-type]


def _choose(comparison: Comparison, pair: tuple[str, str]) -> list[_Shown]:
    """The extremes of a pair; none, and a line for the user, where a checkpoint is missing."""
    runs = common_runs(comparison, *pair)[0]
    missing = [str(run.checkpoint_path) for run in runs if not run.checkpoint_path.exists()]
    if missing:
        print(f"no crops of {pair[0]} against {pair[1]}: no {' and no '.join(missing)}")
        return []
    rows = extremes(object_differences(comparison, *pair)).to_dict("records")
    return [_Shown(pair, runs, {str(key): value for key, value in row.items()}) for row in rows]


def _load(source: Source, names: Sequence[str]) -> dict[str, Sample]:
    """Each named sample once."""
    index = {name: position for position, name in enumerate(source.names)}
    return {name: source.load(index[name]) for name in dict.fromkeys(names)}


def _predict_all(
    shown: Sequence[_Shown], samples: dict[str, Sample]
) -> dict[tuple[Run, str], NDArray[np.uint8]]:
    """The prediction of each run on each image it is shown on, by run and name."""
    needed: dict[Run, dict[str, Sample]] = {}
    for item in shown:
        name = item.row["image"]
        for run in item.runs:
            needed.setdefault(run, {})[name] = samples[name]
    predictions = {}
    for run in track(list(needed), description="predicting objects won and lost"):
        for name, prediction in _predict(run, needed[run]).items():
            predictions[run, name] = prediction
    return predictions


def _predict(run: Run, samples: dict[str, Sample]) -> dict[str, NDArray[np.uint8]]:
    """Images through the run's last checkpoint, by the protocol and the precision of its test."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = load_task(run.checkpoint_path, device=device)
    bf16 = run.config["trainer"]["precision"] == "bf16"
    predictions = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for name, sample in samples.items():
            image = image_tensor(sample)[None].to(device)
            labels = task.by_protocol(image).max(1).indices[0]
            predictions[name] = labels.byte().cpu().numpy()
    return predictions


def _mask(sample: Sample, row: dict[str, Any]) -> NDArray[np.bool_]:
    """Pixels of an object; the table lists those of an image in the order of `find_objects`."""
    mask = find_objects(sample.label, sample.instances).ids == row["object"]
    if mask.sum() != row["area"]:
        raise ValueError(
            f"{sample.name} is not labelled as it was when the runs were tested: object "
            f"{row['object']} has {mask.sum()} px, not {row['area']}. Use the data of the runs."
        )
    return mask


def _crop(
    sample: Sample, *, mask: NDArray[np.bool_], predictions: Sequence[NDArray[np.uint8]]
) -> dict[str, NDArray[Any]]:
    """Crops around the object of `mask`."""
    window = crop_window(mask)
    nearest = Image.Resampling.NEAREST
    # any touched pixel counts: a thin object must not fall between the samples of its outline
    touched = _resize(mask[window].astype(np.uint8) * 255, Image.Resampling.BOX, fill="black")
    prediction_a, prediction_b = (_resize(p[window], nearest) for p in predictions)
    return {
        "image": _resize(sample.image[window], Image.Resampling.BILINEAR),
        "mask": touched > 0,
        "label": _resize(sample.label[window], nearest),
        "prediction_a": prediction_a,
        "prediction_b": prediction_b,
    }


def crop_window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the square around an object, moved inside the image.

    Its side is twice the longer side of the object's bounding box and at least 48 px. Where the
    image is smaller than the square, the window ends with the image.

    Args:
        mask: [H, W], true on the object, which has at least one pixel.
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
