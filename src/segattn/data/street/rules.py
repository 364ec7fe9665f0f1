"""Procedural street scenes whose classes no local patch can tell apart: the rules.

Four groups of classes look alike in a patch and are told apart by a cue elsewhere:

| classes         | size | cue                                | aligned      | free              |
|-----------------|------|------------------------------------|--------------|-------------------|
| bus truck train | M, L | the cab, at one end of a long body | same rows    | the body slants   |
| lamp signal     | thin | what the pole carries at its top   | same columns | leans, has an arm |
| sign_a sign_b   | S    | the colour of the only billboard   | same rows    | anywhere          |
| lake ice        | M, L | warm or cool light on the scene    | everywhere   | everywhere        |

Layout `aligned` favours attention along rows and columns (FLA, criss-cross); `free` takes that
favour away: the cue of a body or a pole leaves its rows and columns. The light is a global cue with
no place: every surface also has a tint of its own as strong as the light, so that one surface says
little and all together say it. Signs are several, 14 to 24 px wide, and some stand close enough to
the billboard for a plain convolution to see it, so that the rule can be learned from near to far.
Road, sky, buildings, vegetation, cars and riders are decidable locally: the control group.
"""

from typing import Literal

import numpy as np

from segattn.data.street.canvas import Canvas, Colour

Layout = Literal["aligned", "free"]

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
GROUPS = {
    "vehicles": ("bus", "truck", "train"),
    "water": ("lake", "ice"),
    "signs": ("sign_a", "sign_b"),
    "poles": ("lamp", "signal"),
    "local": ("road", "sky", "building", "vegetation", "car", "rider"),
}


class Street:
    """The state of one drawing: canvas, random stream, unit of length and the scene's rules."""

    def __init__(self, seed: int, index: int, height: int, width: int, layout: Layout) -> None:
        self.rng = np.random.RandomState([seed, index])
        self.uniform = self.rng.uniform
        self.canvas = Canvas(height, width)
        self.h, self.w, self.unit = height, width, height / 160
        self.free = layout == "free"
        self.horizon = int(height * self.uniform(0.50, 0.58))
        self.warm = bool(self.rng.randint(2))
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
