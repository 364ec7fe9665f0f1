"""What stands around the things of a scene: sky, skyline, road and wall; and light and sensor."""

from functools import cache

import numpy as np

from segattn.data.street.rules import BUILDING, LANES, ROAD, SKY, VEGETATION, WALL, Street

# colours of a cue by the class that it stands for
_BILLBOARD = (30, 200, 220), (245, 215, 40)
_GATES = (250, 250, 250), (210, 30, 50)
# left and right edge of each column of the wall, in units
_GATES_AT, _BILLBOARD_AT = (0, 14), (14, WALL)

_BANK = 512  # side of the noise banks, px
_BLOTCH_DEVIATION = 4.36e8  # of the smoothed integers; a constant, since a reduction could differ


def draw_surroundings(street: Street) -> None:
    """Draw everything but the things."""
    canvas, horizon = street.canvas, int(street.uniform(0.14, 0.20) * street.h)
    zenith, haze = street.shade((120, 165, 225)), street.shade((205, 215, 230))
    canvas.gradient(0, horizon, zenith, haze, SKY)
    near = street.shade((105, 103, 106))
    canvas.gradient(horizon, street.h, near, tuple(0.85 * c for c in near), ROAD)
    _draw_skyline(street, horizon)
    _draw_wall(street)


def _draw_skyline(street: Street, horizon: int) -> None:
    x = 0.0
    while x < street.w:
        span, top = street.uniform(0.08, 0.20) * street.w, street.uniform(0, 0.8) * horizon
        brick, leaves = street.shade((150, 118, 92), 0.2), street.shade((70, 105, 45), 0.2)
        colour, label = (leaves, VEGETATION) if street.rng.randint(2) else (brick, BUILDING)
        street.canvas.rect(top, horizon, x, x + span, colour, label)
        x += span


def _draw_wall(street: Street) -> None:
    """Draw the cues; the class "building" is all that the wall itself says."""

    def column(edges: tuple[int, int], rows: tuple[int, int], colour: tuple[int, ...]) -> None:
        top, bottom, left, right = (street.unit * value for value in (*rows, *edges))
        street.canvas.rect(top, bottom, left, right, colour, BUILDING)

    height = LANES[0][0], LANES[1][1]
    column(_BILLBOARD_AT, height, _BILLBOARD[street.country])
    for lane, rows in enumerate(LANES):
        column(_GATES_AT, rows, _GATES[lane ^ street.upper])


def expose(street: Street) -> np.ndarray:
    """Return the image uint8 [H, W, 3]: the canvas under light and sensor noise."""
    image, uniform = street.canvas.image, street.uniform
    noise, blotches = _noise_banks()
    y, x = (street.rng.randint(_BANK - n) for n in (street.h, street.w))
    window = np.s_[y : y + street.h, x : x + street.w]
    ramp = np.linspace(-1, 1, street.w, dtype=np.float32)
    shading = 1 + np.float32(uniform(-0.1, 0.1)) * ramp + np.float32(0.03) * blotches[window]
    image *= shading[..., None] * np.float32(uniform(0.85, 1.1))
    image += noise[window] * np.float32(uniform(3, 8))
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
