"""The attention of finished runs in a notebook: figures of examples, and maps of any pixel."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from segattn.analysis import html
from segattn.analysis.comparison import display_order
from segattn.analysis.crops import autocast_of_test
from segattn.analysis.remote import RunsError
from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.runs import Run, load_runs
from segattn.data.source import IGNORE_INDEX
from segattn.models.attention_maps import collect_attention
from segattn.tracking.attention_figures import attention_figure, block_names
from segattn.training.checkpoint import load_task
from segattn.training.task import SegmentationTask

Kind = Literal["spatial", "channel", "full"]
_KEYS: dict[str, Kind] = {"rows": "spatial", "affinity": "channel", "column_maps": "full"}
_PER_PIXEL = ("pixels", "rows", "column_maps", "row_maps")

Arrays = dict[str, NDArray[Any]]


def attention_runs(folder: Path) -> list[Run]:
    """The runs at or below `folder` that keep attention maps, in the order of heads and seeds.

    Raises:
        RunsError: No run keeps them; the message says what to run.
    """
    runs = [run for run in load_runs(folder) if run.attention_path.exists()]
    runs.sort(key=lambda run: (display_order(run.config["head"]["name"]), run.config["seed"]))
    if not runs:
        raise RunsError(
            f"no run below {folder} has attention.npz: heads without attention (fcn), runs that "
            "are not finished, and the folders below results/ have none. Train heads with `make "
            "ablation-smoke`, or where a run has a checkpoint, run `python scripts/evaluate.py "
            "checkpoint=RUN/checkpoints/last.ckpt`. The runs in tests/fixture/runs have it."
        )
    return runs


def overview(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per block of every run: run, head, block, attention (its kind) and gamma."""
    rows = []
    for run in runs:
        attention = run.attention()
        rows += [
            {
                "run": run.path.name,
                "head": run.config["head"]["name"],
                "block": block,
                "attention": _kind(attention, block),
                "gamma": f"{float(attention[f'{block}/gamma']):+.3f}",
                "any pixel": "yes" if run.tested_checkpoint.exists() else "stored ones only",
            }
            for block in block_names(attention)
        ]
    return pd.DataFrame(rows)


def figures_of(runs: Sequence[Run], kind: Kind, *, index: int = 0) -> str:
    """HTML of the blocks of a kind, from the lowest seed of every head, for one example image.

    Args:
        runs: Result of `attention_runs`.
        kind: "spatial", "channel" or "full".
        index: Number of the image in examples.npz.

    Raises:
        UserError: Unknown `kind`.
    """
    check_choice("kind of attention", kind, get_args(Kind))
    first = {run.config["head"]["name"]: run for run in reversed(runs)}
    pieces = [
        html.paragraph(run.path.name) + _figure(run, run.attention(), block, image=index)
        for run in reversed(first.values())
        for block in block_names(run.attention())
        if _kind(run.attention(), block) == kind
    ]
    return "".join(pieces) or html.paragraph(f"No run here has {kind} attention.")


def pixel_attention(run: Run, *, image: int, row: int, column: int) -> Arrays:
    """The attention of one pixel of an example image.

    It is computed from the weights and in the precision of the test. Where the run has no
    checkpoint, it is the attention of the nearest pixel that the run keeps.

    Args:
        run: One of `attention_runs`.
        image: Number of the image in examples.npz.
        row: px from the top.
        column: px from the left.

    Returns:
        See `segattn.models.attention_maps`; one image, one pixel.

    Raises:
        UserError: The image or pixel does not exist, or a file of the run is damaged.
    """
    images = run.examples()["images"]
    if not 0 <= image < len(images):
        raise UserError(f"{run.path.name} keeps images 0 to {len(images) - 1}, got image {image}")
    height, width = images.shape[1:3]
    if not (0 <= row < height and 0 <= column < width):
        raise UserError(f"row {row}, column {column} lies outside the image of {height} x {width}")
    if run.tested_checkpoint.exists():
        pixels = torch.from_numpy(images[[image]]).permute(0, 3, 1, 2)
        with autocast_of_test(run, torch.device("cpu")):
            return collect_attention(_task(run).model, pixels, pixels=np.array([[[row, column]]]))
    kept = {k: v[[image]] if v.ndim else v for k, v in run.attention().items()}
    distances = np.square(kept["pixels"][0] - (row, column)).sum(1)
    nearest = [int(distances.argmin())]
    return {k: v[:, nearest] if k.split("/")[-1] in _PER_PIXEL else v for k, v in kept.items()}


def pixel_view(run: Run, *, image: int, row: int, column: int) -> str:
    """HTML of the blocks of a run for one pixel; a sentence if the pixel does not exist."""
    try:
        attention = pixel_attention(run, image=image, row=row, column=column)
    except UserError as error:
        return html.paragraph(str(error))
    blocks = block_names(attention)
    return "".join(_figure(run, attention, block, image=image, alone=True) for block in blocks)


@lru_cache(maxsize=2)
def _task(run: Run) -> SegmentationTask:
    return load_task(run.tested_checkpoint, device=torch.device("cpu"))


def _figure(run: Run, attention: Arrays, block: str, *, image: int, alone: bool = False) -> str:
    """HTML of a block; `alone`: the arrays hold this image only."""
    examples, index = run.examples(), 0 if alone else image
    places = attention["pixels"][index]
    figure = attention_figure(
        attention,
        block,
        index=index,
        image=examples["images"][image],
        titles=_classes(run, examples["labels"][image], places),
    )
    return html.figure(figure, alt=f"Attention of {block} in {run.path.name}, image {image}")


def _classes(run: Run, label: NDArray[np.uint8], pixels: NDArray[np.int64]) -> list[str]:
    result = run.result
    if result is None:
        return []
    names = {**dict(enumerate(result["data"]["classes"])), IGNORE_INDEX: "void"}
    return [names[int(label[row, column])] for row, column in pixels]


def _kind(attention: Arrays, block: str) -> Kind:
    return next(kind for key, kind in _KEYS.items() if f"{block}/{key}" in attention)
