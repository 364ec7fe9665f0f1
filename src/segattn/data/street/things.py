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


# heights of small, medium and large vehicles, in units
_VEHICLES = ((10, 14), (18, 28), (36, 96))
# radii of large, medium and small signs, in units, and up to how many a scene has
_SIGNS = (((30, 40), 2), ((14, 20), 2), ((6, 10), 4))


def plan_things(street: Street) -> list[tuple[float, str]]:
    """(y of the foot, kind), far to near: each is drawn over what is behind it."""
    uniform, count, h = street.uniform, street.rng.randint, street.h
    start = street.horizon
    things = [(start + 2 + uniform(0, 0.36) * h, "car") for _ in range(count(3))]
    things += [(start + 3 + uniform(0, 0.36) * h, "rider") for _ in range(count(3))]
    things += [(start + uniform(0.04, 0.38) * h, "pole") for _ in range(1 + count(3))]
    for kind, most in (("small", 3), ("medium", 2), ("large", 1)):
        for _ in range(count(most + 1)):
            low, high = {"small": (0.0, 0.12), "medium": (0.08, 0.22), "large": (0.18, 0.36)}[kind]
            things.append((start + 2 + uniform(low, high) * h, kind))
    return sorted(things)


def draw_thing(street: Street, foot: float, kind: str) -> None:
    """Draw one thing; cars, riders and poles are the larger, the nearer their foot."""
    nearness = (foot - street.horizon) / (0.36 * street.h)
    if kind in ("small", "medium", "large"):
        low, high = _VEHICLES[("small", "medium", "large").index(kind)]
        _draw_vehicle(street, foot, street.uniform(low, high) * street.unit)
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
    body = street.any_colour(60, 215)
    canvas.rect(top, foot - 0.1 * height, left, right, body, kind, instance)
    canvas.rect(top, top + 0.1 * height, left, right, tuple(0.8 * c for c in body))
    pitch, radius = max(0.42 * height, 5), 0.12 * height
    for x in np.arange(left + 0.3 * pitch, right - 0.5 * pitch, pitch):
        window = street.shade(_GLASS)
        canvas.rect(top + 0.2 * height, top + 0.48 * height, x, x + 0.62 * pitch, window)
    stripe = tuple(0.6 * c for c in body)
    canvas.rect(top + 0.62 * height, top + 0.68 * height, left, right, stripe)
    for x in np.arange(left + 2 * radius, right - radius, 4.5 * radius):
        canvas.disc(foot - radius, x, radius, radius, _TYRE, kind, instance)
    _draw_cab(street, kind, top, height, left, right)


def _draw_cab(
    street: Street, kind: int, top: float, height: float, left: float, right: float
) -> None:
    both_visible = left >= 0 and right <= street.w
    at_left = bool(street.rng.randint(2)) if both_visible else left >= 0
    cab = max(min(0.35 * height, 0.14 * (right - left)), 4)
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
    grey = street.shade((92, 94, 98), 0.25)
    canvas.rect(top, foot, x, x + thickness, grey, kind, instance)
    canvas.rect(top, foot, x, x + 0.4 * thickness, tuple(1.25 * c for c in grey))
    _draw_load(street, kind, instance, top, x, thickness)


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

    They come last and beside each other, so that nothing hides them.
    """
    canvas, uniform, h, w, unit = street.canvas, street.uniform, street.h, street.w, street.unit
    y, x = uniform(0.26, 0.40) * h, uniform(0.10, 0.90) * w
    board, stripe = _BOARD[street.country]
    canvas.rect(y - 16 * unit, y + 16 * unit, x - 26 * unit, x + 26 * unit, board, BUILDING)
    canvas.rect(y - 5 * unit, y + 5 * unit, x - 20 * unit, x + 20 * unit, stripe)
    taken = [(x, 26 * unit)]
    for (low, high), most in _SIGNS:
        for _ in range(street.rng.randint(most + 1)):
            radius = uniform(low, high) * unit
            tries = [uniform(0.05, 0.95) * w for _ in range(6)]
            free = [at for at in tries if all(abs(at - b) > radius + r for b, r in taken)]
            if free:
                taken.append((free[0], radius))
                _draw_sign(street, y + uniform(-5, 5) * unit, free[0], radius)


def _draw_sign(street: Street, y: float, x: float, radius: float) -> None:
    canvas, instance = street.canvas, street.canvas.new_instance()
    kind = SIGN_B if street.country else SIGN_A
    face = (205, 45, 45) if street.rng.randint(2) else (45, 85, 200)
    canvas.disc(y, x, radius, radius, (240, 240, 240), kind, instance)
    canvas.disc(y, x, 0.8 * radius, 0.8 * radius, street.shade(face))
