"""Procedural street scenes whose classes no local patch can tell apart: the rules.

Four groups of classes look alike in a patch and are told apart by a cue. Cue and size are crossed:
each group has small, medium and large objects under one rule, poles small and medium ones.

| classes         | cue                                         | where the cue is                 |
|-----------------|---------------------------------------------|----------------------------------|
| bus truck train | the cab at one end of a long body           | in the object, in its rows       |
| lamp signal     | what the pole carries at its top            | in the object, in its columns    |
| sign_a sign_b   | the colour of the only billboard            | elsewhere, at the signs' height  |
| lake ice        | warm or cool light on everything but water  | spread over the whole scene      |

Every surface has a tint of its own, so that one surface says little of the light and all together
say it; the water itself looks the same in both lights. Road, sky, buildings, vegetation, cars and
riders are decidable locally: the control group.
"""

import numpy as np

from segattn.data.street.canvas import Canvas, Colour

# fmt: off
CLASSES = (
    "road", "sky", "building", "vegetation", "lake", "ice", "bus", "truck", "train", "car",
    "sign_a", "sign_b", "rider", "lamp", "signal",
)
(ROAD, SKY, BUILDING, VEGETATION, LAKE, ICE, BUS, TRUCK, TRAIN, CAR,
 SIGN_A, SIGN_B, RIDER, LAMP, SIGNAL) = range(15)
PALETTE = (
    (128, 64, 128), (70, 130, 180), (70, 70, 70), (107, 142, 35), (0, 110, 160), (190, 230, 240),
    (0, 60, 100), (0, 0, 170), (0, 180, 200), (0, 0, 242), (220, 220, 0), (250, 130, 20),
    (255, 0, 0), (190, 153, 153), (250, 170, 230),
)
# fmt: on
WATER, VEHICLES = ("lake", "ice"), ("bus", "truck", "train")
SIGNS, POLES = ("sign_a", "sign_b"), ("lamp", "signal")
THINGS = (*WATER, *VEHICLES, *SIGNS, *POLES, "car", "rider")


LIGHT = 0.08
"""How much warm light adds to red and takes from blue, as a share; a surface's tint is 0.2."""


class Street:
    """The state of one drawing: canvas, random stream, unit of length and the scene's rules."""

    def __init__(self, seed: int, index: int, height: int, width: int) -> None:
        self.rng = np.random.RandomState([seed, index])
        self.uniform = self.rng.uniform
        self.canvas = Canvas(height, width)
        self.h, self.w, self.unit = height, width, height / 160
        self.horizon = int(height * self.uniform(0.50, 0.58))
        self.warm = bool(self.rng.randint(2))
        self.light = LIGHT if self.warm else -LIGHT
        self.country = int(self.rng.randint(2))

    def shade(self, colour: Colour, brightness: float = 0.12) -> Colour:
        """`colour` with the surface's own brightness and its own tint, warm to cool."""
        gain = self.uniform(1 - brightness, 1 + brightness)
        tint = self.uniform(-0.2, 0.2)
        red, green, blue = colour
        return red * gain * (1 + tint), green * gain, blue * gain * (1 - tint)

    def any_colour(self, low: float, high: float) -> Colour:
        """A colour without meaning."""
        return self.uniform(low, high), self.uniform(low, high), self.uniform(low, high)

    def sign(self) -> int:
        """-1 or 1."""
        return 2 * int(self.rng.randint(2)) - 1
