"""The things of a scene: vehicles, cars, riders, poles and signs."""

import numpy as np

from segattn.data.street.canvas import Colour
from segattn.data.street.rules import (
    BUILDING,
    BUS,
    CAR,
    LAMP,
    RIDER,
    SIGN_A,
    SIGN_B,
    SIGNAL,
    TRAIN,
    TRUCK,
    Street,
)

_CAB: dict[int, tuple[Colour, Colour]] = {
    BUS: ((245, 245, 235), (30, 40, 60)),
    TRUCK: ((240, 150, 40), (60, 40, 25)),
    TRAIN: ((200, 40, 60), (235, 215, 60)),
}
# ground and stripe of the billboard, by country
_BOARD: tuple[tuple[Colour, Colour], ...] = (
    ((30, 190, 200), (240, 240, 240)),
    ((240, 200, 40), (30, 30, 30)),
)
_GLASS, _TYRE = (70, 85, 100), (25, 25, 28)


def plan_things(street: Street) -> list[tuple[float, str]]:
    """(y of the foot, kind), far to near: each is drawn over what is behind it."""
    uniform, count, h = street.uniform, street.rng.randint, street.h
    start = street.horizon
    num_vehicles = (0, 1, 1, 1, 1, 1, 1, 2, 2, 2)[count(10)]
    things = [(start + 2 + uniform(0, 0.30) * h, "vehicle") for _ in range(num_vehicles)]
    things += [(start + 3 + uniform(0, 0.36) * h, "car") for _ in range(count(4))]
    things += [(start + 3 + uniform(0, 0.36) * h, "rider") for _ in range(count(3))]
    things += [(start + uniform(0.04, 0.38) * h, "pole") for _ in range(1 + count(3))]
    return sorted(things)


def draw_thing(street: Street, foot: float, kind: str) -> None:
    """Draw one thing; the nearer its foot, the larger."""
    nearness = (foot - street.horizon) / (0.36 * street.h)
    if kind == "vehicle":
        height = (22 + 76 * nearness) * street.unit * street.uniform(0.9, 1.1)
        _draw_vehicle(street, foot, height)
    elif kind == "car":
        _draw_car(street, foot, (8 + 22 * nearness) * street.unit)
    elif kind == "rider":
        _draw_rider(street, foot, (12 + 22 * nearness) * street.unit)
    else:
        _draw_pole(street, foot)


def _draw_vehicle(street: Street, foot: float, height: float) -> None:
    """A long body with one texture for all three kinds; only the cab at one end tells."""
    canvas, uniform, w = street.canvas, street.uniform, street.w
    kind, instance = (BUS, TRUCK, TRAIN)[street.rng.randint(3)], canvas.new_instance()
    length = min(height * uniform(2.0, 3.0), 0.95 * w)
    left = uniform(-0.05 * w, 1.05 * w - length)
    right, top = left + length, foot - height
    # in the free layout the far end leaves the rows of the cab: a steep street, seen from the side
    slope = street.sign() * uniform(0.3, 0.5) if street.free else 0.0
    canvas.shear(slope=slope, lean=0.0, y=foot, x=left + length / 2)
    body = street.any_colour(60, 215)
    canvas.rect(top, foot - 0.1 * height, left, right, body, kind, instance)
    canvas.rect(top, top + 0.1 * height, left, right, tuple(0.8 * c for c in body))
    pitch, radius = max(0.42 * height, 7), 0.12 * height
    for x in np.arange(left + 0.3 * pitch, right - 0.5 * pitch, pitch):
        window = street.shade(_GLASS)
        canvas.rect(top + 0.2 * height, top + 0.48 * height, x, x + 0.62 * pitch, window)
    stripe = tuple(0.6 * c for c in body)
    canvas.rect(top + 0.62 * height, top + 0.68 * height, left, right, stripe)
    for x in np.arange(left + 2 * radius, right - radius, 4.5 * radius):
        canvas.disc(foot - radius, x, radius, radius, _TYRE, kind, instance)
    _draw_cab(street, kind, top, height, left, right)
    canvas.unshear()


def _draw_cab(
    street: Street, kind: int, top: float, height: float, left: float, right: float
) -> None:
    both_visible = left >= 0 and right <= street.w
    at_left = bool(street.rng.randint(2)) if both_visible else left >= 0
    cab = max(min(0.35 * height, 0.14 * (right - left)), 6)
    a, b = (left, left + cab) if at_left else (right - cab, right)
    light, glass = _CAB[kind]
    street.canvas.rect(top + 0.12 * height, top + 0.52 * height, a, b, street.shade(glass))
    street.canvas.rect(top + 0.56 * height, top + 0.84 * height, a, b, street.shade(light))


def _draw_car(street: Street, foot: float, size: float) -> None:
    canvas, instance, colour = (
        street.canvas,
        street.canvas.new_instance(),
        street.any_colour(40, 230),
    )
    left, roof = street.uniform(-0.02, 0.9) * street.w, tuple(0.9 * c for c in colour)
    canvas.rect(
        foot - 0.62 * size, foot - 0.12 * size, left, left + 1.9 * size, colour, CAR, instance
    )
    canvas.rect(
        foot - size, foot - 0.6 * size, left + 0.4 * size, left + 1.5 * size, roof, CAR, instance
    )
    window = street.shade(_GLASS)
    canvas.rect(
        foot - 0.92 * size, foot - 0.62 * size, left + 0.5 * size, left + 1.4 * size, window
    )
    for x in (0.4, 1.5):
        wheel = foot - 0.16 * size, left + x * size
        canvas.disc(*wheel, 0.17 * size, 0.17 * size, _TYRE, CAR, instance)


def _draw_rider(street: Street, foot: float, size: float) -> None:
    canvas, instance, dark = street.canvas, street.canvas.new_instance(), street.any_colour(20, 60)
    x = street.uniform(0.03, 0.97) * street.w
    for side in (-0.3, 0.3):
        wheel = foot - 0.18 * size, x + side * size
        canvas.disc(*wheel, 0.18 * size, 0.18 * size, dark, RIDER, instance)
    left, right, coat = x - 0.14 * size, x + 0.14 * size, street.any_colour(40, 230)
    canvas.rect(foot - 0.75 * size, foot - 0.25 * size, left, right, coat, RIDER, instance)
    skin = street.shade((205, 160, 130))
    canvas.disc(foot - 0.85 * size, x, 0.13 * size, 0.13 * size, skin, RIDER, instance)


def _draw_pole(street: Street, foot: float) -> None:
    """A long thin shaft; only what it carries at the top tells lamp from signal."""
    canvas, uniform, unit = street.canvas, street.uniform, street.unit
    kind, instance = (LAMP, SIGNAL)[street.rng.randint(2)], canvas.new_instance()
    top = max(uniform(0.02, 0.12) * street.h, 3)
    x, thickness = uniform(0.08, 0.92) * street.w, round(uniform(3, 6) * unit)
    towards_middle = 1 if x < street.w / 2 else -1
    lean = -towards_middle * uniform(0.2, 0.45) if street.free else 0.0  # x falls as y grows
    grey = street.shade((92, 94, 98), 0.25)
    canvas.shear(slope=0.0, lean=lean, y=foot, x=x)
    canvas.rect(top, foot, x, x + thickness, grey, kind, instance)
    canvas.rect(top, foot, x, x + 0.4 * thickness, tuple(1.25 * c for c in grey))
    tip = x + lean * (top - foot)
    canvas.unshear()
    if street.free:  # mirrored arms: the load hangs beside the shaft, in none of its columns
        arm = towards_middle * uniform(10, 24) * unit
        left, right = sorted((tip, tip + arm))
        canvas.rect(top, top + 0.7 * thickness, left, right, grey, kind, instance)
        tip += arm
    _draw_load(street, kind, instance, top, tip, thickness)


def _draw_load(
    street: Street, kind: int, instance: int, top: float, x: float, thickness: float
) -> None:
    canvas, unit = street.canvas, street.unit
    right = x + thickness
    if kind == LAMP:
        glow = (255, 244, 190)
        canvas.rect(
            top - 3 * unit, top + 3 * unit, x - 5 * unit, right + 5 * unit, glow, kind, instance
        )
        return
    box = top - 3 * unit, top + 12 * unit, x - 2 * unit, right + 2 * unit
    canvas.rect(*box, (22, 22, 22), kind, instance)
    lit = street.rng.randint(3)
    for k, colour in enumerate(((230, 40, 40), (240, 180, 30), (40, 210, 90))):
        seen = tuple((1.0 if k == lit else 0.45) * c for c in colour)
        canvas.rect(top + (4 * k - 1) * unit, top + (4 * k + 2) * unit, x, right, seen)


def draw_signs(street: Street) -> None:
    """A billboard whose colours name the country, and signs whose class is the country.

    Both come last, so that nothing hides them.
    """
    canvas, uniform, h, w, unit = street.canvas, street.uniform, street.h, street.w, street.unit
    y, x = uniform(0.14, 0.40) * h, uniform(0.10, 0.90) * w
    board, stripe = _BOARD[street.country]
    canvas.rect(y - 10 * unit, y + 10 * unit, x - 17 * unit, x + 17 * unit, board, BUILDING)
    canvas.rect(y - 3 * unit, y + 3 * unit, x - 13 * unit, x + 13 * unit, stripe)
    kind = SIGN_B if street.country else SIGN_A
    for _ in range(6 + street.rng.randint(5)):
        radius = uniform(7, 12) * unit
        sign_y = uniform(0.10, 0.46) * h if street.free else y + uniform(-5, 5) * unit
        sign_x = uniform(0.05, 0.95) * w
        face = (205, 45, 45) if street.rng.randint(2) else (45, 85, 200)
        if abs(sign_x - x) < 17 * unit + radius and abs(sign_y - y) < 10 * unit + radius:
            continue  # it would hide the billboard
        instance = canvas.new_instance()
        canvas.disc(sign_y, sign_x, radius, radius, (240, 240, 240), kind, instance)
        canvas.disc(sign_y, sign_x, radius - 2 * unit, radius - 2 * unit, street.shade(face))
