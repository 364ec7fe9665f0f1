"""Figures of attention maps; every function returns a Figure and touches no global state.

They read the arrays of `segattn.models.attention_maps`, whose table names the keys and axes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_CMAP = "inferno"  # of weights
_OVER, _OPAQUE = "viridis", 0.6  # of maps over an image, so that nobody reads them as weights
_GRAY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
_LIFT = -120  # gray value shown as black: a narrow range, so that the colours over it stay alike
_FAINT = 1e-3  # weights below it look alike
# inches; placed by hand, since a layout engine takes longer than everything else
_TOP, _TITLE, _GAP, _WIDTH = 0.3, 0.3, 0.15, 2.6
_STRIP, _LABEL, _BAR = 0.7, 0.15, 0.5


def block_names(attention: Arrays) -> list[str]:
    """The blocks whose maps are there, in the order of the head."""
    return [key.removesuffix("/gamma") for key in attention if key.endswith("/gamma")]


def attention_figure(
    attention: Arrays,
    block: str,
    *,
    index: int,
    image: NDArray[np.uint8],
    titles: Sequence[str] = (),
) -> Figure:
    """The maps of one block for one image.

    Spatial attention: what each chosen pixel attends to, over the image. Channel attention: who
    attends to whom, and for some channels the maps of the channels most and least alike. Full
    attention: what some channels draw from every other one, column by column and row by row, and
    the maps in the column and the row of each chosen pixel.

    Args:
        attention: As `segattn.models.attention_maps.collect_attention` gives it.
        block: One of `block_names`.
        index: Of the image.
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
    figure = kind(maps, image, names)
    title = f"{block}, gamma {float(attention[f'{block}/gamma']):+.3f}"
    figure.text(_GAP / figure.get_figwidth(), 1 - 0.2 / figure.get_figheight(), title, fontsize=10)
    return figure


def _spatial(maps: Arrays, image: NDArray[np.uint8], names: list[str]) -> Figure:
    columns = min(3, len(names) + 1)
    height = _height(image)
    rows = -(-(len(names) + 1) // columns)
    figure = _figure(columns, rows * (_TITLE + height) + 0.15 + _BAR)
    places = [
        (_left(k % columns), _TOP + k // columns * (_TITLE + height) + _TITLE, _WIDTH, height)
        for k in range(len(names) + 1)
    ]
    _show_image(_axes(figure, *places[0]), image, maps["pixels"])
    for k, (place, name) in enumerate(zip(places[1:], names, strict=True)):
        axes = _axes(figure, *place)
        row = maps["rows"][k].astype(float)
        _overlay(axes, image, row, stride=int(maps["stride"]))
        _mark(axes, maps["pixels"][k], str(k + 1))
        axes.set_title(f"{name}, half of it in {_half(row)} of the image", fontsize=8)
    _map_bar(figure, label="attention of the pixel, over its largest")
    return figure


def _half(row: NDArray[np.float64]) -> str:
    """How concentrated a map is: the share of its cells that hold half of its weight."""
    weights = np.sort(row.ravel())[::-1]
    count = int(np.searchsorted(weights.cumsum(), weights.sum() / 2)) + 1
    return f"{100 * count / weights.size:.2g}%"


def _channel(maps: Arrays, image: NDArray[np.uint8], names: list[str]) -> Figure:
    height, count = _height(image), len(maps["shown"])
    body = max(count * (_TITLE + height), 2 * _TITLE + height + _WIDTH + 0.2)
    figure = _figure(4, body + 0.15 + 2 * _BAR)
    _show_image(_axes(figure, _left(0), _TOP + _TITLE, _WIDTH, height), image, maps["pixels"][:0])
    side = _WIDTH - 0.35
    place = (_left(0) + 0.35, _TOP + 2 * _TITLE + height, side, side)
    shown = _affinity(_axes(figure, *place), maps)
    for row in range(count):
        for column, title in enumerate(
            ("channel {} to itself", "most alike: {}", "least alike: {}")
        ):
            top = _TOP + row * (_TITLE + height) + _TITLE
            axes = _axes(figure, _left(column + 1), top, _WIDTH, height)
            features = maps["channel_maps"][row, column].astype(float)
            _overlay(axes, image, features, stride=int(maps["stride"]))
            name = title.format(maps["shown"][row, column])
            axes.set_title(f"{name}, weight {_weight(maps['weights'][row, column])}", fontsize=8)
    _bars(figure, shown)
    return figure


def _weight(weight: float) -> str:
    return f"{weight:.2f}" if weight >= 0.005 else "< 0.01"


def _affinity(axes: Axes, maps: Arrays) -> AxesImage:
    shown = _matrix(axes, maps["affinity"])
    own = maps["shown"][:, 0]
    positions = [int(np.flatnonzero(maps["channels"] == channel)[0]) for channel in own]
    axes.set_yticks(positions, [""] * len(own))
    names, free = axes.get_yaxis_transform(), -np.inf
    for y, channel in sorted(zip(positions, own, strict=True)):
        place = max(y, free)  # names of rows that lie close stand one below the other
        axes.text(-0.03, place, channel, transform=names, ha="right", va="center", fontsize=8)
        free = place + 0.06 * len(maps["channels"])
    axes.set_title("channel (row) attends to channel", fontsize=8)
    return shown


def _full(maps: Arrays, image: NDArray[np.uint8], names: list[str]) -> Figure:
    columns = 1 + len(maps["shown"])
    joint = (_WIDTH - _STRIP) * image.shape[0] / image.shape[1] + _STRIP + _LABEL
    upper = _TITLE + max(joint, _height(image)) + 0.1
    rows, each = -(-2 * len(names) // columns), _TITLE + _WIDTH + _LABEL
    figure = _figure(columns, upper + rows * each + 0.15 + 2 * _BAR)
    place = (_left(0), _TOP + _TITLE, _WIDTH, _height(image))
    _show_image(_axes(figure, *place), image, maps["pixels"])
    for index in range(columns - 1):
        _drawn_from(figure, maps, image, index=index)
    squares = [(key, k) for k in range(len(names)) for key in ("column", "row")]
    for place_of, (key, k) in enumerate(squares):
        row, column = divmod(place_of, columns)
        top = _TOP + upper + row * each + _TITLE
        axes = _axes(figure, _left(column), top, _WIDTH, _WIDTH)
        shown = _matrix(axes, maps[f"{key}_maps"][k])
        axes.set_title(f"in the image {key} of {names[k]}", fontsize=8)
        _label(axes, x="channel that it draws from", y="channel")
    _bars(figure, shown)
    return figure


def _drawn_from(figure: Figure, maps: Arrays, image: NDArray[np.uint8], *, index: int) -> None:
    """A channel's map; below it what it draws from in every column, beside it in every row."""
    left, top, width = _left(index + 1), _TOP + _TITLE, _WIDTH - _STRIP
    height = width * image.shape[0] / image.shape[1]
    stride, thick = int(maps["stride"]), _STRIP - 0.05
    centre = _axes(figure, left, top, width, height)
    _overlay(centre, image, maps["channel_maps"][index, 0].astype(float), stride=stride)
    centre.set_title(f"channel {maps['shown'][index, 0]} draws from", fontsize=8)
    columns, rows = (maps[f"over_{k}"][index] for k in ("columns", "rows"))
    below = _axes(figure, left, top + height + 0.05, width, thick)
    _matrix(below, columns, extent=(0, columns.shape[1] * stride, 1, 0))
    below.set_xlim(0, image.shape[1])  # without the padding
    _label(below, x="image column", y="channel")
    beside = _axes(figure, left + width + 0.05, top, thick - 0.1, height)  # room for its label
    _matrix(beside, rows.T, extent=(0, 1, rows.shape[1] * stride, 0))
    beside.set_ylim(image.shape[0], 0)
    _label(beside, x="channel", y="image row")
    beside.yaxis.set_label_position("right")


def _figure(columns: int, height: float) -> Figure:
    return Figure(figsize=(_left(columns), _TOP + height))


def _left(column: int) -> float:
    return _GAP + column * (_WIDTH + _GAP)


def _height(image: NDArray[np.uint8]) -> float:
    return _WIDTH * image.shape[0] / image.shape[1]


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without ticks; inches from the upper left corner."""
    across, down = figure.get_size_inches()
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    axes = figure.add_axes(box)
    axes.set(xticks=[], yticks=[])
    return axes


def _label(axes: Axes, *, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=7, labelpad=2)
    axes.set_ylabel(y, fontsize=7, labelpad=2)


def _bar(figure: Figure, *, below: int, label: str) -> Axes:
    """Axes of a colour bar at the lower left, with so many bars below it."""
    top = figure.get_figheight() - _BAR * (below + 1)
    axes = _axes(figure, _left(0) + 0.35, top, _WIDTH - 0.7, 0.12)
    axes.text(1.08, 0.5, label, va="center", fontsize=8, transform=axes.transAxes)
    return axes


def _map_bar(figure: Figure, *, label: str) -> None:
    """Colours as `_overlay` has them over the middle of its grays."""
    axes = _bar(figure, below=0, label=label)
    axes.set_facecolor(str((127.5 - _LIFT) / (255 - _LIFT)))
    ramp, place = np.linspace(0, 1, 256)[None], (0, 1, 0, 1)
    axes.imshow(ramp, cmap=_OVER, alpha=_OPAQUE, extent=place, aspect="auto")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=8)


def _bars(figure: Figure, weights: AxesImage) -> None:
    """For the maps of channels, and for weights from `_matrix`."""
    _map_bar(figure, label="feature of the channel, negative ones as 0, over its largest")
    label = "weight of a channel, logarithmic; alike channels stand side by side"
    bar = figure.colorbar(weights, cax=_bar(figure, below=1, label=label), orientation="horizontal")
    ticks = {_FAINT: f"{_FAINT:g} or less", 0.01: "0.01", 0.1: "0.1", 1: "1"}
    bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=8)
    bar.ax.minorticks_off()


def _matrix(
    axes: Axes, values: NDArray[Any], *, extent: tuple[float, float, float, float] | None = None
) -> AxesImage:
    """Weights on a logarithmic scale: few are near one, most next to nothing."""
    return axes.imshow(
        values.astype(float).clip(_FAINT),
        cmap=_CMAP,
        norm=LogNorm(vmin=_FAINT, vmax=1),
        extent=extent,
        aspect="auto",
        interpolation="nearest",
    )


def _show_image(axes: Axes, image: NDArray[np.uint8], pixels: NDArray[np.int64]) -> None:
    axes.imshow(image, aspect="auto")
    for number, pixel in enumerate(pixels, start=1):
        _mark(axes, pixel, str(number))


def _mark(axes: Axes, pixel: NDArray[np.int64], text: str) -> None:
    box = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "black", "lw": 0.8}
    axes.plot(pixel[1], pixel[0], "o", ms=4, mfc="white", mec="black", mew=0.8)
    # beside the pixel, and inside the picture
    right, top = pixel[1] > 0.9 * max(axes.get_xlim()), pixel[0] < 0.15 * max(axes.get_ylim())
    aside = (-10 if right else 6, -12 if top else 6)
    axes.annotate(
        text, (pixel[1], pixel[0]), xytext=aside, textcoords="offset points", bbox=box, fontsize=7
    )


def _overlay(
    axes: Axes, image: NDArray[np.uint8], values: NDArray[np.float64], *, stride: int
) -> None:
    """A map [h, w] over the image in gray; bright is most, and the scale is the map's own."""
    height, width = image.shape[:2]
    axes.imshow(image @ np.array(_GRAY), cmap="gray", vmin=_LIFT, vmax=255)
    shares = np.clip(values / max(values.max(), 1e-12), 0, 1)
    axes.imshow(
        shares,
        cmap=_OVER,
        vmin=0,
        vmax=1,
        alpha=_OPAQUE,  # the same everywhere, so that the colour bar holds
        extent=(0, values.shape[1] * stride, values.shape[0] * stride, 0),
        aspect="auto",
        interpolation="bilinear",
    )
    axes.set(xlim=(0, width), ylim=(height, 0))  # without the padding
