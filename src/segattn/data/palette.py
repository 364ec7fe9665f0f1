"""Colours of classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Palette = tuple[tuple[int, int, int], ...]


def voc_palette(num_colours: int) -> Palette:
    """The first colours of the PASCAL VOC colour map, RGB; any two of the 256 differ.

    The bits of the index go to red, green and blue in turn, the lowest to the most significant bit
    of a channel (VOC2012 development kit, VOClabelcolormap).
    """
    return tuple(_spread(index) for index in range(num_colours))


def _spread(index: int) -> tuple[int, int, int]:
    red, green, blue = (
        sum((index >> (3 * step + channel) & 1) << (7 - step) for step in range(3))
        for channel in range(3)
    )
    return red, green, blue


def colour_table(palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Return the colour of each stored label, uint8 [256, 3]: white for void and unused labels."""
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    return colours
