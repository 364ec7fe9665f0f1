"""What stands around the things of a scene: sky, skyline, road and water; and light and sensor."""

from functools import cache

import numpy as np

from segattn.data.street.rules import BUILDING, ICE, LAKE, ROAD, SKY, VEGETATION, Street

_BANK = 512  # side of the noise banks, px
_BLOTCH_DEVIATION = 4.36e8  # of the smoothed integers; a constant, since a reduction could differ


def draw_surroundings(street: Street) -> None:
    """Everything that is decidable locally, and the water."""
    canvas, horizon = street.canvas, street.horizon
    zenith, haze = street.shade((120, 165, 225)), street.shade((215, 222, 230))
    canvas.gradient(0, horizon, zenith, haze, SKY)
    _draw_skyline(street)
    near = street.shade((105, 103, 106))
    canvas.gradient(horizon, street.h, near, tuple(0.75 * c for c in near), ROAD)
    draw_water(street)


def _draw_skyline(street: Street) -> None:
    canvas, uniform, h, horizon = street.canvas, street.uniform, street.h, street.horizon
    x = 0.0
    while x < street.w:
        span = uniform(0.08, 0.20) * street.w
        if uniform(0, 1) < 0.6:
            _draw_house(street, horizon - uniform(0.18, 0.46) * h, x, min(x + span, street.w))
        else:
            hedge = street.shade((70, 95, 45))
            canvas.rect(horizon - h * 0.06, horizon, x, x + span, hedge, VEGETATION)
            for _ in range(4):
                centre = horizon - uniform(0.06, 0.22) * h, x + uniform(0.1, 0.9) * span
                radii = uniform(0.06, 0.13) * h, uniform(0.2, 0.42) * span
                canvas.disc(*centre, *radii, street.shade((78, 112, 52), 0.3), VEGETATION)
        x += span


def _draw_house(street: Street, top: float, left: float, right: float) -> None:
    colour, pitch = street.shade((150, 128, 112), 0.3), 11 * street.unit
    street.canvas.rect(top, street.horizon, left, right, colour, BUILDING)
    dark = tuple(0.55 * c for c in colour)
    for y in np.arange(top + pitch / 2, street.horizon - pitch / 2, pitch):
        for x in np.arange(left + pitch / 3, right - pitch / 2, pitch):
            street.canvas.rect(y, y + 0.55 * pitch, x, x + 0.45 * pitch, dark)


# half heights and half widths of waters as shares of the rows, and up to how many a scene has
_WATERS = (
    ((0.12, 0.19), (0.30, 0.55), 2),
    ((0.06, 0.085), (0.12, 0.18), 2),
    ((0.02, 0.036), (0.045, 0.08), 2),
)


def draw_water(street: Street) -> None:
    """Lakes in warm light, ice in cool light, large ones first."""
    uniform, rows = street.uniform, street.h
    for (low, high), (narrow, wide), most in _WATERS:
        for _ in range(street.rng.randint(most + 1)):
            _draw_lake(street, uniform(low, high) * rows, uniform(narrow, wide) * rows)


def _draw_lake(street: Street, radius_y: float, radius_x: float) -> None:
    uniform, kind = street.uniform, LAKE if street.warm else ICE
    # without the scene's light: the surface itself must not tell
    red, green, blue = street.shade((168, 178, 188))
    colour = red / (1 + street.light), green, blue / (1 - street.light)
    lowest = max(street.h - 1.05 * radius_y, street.horizon + 2 * radius_y)
    centre_y = uniform(street.horizon + 1.1 * radius_y, lowest)
    centre_x = uniform(0.05, 0.95) * street.w
    instance = street.canvas.new_instance()
    street.canvas.disc(centre_y, centre_x, radius_y, radius_x, colour, kind, instance)


def expose(street: Street) -> np.ndarray:
    """Light and sensor: the scene's light, shading, gain, optional blur and noise."""
    image, uniform = street.canvas.image, street.uniform
    noise, blotches = _noise_banks()
    y, x = (street.rng.randint(_BANK - n) for n in (street.h, street.w))
    window = np.s_[y : y + street.h, x : x + street.w]
    ramp = np.linspace(-1, 1, street.w, dtype=np.float32)
    shading = 1 + np.float32(uniform(-0.22, 0.22)) * ramp + np.float32(0.05) * blotches[window]
    light = np.array([1 + street.light, 1, 1 - street.light], np.float32)
    gain = light * np.float32(uniform(0.75, 1.15))
    image *= shading[..., None] * gain
    if street.rng.randint(2):
        image[:, 1:-1] = image[:, :-2] * 0.25 + image[:, 1:-1] * 0.5 + image[:, 2:] * 0.25
        image[1:-1] = image[:-2] * 0.25 + image[1:-1] * 0.5 + image[2:] * 0.25
    image += noise[window] * np.float32(uniform(4, 14))
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


@cache
def _noise_banks() -> tuple[np.ndarray, np.ndarray]:
    """Fine noise [512, 512, 3] and smooth blotches [512, 512], both of about unit deviation.

    Sums of integers rather than normal deviates: exact on every platform.
    """
    rng = np.random.RandomState(7)
    fine = rng.randint(0, 256, (4, _BANK, _BANK, 3)).sum(0)
    noise = ((fine - 510) / 148).astype(np.float32)
    coarse = np.kron(rng.randint(-128, 128, (32, 32)), np.ones((16, 16), np.int64))
    for _ in range(3):
        for axis in (0, 1):
            coarse = np.add.reduce([np.roll(coarse, k, axis) for k in range(-7, 8)])
    return noise, (coarse / _BLOTCH_DEVIATION).astype(np.float32)
