"""Procedural street scenes whose classes differ by a cue, not by their looks: the rules.

A scene has a wall at one end, with a billboard and a gate for each of two lanes. The two classes of
a pair look alike and differ by a cue:

| classes         | cue                              | where the cue is                | objects  |
|-----------------|----------------------------------|---------------------------------|----------|
| sign_a sign_b   | the colour of the billboard      | far, one for the whole scene    | any size |
| lamp signal     | the colour of the billboard      | far, one for the whole scene    | thin     |
| bus truck       | the colour of the gate           | far, in the rows of the vehicle | any size |
| lake ice        | the colour of the shore around   | near                            | any size |
| train car rider | their own colours: the control   | in the object                   | any size |

Far is so far that a head without attention, behind an encoder of depth 3 and stride 8, does not see
it and has to guess. Near is 2.5 px. Every scene has both gates, in random order: the scene as a
whole does not distinguish a bus from a truck, only the rows do. Cues have one size and one distance
for objects of all sizes. No object hides a part of another one.
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
SIGNS, POLES = ("sign_a", "sign_b"), ("lamp", "signal")
VEHICLES, WATER = ("bus", "truck"), ("lake", "ice")
CONTROL = ("train", "car", "rider")
SIZED = (*SIGNS, *VEHICLES, *WATER, *CONTROL)
"""Classes with objects of every size."""
THINGS = (*SIZED, *POLES)

WALL = 20
"""Width of the wall, in units."""
FAR = 48
"""Least distance from the wall to an object whose cue is on it, in units: see the tests."""
LANES = ((14, 38), (39, 63))
"""First and last row of each lane, in units."""


class Street:
    """The state of one drawing: canvas, random stream, unit of length and the scene's cues.

    Attributes:
        rng: Random stream of the scene.
        uniform: Draws from that stream.
        canvas: What is drawn so far, with the wall on the left.
        h: Rows of the scene.
        w: Columns of the scene.
        unit: px per unit of length; 1 in a scene of 64 rows.
        country: Which of `SIGNS` and which of `POLES` the scene has, 0 or 1.
        upper: Which of `VEHICLES` has the upper lane, 0 or 1; the other one has the lower lane.
        mirrored: Whether the finished scene has the wall on the right.
    """

    def __init__(self, seed: int, index: int, height: int, width: int) -> None:
        self.rng = np.random.RandomState([seed, index])
        self.uniform = self.rng.uniform
        self.canvas = Canvas(height, width)
        self.h, self.w, self.unit = height, width, height / 64
        self.country, self.upper, mirrored = map(int, self.rng.randint(2, size=3))
        self.mirrored = bool(mirrored)

    def shade(self, colour: Colour, brightness: float = 0.12) -> Colour:
        """Return `colour` with a brightness of its own."""
        gain = self.uniform(1 - brightness, 1 + brightness)
        return tuple(gain * c for c in colour)

    def either(self, one: Colour, other: Colour) -> Colour:
        """Return one of two colours that mean nothing."""
        return other if self.rng.randint(2) else one
