"""What the metric costs next to a forward pass of the default model, on one thread of the CPU.

The frame is drawn here, and so is its prediction: the label with the usual errors.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from segattn.benchmark.measure import Call, processor_seconds
from segattn.data.source import IGNORE_INDEX
from segattn.hardware import resolve_precision
from segattn.metrics import (
    BatchObjects,
    SizeBins,
    SizeStratifiedIoU,
    find_objects,
    other_radii,
    stack_objects,
)
from segattn.model import Segmenter

Row = dict[str, Any]
Shape = tuple[int, int, int]
Map = NDArray[np.uint8]

# height, width and classes of a frame of Cityscapes, and of CamVid as it is mostly used
SHAPES: tuple[Shape, ...] = ((1024, 2048, 19), (360, 480, 11))
WRONG = 0.06
RADIUS_CELLS = 2
HEAD: Row = {"name": "fla", "channels": 64}
ENCODER: Row = {"name": "resnet18", "depth": 5, "output_stride": 8}

_MISSED, _INVENTED, _NOISE = 0.04, 0.04, 0.001


@dataclass(frozen=True)
class Frame:
    """A label map and what was predicted for it.

    Attributes:
        label: uint8 [H, W], class, or `IGNORE_INDEX` where void.
        prediction: uint8 [H, W], class.
    """

    label: Map
    prediction: Map

    @property
    def wrong(self) -> float:
        """Share of the valid pixels whose prediction is wrong."""
        valid = self.label != IGNORE_INDEX
        return float((self.prediction != self.label)[valid].mean())


@dataclass(frozen=True)
class Thing:
    """An ellipse of some class; lengths in px."""

    cls: int
    top: int
    left: int
    height: int
    width: int

    def paint(self, canvas: Map) -> None:
        """Cover what is there."""
        view = canvas[self.top : self.top + self.height, self.left : self.left + self.width]
        y, x = ((2 * np.arange(side) + 1) / side - 1 for side in view.shape)
        view[y[:, None] ** 2 + x**2 <= 1] = self.cls


def draw_frame(shape: Shape, *, wrong: float = WRONG, seed: int = 0) -> Frame:
    """Wavy regions of stuff, things of many sizes, thin poles and void; and a prediction.

    In the prediction some things are missing and some invented, a few pixels are noise, and all
    borders are shifted by a smooth field, as far as it takes to reach the share of wrong pixels.

    Args:
        shape: Height, width and number of classes, 4 or more; lengths scale with the height.
        wrong: Share of the valid pixels that the prediction has wrong.
        seed: Of everything drawn.
    """
    rng = np.random.default_rng(seed)
    stuff, things = _stuff(shape, rng), _things(shape, rng, share=1)
    label = _painted(stuff, things)
    voids = _scatter(shape, rng, number=12, classes=[IGNORE_INDEX], widths=(40, 200))
    label = _painted(label, voids)

    seen = [thing for thing in things if rng.random() >= _MISSED]
    prediction = _painted(stuff, seen + _things(shape, rng, share=_INVENTED))
    noisy = rng.random(label.shape) < _NOISE
    prediction[noisy] = rng.integers(0, shape[2], int(noisy.sum()))
    field = np.stack([_smooth(shape, rng, cells=24) for _ in range(2)])
    return _shifted_until(wrong, Frame(label, prediction), field)


def _smooth(shape: Shape, rng: np.random.Generator, *, cells: int) -> NDArray[np.float64]:
    """A random field, smooth over 1 / `cells` of the height."""
    height, width, _ = shape
    nodes = rng.standard_normal((cells, cells * width // height))
    zoom = (height / nodes.shape[0], width / nodes.shape[1])
    field: NDArray[np.float64] = ndimage.zoom(nodes, zoom, order=1, mode="nearest", grid_mode=True)
    return field


def _stuff(shape: Shape, rng: np.random.Generator) -> Map:
    """The first half of the classes, one below the other."""
    height, _, num_classes = shape
    number = num_classes // 2
    level = np.linspace(0, number, height)[:, None] + 0.8 * _smooth(shape, rng, cells=6)
    return level.clip(0, number - 1).astype(np.uint8)


def _things(shape: Shape, rng: np.random.Generator, *, share: float) -> list[Thing]:
    """The other half, the last class being poles; small ones stand before large ones."""
    height, width, num_classes = shape
    classes = range(num_classes // 2, num_classes)
    number = share * width / height
    large = _scatter(shape, rng, number=80 * number, classes=classes[:-1], widths=(8, 200))
    poles = _scatter(
        shape, rng, number=30 * number, classes=classes[-1:], widths=(2, 10), elongation=30
    )
    return sorted(large + poles, key=lambda thing: -thing.width)


def _scatter(
    shape: Shape,
    rng: np.random.Generator,
    *,
    number: float,
    classes: Sequence[int],
    widths: tuple[float, float],
    elongation: float = 1,
) -> list[Thing]:
    """Things anywhere; widths, in px at a height of 1024, are log-uniform."""
    low, high = np.log(widths)
    things = []
    for width in np.exp(rng.uniform(low, high, round(number))) * shape[0] / 1024:
        size = [max(1, round(side)) for side in (width * elongation * rng.uniform(0.6, 1.5), width)]
        corner = [int(rng.integers(0, shape[axis] - size[axis])) for axis in range(2)]
        things.append(Thing(int(rng.choice(classes)), corner[0], corner[1], size[0], size[1]))
    return things


def _painted(canvas: Map, things: Iterable[Thing]) -> Map:
    painted = canvas.copy()
    for thing in things:
        thing.paint(painted)
    return painted


def _shifted_until(wrong: float, frame: Frame, field: NDArray[np.float64]) -> Frame:
    """Shift the prediction along `field` [2, H, W], by bisection so far that `wrong` is reached."""
    low, high = 0.0, frame.label.shape[0] / 8
    limits = np.array(frame.label.shape)[:, None, None] - 1
    grid = np.indices(frame.label.shape)
    for _ in range(12):
        middle = (low + high) / 2
        rows, columns = (grid + middle * field).round().astype(int).clip(0, limits)
        shifted = Frame(frame.label, frame.prediction[rows, columns])
        low, high = (middle, high) if shifted.wrong < wrong else (low, middle)
    return shifted


def metric_cost(shapes: Iterable[Shape] = SHAPES, *, seconds: float) -> Iterator[Row]:
    """Cost of the metric on one frame of each shape, phase by phase, alternating.

    It is the processor's time on one thread, so that other programs of the machine do not count.

    Args:
        shapes: Height, width and number of classes of the frames.
        seconds: Wall-clock time for each frame, as `alternate` takes it; warm-up not counted.

    Yields:
        input, classes, objects (of the truth), components (of the prediction), wrong (share of the
        valid pixels), precision (of the forward pass), a median of seconds for each phase,
        share_of_validation (of components and update in both and the forward pass; median over
        rounds), rounds.
    """
    for shape in shapes:
        frame = draw_frame(shape)
        truth, predicted = _truth(frame), components(frame)
        precision = resolve_precision("auto", "cpu")
        calls = {
            **_metric_calls(frame, truth=truth, predicted=predicted, num_classes=shape[2]),
            "forward": _forward(shape, precision=precision),
        }
        with one_thread():
            times = processor_seconds(calls, seconds=seconds)
        yield {
            "input": f"{shape[0]}x{shape[1]}",
            "classes": shape[2],
            "objects": len(truth.cls),
            "components": len(predicted.cls),
            "wrong": frame.wrong,
            "precision": precision,
            **{f"{phase}_seconds": statistics.median(taken) for phase, taken in times.items()},
            "share_of_validation": _share(times),
            "rounds": len(times["forward"]),
        }


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, and on as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _truth(frame: Frame) -> BatchObjects:
    return stack_objects([find_objects(frame.label)])


def components(frame: Frame) -> BatchObjects:
    """The components of the prediction, from int64 labels, as the task has them."""
    return stack_objects([find_objects(frame.prediction.astype(np.int64), ignore_index=None)])


def _metric_calls(
    frame: Frame, *, truth: BatchObjects, predicted: BatchObjects, num_classes: int
) -> dict[str, Call]:
    bins = SizeBins(ENCODER["output_stride"])
    radius = RADIUS_CELLS * bins.stride
    maps = [torch.from_numpy(item).long()[None] for item in (frame.prediction, frame.label)]
    arguments = (*maps, truth.ids, truth.bins(bins), predicted.ids, predicted.bins(bins))

    def update(others: Sequence[float]) -> Call:
        metric = SizeStratifiedIoU(
            num_classes,
            num_bins=bins.num_bins,
            radius=radius,
            other_radii=others,
        )
        return lambda: metric.update(*arguments)

    return {
        "objects": lambda: _truth(frame),
        "components": lambda: components(frame),
        "update": update([]),
        "update_all_radii": update(other_radii(radius)),
    }


def _forward(shape: Shape, *, precision: str) -> Call:
    height, width, num_classes = shape
    model = Segmenter(num_classes=num_classes, head=HEAD, encoder=ENCODER).eval()
    model = model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (1, 3, height, width), dtype=torch.uint8, generator=generator)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
            model(images)

    return forward


def _share(times: Mapping[str, list[float]]) -> float:
    phases = (times[name] for name in ("components", "update", "forward"))
    return statistics.median(
        (components + update) / (components + update + forward)
        for components, update, forward in zip(*phases, strict=True)
    )
