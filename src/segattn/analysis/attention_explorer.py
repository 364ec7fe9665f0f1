"""The attention of finished runs in a notebook: figures, and sliders that ask about any pixel."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, display
from numpy.typing import NDArray

from segattn.analysis import html
from segattn.analysis.attention_figures import attention_figure, block_names
from segattn.arguments import check_choice
from segattn.attention_maps import collect_attention
from segattn.checkpoint import load_task
from segattn.data.source import IGNORE_INDEX
from segattn.runs import Run, load_runs
from segattn.task import SegmentationTask

Kind = Literal["spatial", "channel", "full"]
_KEYS: dict[str, Kind] = {"rows": "spatial", "affinity": "channel", "column_maps": "full"}
_PER_PIXEL = ("pixels", "rows", "column_maps", "row_maps")

Arrays = dict[str, NDArray[Any]]


def attention_runs(folder: Path) -> list[Run]:
    """The runs at or below `folder` that keep attention maps, sorted by path.

    Raises:
        ValueError: There is none; the message says what to run.
    """
    runs = [run for run in load_runs(folder) if run.attention_path.exists()]
    if not runs:
        raise ValueError(
            f"no run below {folder} has attention.npz. Heads without attention (fcn) and runs "
            "that are not finished have none. Run `make ablation-quick`; for a run that was made "
            "before attention was kept, run `python scripts/evaluate.py` on its checkpoint."
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
                "any pixel": "yes" if run.checkpoint_path.exists() else "stored ones only",
            }
            for block in block_names(attention)
        ]
    return pd.DataFrame(rows)


def figures_of(runs: Sequence[Run], kind: Kind, *, index: int = 0) -> str:
    """HTML of the blocks of a kind, from the first run of every head, for one example image.

    Args:
        runs: From `attention_runs`.
        kind: "spatial", "channel" or "full".
        index: Of the image in examples.npz.

    Raises:
        ValueError: Unknown `kind`.
    """
    check_choice("kind of attention", kind, get_args(Kind))
    first = {run.config["head"]["name"]: run for run in reversed(runs)}
    pieces = [
        html.paragraph(run.path.name) + _figure(run, run.attention(), block, image=index)
        for run in sorted(first.values(), key=lambda run: run.path)
        for block in block_names(run.attention())
        if _kind(run.attention(), block) == kind
    ]
    return "".join(pieces) or html.paragraph(f"No run here has {kind} attention.")


def explore(runs: Sequence[Run]) -> None:
    """Display sliders for run, image, row and column, and what that pixel attends to.

    Without ipywidgets the last image of the first run stands there, with the pixels that it keeps.

    Args:
        runs: From `attention_runs`. A run with a checkpoint answers for any pixel, and one without
            for the nearest of those it keeps.
    """
    if find_spec("ipywidgets") is None:
        display(HTML(html.paragraph("No sliders: pip install ipywidgets.") + still(runs[0])))
        return
    import ipywidgets as widgets

    count, height, width = runs[0].examples()["images"].shape[:3]
    row, column = runs[0].attention()["pixels"][0, 0].tolist()
    places = {"image": (count, 0), "row": (height, row), "column": (width, column)}
    sliders = [
        widgets.IntSlider(start, 0, stop - 1, description=name, continuous_update=False)
        for name, (stop, start) in places.items()
    ]
    names = {"/".join(run.path.parts[-2:]): run for run in runs}
    controls = [widgets.Dropdown(options=names, description="run"), *sliders]
    display(widgets.VBox(controls))
    view = display(HTML(pixel_view(runs[0], image=0, row=row, column=column)), display_id=True)

    def update(_: Any) -> None:
        run, image, row, column = (control.value for control in controls)
        view.update(HTML(pixel_view(run, image=image, row=row, column=column)))

    for control in controls:
        control.observe(update, "value")


def still(run: Run) -> str:
    """HTML of every block of a run for its last example image and the pixels it keeps there."""
    attention = run.attention()
    last = len(attention["pixels"]) - 1
    blocks = block_names(attention)
    pieces = [_figure(run, attention, block, image=last) for block in blocks]
    return html.paragraph(f"{run.path.name}, image {last}, the pixels it keeps") + "".join(pieces)


def pixel_attention(run: Run, *, image: int, row: int, column: int) -> Arrays:
    """The attention of one pixel of an example image, as if there were no other.

    Computed from the checkpoint; without one, that of the nearest pixel the run keeps.

    Args:
        run: From `attention_runs`.
        image: Its number in examples.npz.
        row: px from the top.
        column: px from the left.

    Returns:
        See `segattn.attention_maps`; one image, one pixel.

    Raises:
        ValueError: There is no such image or pixel, or a file of the run is damaged.
    """
    images = run.examples()["images"]
    if not 0 <= image < len(images):
        raise ValueError(f"{run.path.name} keeps {len(images)} images, so there is no {image}")
    if run.checkpoint_path.exists():
        pixels = torch.from_numpy(images[[image]]).permute(0, 3, 1, 2)
        return collect_attention(_task(run), pixels, pixels=np.array([[[row, column]]]))
    kept = {k: v[[image]] if v.ndim else v for k, v in run.attention().items()}
    distances = np.square(kept["pixels"][0] - (row, column)).sum(1)
    nearest = [int(distances.argmin())]
    return {k: v[:, nearest] if k.split("/")[-1] in _PER_PIXEL else v for k, v in kept.items()}


def pixel_view(run: Run, *, image: int, row: int, column: int) -> str:
    """HTML of the blocks of a run for one pixel; a sentence where there is no such pixel."""
    try:
        attention = pixel_attention(run, image=image, row=row, column=column)
    except ValueError as error:
        return html.paragraph(str(error))
    blocks = block_names(attention)
    return "".join(_figure(run, attention, block, image=image, alone=True) for block in blocks)


@lru_cache(maxsize=2)
def _task(run: Run) -> SegmentationTask:
    return load_task(run.checkpoint_path, device=torch.device("cpu"))


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
