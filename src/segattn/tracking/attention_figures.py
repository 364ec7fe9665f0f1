"""Figures of attention maps; every function returns a Figure and touches no global state.

They read the arrays of `segattn.models.attention_maps`, whose table names the keys and axes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Panel = tuple[str, Callable[[Axes], AxesImage]]
"""A title, and a function that draws the panel."""

_WEIGHTS = "inferno"  # colours of weights
_OVER, _OPAQUE = "viridis", 0.6  # maps over an image have other colours than weights
_GRAY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
_LIFT = -120  # gray value shown as black: a narrow range, so that the colours over it stay alike
_FAINT = 1e-3  # weights below it look alike
_WIDTH, _COLUMNS = 2.6, 4  # inches of a panel, panels in a row
_BARS = {
    _OVER: "attention of the pixel, or feature of the channel (0 if negative), over its largest",
    _WEIGHTS: "weight of a channel, logarithmic; alike channels stand side by side",
}


def block_names(attention: Arrays) -> list[str]:
    """Return the blocks that have maps, in the order of the head."""
    return [key.removesuffix("/gamma") for key in attention if key.endswith("/gamma")]


def attention_figure(
    attention: Arrays,
    block: str,
    *,
    index: int,
    image: NDArray[np.uint8],
    titles: Sequence[str] = (),
) -> Figure:
    """Draw the maps of one block for one image.

    Spatial attention: what each chosen pixel attends to, over the image. Channel attention: which
    channel attends to which, and for some channels the maps of the channels most and least alike.
    Full attention: what some channels draw from every other one, column by column and row by row,
    and the maps in the column and the row of each chosen pixel.

    Args:
        attention: Arrays of `segattn.models.attention_maps.collect_attention`.
        block: One of `block_names`.
        index: Index of the image.
        image: uint8 [H, W, 3].
        titles: What the chosen pixels belong to, such as their classes; none by default.
    """
    maps = {
        key.removeprefix(f"{block}/"): values[index]
        for key, values in attention.items()
        if key.startswith(f"{block}/") and values.ndim
    }
    maps |= {"pixels": attention["pixels"][index], "stride": attention["stride"]}
    names = [f"{n}: {title}" for n, title in enumerate(titles, start=1)]
    names = names or [str(n) for n in range(1, len(maps["pixels"]) + 1)]
    kind = _spatial if "rows" in maps else _channel if "affinity" in maps else _full
    title = f"{block}, gamma {float(attention[f'{block}/gamma']):+.3f}"
    return _figure(title, kind(maps, image, names), shape=image.shape)


def _figure(title: str, panels: Sequence[Panel], *, shape: tuple[int, ...]) -> Figure:
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    height = rows * (_WIDTH * shape[0] / shape[1] + 0.35) + 1
    figure = Figure(figsize=(columns * _WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    bars = {}
    for axes, (name, draw) in zip(grid.flat, panels, strict=False):
        axes.set(xticks=[], yticks=[])
        shown = draw(axes)
        axes.set_title(name, fontsize=8)
        bars[shown.get_cmap().name] = shown
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for cmap, label in _BARS.items():
        if cmap in bars:
            bar = figure.colorbar(bars[cmap], ax=grid, location="bottom", shrink=0.4, aspect=40)
            bar.set_label(label, fontsize=8)
            bar.ax.tick_params(labelsize=8)
    return figure


def _spatial(maps: Arrays, image: NDArray[np.uint8], names: list[str]) -> list[Panel]:
    panels: list[Panel] = [("the image", partial(_show_image, image=image, pixels=maps["pixels"]))]
    for k, name in enumerate(names):
        row = maps["rows"][k].astype(float)
        over = partial(_overlay, image=image, values=row, stride=int(maps["stride"]))
        title = f"{name}, half of it in {_half(row)} of the image"
        panels.append((title, partial(over, at={k + 1: maps["pixels"][k]})))
    return panels


def _half(row: NDArray[np.float64]) -> str:
    """Return the share of the cells of a map that hold half of its weight."""
    weights = np.sort(row.ravel())[::-1]
    count = int(np.searchsorted(weights.cumsum(), weights.sum() / 2)) + 1
    return f"{100 * count / weights.size:.2g}%"


def _channel(maps: Arrays, image: NDArray[np.uint8], names: list[str]) -> list[Panel]:
    affinity = _matrix(maps["affinity"], "channel that it attends to", "channel")
    panels: list[Panel] = [
        ("the image", partial(_show_image, image=image, pixels=maps["pixels"][:0])),
        ("channel (row) attends to channel", affinity),
    ]
    for row, channels in enumerate(maps["shown"]):
        for column, name in enumerate(("channel {} to itself", "most alike: {}", "least: {}")):
            weight = maps["weights"][row, column]
            shown = f"{weight:.2f}" if weight >= 0.005 else "< 0.01"
            title = f"{name.format(channels[column])}, weight {shown}"
            panels.append((title, _features(maps, image, row, column)))
    return panels


def _full(maps: Arrays, image: NDArray[np.uint8], names: list[str]) -> list[Panel]:
    panels: list[Panel] = [("the image", partial(_show_image, image=image, pixels=maps["pixels"]))]
    for k, shown in enumerate(maps["shown"]):
        panels += [
            (f"channel {shown[0]} draws from", _features(maps, image, k, 0)),
            ("by image column", _matrix(maps["over_columns"][k], "image column", "channel")),
            ("by image row", _matrix(maps["over_rows"][k].T, "channel", "image row")),
        ]
    drawn = "channel that it draws from", "channel"
    return panels + [
        (f"in the image {key} of {name}", _matrix(maps[f"{key}_maps"][k], *drawn))
        for k, name in enumerate(names)
        for key in ("column", "row")
    ]


def _features(
    maps: Arrays, image: NDArray[np.uint8], row: int, column: int
) -> Callable[[Axes], AxesImage]:
    values = maps["channel_maps"][row, column].astype(float)
    return partial(_overlay, image=image, values=values, stride=int(maps["stride"]))


def _matrix(values: NDArray[Any], x: str, y: str) -> Callable[[Axes], AxesImage]:
    """Draw weights on a logarithmic scale: few are near one, most are close to nothing."""

    def draw(axes: Axes) -> AxesImage:
        axes.set_xlabel(x, fontsize=7, labelpad=2)
        axes.set_ylabel(y, fontsize=7, labelpad=2)
        look: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "cmap": _WEIGHTS}
        return axes.imshow(values.astype(float).clip(_FAINT), norm=LogNorm(_FAINT, 1), **look)

    return draw


def _show_image(axes: Axes, *, image: NDArray[np.uint8], pixels: NDArray[np.int64]) -> AxesImage:
    shown = axes.imshow(image)
    for number, pixel in enumerate(pixels, start=1):
        _mark(axes, pixel, str(number))
    return shown


def _mark(axes: Axes, pixel: NDArray[np.int64], text: str) -> None:
    box = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "black", "lw": 0.8}
    axes.plot(pixel[1], pixel[0], "o", ms=4, mfc="white", mec="black", mew=0.8)
    # beside the pixel, and inside the picture
    right, top = pixel[1] > 0.9 * max(axes.get_xlim()), pixel[0] < 0.15 * max(axes.get_ylim())
    aside = (-10 if right else 6, -12 if top else 6)
    place: dict[str, Any] = {"xytext": aside, "textcoords": "offset points"}
    axes.annotate(text, (pixel[1], pixel[0]), bbox=box, fontsize=7, **place)


def _overlay(
    axes: Axes,
    *,
    image: NDArray[np.uint8],
    values: NDArray[np.float64],
    stride: int,
    at: dict[int, NDArray[np.int64]] | None = None,
) -> AxesImage:
    """Draw a map [h, w] over the image in gray; bright is most, and the scale is the map's own."""
    height, width = image.shape[:2]
    axes.imshow(image @ np.array(_GRAY), cmap="gray", vmin=_LIFT, vmax=255)
    shown = axes.imshow(
        np.clip(values / max(values.max(), 1e-12), 0, 1),
        cmap=_OVER,
        vmin=0,
        vmax=1,
        alpha=_OPAQUE,  # the same everywhere, so that the colour bar holds
        extent=(0, values.shape[1] * stride, values.shape[0] * stride, 0),
        interpolation="bilinear",
    )
    axes.set(xlim=(0, width), ylim=(height, 0))  # without the padding
    for number, pixel in (at or {}).items():
        _mark(axes, pixel, str(number))
    return shown
