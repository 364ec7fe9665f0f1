"""The attention of finished runs in a notebook: figures, and an image to ask about any pixel."""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, display
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segattn.analysis import html
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
    """The runs at or below `folder` that keep attention maps, sorted by path.

    Raises:
        RunsError: There is none; the message says what to run.
    """
    runs = [run for run in load_runs(folder) if run.attention_path.exists()]
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
        UserError: Unknown `kind`.
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
    """Display an image to click at, sliders that do the same, and what the chosen pixel attends to.

    Args:
        runs: From `attention_runs`. Those whose attention differs from pixel to pixel come first.
            A run with a checkpoint answers for any pixel, and one without for the nearest of
            those it keeps.
    """
    runs = sorted(runs, key=lambda run: not _differs_by_pixel(run.attention()))
    import ipywidgets as widgets
    from ipyevents import Event

    controls = _controls(runs)
    place = dict(zip(("run", "image", "row", "column"), controls, strict=True))
    picture = widgets.Image(value=_picture(**_values(place)), layout={"width": "28rem"})
    display(widgets.HBox([picture, widgets.VBox(controls)], layout={"flex_flow": "row wrap"}))
    view = display(HTML(pixel_view(**_values(place))), display_id=True)

    def update(_: Any = None) -> None:
        picture.value = _picture(**_values(place))
        view.update(HTML(pixel_view(**_values(place))))

    def click(event: dict[str, Any]) -> None:
        for name, key in (("row", "dataY"), ("column", "dataX")):
            place[name].unobserve(update, "value")  # one answer, when both have moved
            place[name].value = event[key]
            place[name].observe(update, "value")
        update()

    for control in controls:
        control.observe(update, "value")
    Event(source=picture, watched_events=["click"]).on_dom_event(click)


def _controls(runs: Sequence[Run]) -> list[Any]:
    """A choice of the run, and sliders for image, row and column; at a pixel that is kept."""
    import ipywidgets as widgets

    count, height, width = runs[0].examples()["images"].shape[:3]
    row, column = runs[0].attention()["pixels"][0, 0].tolist()
    places = {"image": (count, 0), "row": (height, row), "column": (width, column)}
    names = {"/".join(run.path.parts[-2:]): run for run in runs}
    sliders = [
        widgets.IntSlider(start, 0, stop - 1, description=name, continuous_update=False)
        for name, (stop, start) in places.items()
    ]
    return [widgets.Dropdown(options=names, description="run"), *sliders]


def _values(controls: dict[str, Any]) -> dict[str, Any]:
    return {name: control.value for name, control in controls.items()}


def _picture(run: Run, image: int, row: int, column: int) -> bytes:
    """PNG of an example image with a ring around a pixel."""
    shown = Image.fromarray(run.examples()["images"][image])
    radius = max(3, shown.width // 60)
    for size, colour in ((radius + 1, "black"), (radius, "white")):
        ImageDraw.Draw(shown).circle((column, row), size, outline=colour)
    buffer = io.BytesIO()
    shown.save(buffer, format="png")
    return buffer.getvalue()


def pixel_attention(run: Run, *, image: int, row: int, column: int) -> Arrays:
    """The attention of one pixel of an example image, as if there were no other.

    Computed from the checkpoint; without one, that of the nearest pixel the run keeps.

    Args:
        run: From `attention_runs`.
        image: Its number in examples.npz.
        row: px from the top.
        column: px from the left.

    Returns:
        See `segattn.models.attention_maps`; one image, one pixel.

    Raises:
        UserError: There is no such image or pixel, or a file of the run is damaged.
    """
    images = run.examples()["images"]
    if not 0 <= image < len(images):
        raise UserError(f"{run.path.name} keeps {len(images)} images, so there is no {image}")
    if run.checkpoint_path.exists():
        pixels = torch.from_numpy(images[[image]]).permute(0, 3, 1, 2)
        return collect_attention(_task(run).model, pixels, pixels=np.array([[[row, column]]]))
    kept = {k: v[[image]] if v.ndim else v for k, v in run.attention().items()}
    distances = np.square(kept["pixels"][0] - (row, column)).sum(1)
    nearest = [int(distances.argmin())]
    return {k: v[:, nearest] if k.split("/")[-1] in _PER_PIXEL else v for k, v in kept.items()}


def pixel_view(run: Run, *, image: int, row: int, column: int) -> str:
    """HTML of the blocks of a run for one pixel; a sentence where there is no such pixel."""
    try:
        attention = pixel_attention(run, image=image, row=row, column=column)
    except UserError as error:
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


def _differs_by_pixel(attention: Arrays) -> bool:
    """Channel attention is the same wherever one looks."""
    return any(_kind(attention, block) != "channel" for block in block_names(attention))
