"""Procedural street scenes: `draw_scene(seed, index)` is a pure function.

The same pixels on every platform and in every numpy version: numpy's legacy `RandomState` stream is
frozen, and only +, -, *, / and comparisons touch the pixels; no transcendental function and no
reduction. `segattn.data.street.rules` says what the scenes ask for.
"""

from dataclasses import dataclass

import numpy as np

from segattn.data.street.rules import (
    CLASSES,
    CONTROL,
    PALETTE,
    POLES,
    SIGNS,
    SIZED,
    THINGS,
    VEHICLES,
    WATER,
    Street,
)
from segattn.data.street.surroundings import draw_surroundings, expose
from segattn.data.street.things import draw_things


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        image: uint8 [H, W, 3].
        label: uint8 [H, W], indices into `CLASSES`.
        instances: int32 [H, W], 0 on stuff, else the id of the object.
    """

    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray


def draw_scene(seed: int, index: int, *, height: int = 64, width: int = 128) -> Scene:
    """Draw scene `index` of the stream `seed`.

    Args:
        seed: Stream, 0 to 2**32 - 1; splits use different streams.
        index: Scene number in the stream.
        height: Rows; everything scales with it.
        width: Columns; below two for each row there is little room for objects with a far cue.
    """
    street = Street(seed, index, height, width)
    draw_surroundings(street)
    draw_things(street)
    parts = expose(street), street.canvas.label, street.canvas.instances
    step = -1 if street.mirrored else 1
    return Scene(*(np.ascontiguousarray(part[:, ::step]) for part in parts))


__all__ = [
    "CLASSES",
    "CONTROL",
    "PALETTE",
    "POLES",
    "SIGNS",
    "SIZED",
    "THINGS",
    "VEHICLES",
    "WATER",
    "Scene",
    "draw_scene",
]
