"""The things of a scene: where they stand, and what they look like."""

from collections.abc import Callable
from typing import NamedTuple

from segattn.data.street.canvas import Colour
from segattn.data.street.rules import (
    BUS,
    CAR,
    FAR,
    ICE,
    LAKE,
    LAMP,
    LANES,
    RIDER,
    SIGN_A,
    SIGN_B,
    SIGNAL,
    TRAIN,
    TRUCK,
    WALL,
    Street,
)

_BLACK = (25, 25, 28)


class Box(NamedTuple):
    """The frame of a thing, in px."""

    top: float
    bottom: float
    left: float
    right: float

    def ellipse(self, share: float = 1) -> tuple[float, float, float, float]:
        """Return centre and radii (y, x, y, x) of the ellipse that fills a share of the box."""
        height, width = self.bottom - self.top, self.right - self.left
        centre = self.top + 0.5 * height, self.left + 0.5 * width
        return *centre, 0.5 * share * height, 0.5 * share * width


# square root of the area of small, medium and large things, in units
_SIDES = ((6.5, 11.0), (14.0, 21.0), (25.5, 31.0))
# height and width of a thing whose area has this root, as multiples of it
_SHAPES = {
    "sign": (1.13, 1.13),
    "vehicle": (0.79, 1.33),
    "water": (0.87, 1.46),
    "train": (0.78, 1.29),
    "car": (0.90, 1.39),
    "rider": (1.47, 1.14),
}
_KINDS = (*4 * ("sign", "water"), *6 * ("vehicle",), *2 * ("train", "car", "rider"))
"""Kinds to choose from; vehicles come more often, since they find less room."""
_CUE_ON_THE_WALL = ("sign", "vehicle", "pole")
_TRIES = 16


def draw_things(street: Street) -> None:
    """Draw things of every size, large ones first, as far as there is room."""
    taken: list[Box] = []
    plan = [(_any_kind(street), size) for size in (2, 1, 1, 1, 0, 0, 0, 0, 0)]
    plan[2:2] = 2 * [("pole", 0)]
    for kind, size in plan:
        _place(street, taken, kind, size)


def _any_kind(street: Street) -> str:
    return _KINDS[street.rng.randint(len(_KINDS))]


def _place(street: Street, taken: list[Box], kind: str, size: int) -> None:
    """Draw a thing where it touches no other one; leave it out after a few tries."""
    unit, lane = street.unit, street.rng.randint(2)
    height, width = _extent(street, kind, size)
    first, last = LANES[lane] if kind == "vehicle" else (5, 63)
    nearest = WALL + FAR if kind in _CUE_ON_THE_WALL else WALL + 4
    room_y, room_x = (last - first) * unit - height, street.w - (1 + nearest) * unit - width
    if min(room_y, room_x) < 0:
        return
    for _ in range(_TRIES):
        top = first * unit + street.uniform(0, room_y)
        left = nearest * unit + street.uniform(0, room_x)
        box = Box(top, top + height, left, left + width)
        if all(_apart(box, other, 3 * unit) for other in taken):
            taken.append(box)
            _DRAW[kind](street, box, lane)
            return


def _extent(street: Street, kind: str, size: int) -> tuple[float, float]:
    """Draw height and width of a thing, in px."""
    uniform, unit = street.uniform, street.unit
    if kind == "pole":
        return uniform(36, 56) * unit, round(uniform(5.6, 7.4) * unit)
    side, stretch = uniform(*_SIDES[size]), uniform(0.93, 1.07)
    height, width = (side * share for share in _SHAPES[kind])
    height, width = height / stretch, width * stretch
    if kind == "vehicle" and height > 23:  # it stays in its lane
        height, width = 23, height * width / 23
    return height * unit, width * unit


def _apart(one: Box, other: Box, margin: float) -> bool:
    return (
        one.bottom + margin < other.top
        or other.bottom + margin < one.top
        or one.right + margin < other.left
        or other.right + margin < one.left
    )


def _draw_sign(street: Street, box: Box, _lane: int) -> None:
    kind, instance = (SIGN_A, SIGN_B)[street.country], street.canvas.new_instance()
    face = street.shade(street.either((45, 85, 200), (110, 75, 45)))
    street.canvas.disc(*box.ellipse(), (240, 240, 240), kind, instance)
    street.canvas.disc(*box.ellipse(0.7), face)


def _draw_water(street: Street, box: Box, _lane: int) -> None:
    """Draw a lake with a shore of sand or ice with a shore of snow; the water looks the same."""
    kind, instance = street.rng.randint(2), street.canvas.new_instance()
    shore = street.shade(((205, 170, 80), (235, 242, 250))[kind], 0.05)
    centre_y, centre_x, radius_y, radius_x = box.ellipse()
    wider = radius_y + 2.5 * street.unit, radius_x + 2.5 * street.unit
    street.canvas.disc(centre_y, centre_x, *wider, shore)
    water = street.shade((118, 148, 168))
    street.canvas.disc(centre_y, centre_x, radius_y, radius_x, water, (LAKE, ICE)[kind], instance)


def _draw_vehicle(street: Street, box: Box, lane: int) -> None:
    kind, instance = (BUS, TRUCK)[lane ^ street.upper], street.canvas.new_instance()
    body: Colour = tuple(street.uniform(90, 170) for _ in range(3))
    _part(street, box, (0, 0.88), (0, 1), body, kind, instance)
    _part(street, box, (0.15, 0.45), (0.08, 0.92), street.shade((70, 85, 100)))
    radius = 0.16 * (box.bottom - box.top)
    for share in (0.22, 0.78):
        x = box.left + share * (box.right - box.left)
        street.canvas.disc(box.bottom - radius, x, radius, radius, _BLACK, kind, instance)


def _draw_pole(street: Street, box: Box, _lane: int) -> None:
    kind, instance = (LAMP, SIGNAL)[street.country], street.canvas.new_instance()
    grey = street.shade((62, 64, 68), 0.2)
    _part(street, box, (0, 1), (0, 1), grey, kind, instance)
    _part(street, box, (0, 1), (0, 0.4), tuple(1.4 * c for c in grey))


def _draw_train(street: Street, box: Box, _lane: int) -> None:
    instance = street.canvas.new_instance()
    _part(street, box, (0, 1), (0, 1), street.shade((40, 120, 70)), TRAIN, instance)
    for top in (0.2, 0.6):
        _part(street, box, (top, top + 0.2), (0, 1), (225, 225, 120))


def _draw_car(street: Street, box: Box, _lane: int) -> None:
    colour, instance = street.shade((190, 60, 160), 0.2), street.canvas.new_instance()
    _part(street, box, (0.35, 1), (0, 1), colour, CAR, instance)
    _part(street, box, (0, 0.4), (0.2, 0.8), tuple(0.8 * c for c in colour), CAR, instance)


def _draw_rider(street: Street, box: Box, _lane: int) -> None:
    coat, instance = street.shade((40, 170, 60), 0.2), street.canvas.new_instance()
    skin = street.shade((205, 160, 130))
    _part(street, box, (0.3, 0.8), (0.25, 0.75), coat, RIDER, instance)
    _part(street, box, (0.75, 1), (0, 1), _BLACK, RIDER, instance)
    _part(street, box, (0, 0.3), (0.3, 0.7), skin, RIDER, instance)


def _part(
    street: Street,
    box: Box,
    rows: tuple[float, float],
    columns: tuple[float, float],
    colour: Colour,
    label: int | None = None,
    instance: int = 0,
) -> None:
    """Paint a part of a box, whose rows and columns are given as shares of it."""
    top, bottom = (box.top + share * (box.bottom - box.top) for share in rows)
    left, right = (box.left + share * (box.right - box.left) for share in columns)
    street.canvas.rect(top, bottom, left, right, colour, label, instance)


_DRAW: dict[str, Callable[[Street, Box, int], None]] = {
    "sign": _draw_sign,
    "vehicle": _draw_vehicle,
    "water": _draw_water,
    "pole": _draw_pole,
    "train": _draw_train,
    "car": _draw_car,
    "rider": _draw_rider,
}
