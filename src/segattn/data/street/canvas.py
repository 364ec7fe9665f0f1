"""A canvas that paints colour, class and instance together."""

import numpy as np

Colour = tuple[float, ...]


class Canvas:
    """Image, label and instance map of one drawing.

    Shapes are given in pixels, y down; pixel (y, x) is inside a shape when its corner is. Painting
    without a label changes the colour alone, as a texture.

    Attributes:
        image: float32 [H, W, 3], 0 to about 255.
        label: uint8 [H, W].
        instances: int32 [H, W], 0 where nothing has an id.
    """

    def __init__(self, height: int, width: int) -> None:
        self.image = np.zeros((height, width, 3), np.float32)
        self.label = np.zeros((height, width), np.uint8)
        self.instances = np.zeros((height, width), np.int32)
        self._next_instance = 1

    def new_instance(self) -> int:
        """A fresh id, 1, 2, ..."""
        self._next_instance += 1
        return self._next_instance - 1

    def gradient(self, top: int, bottom: int, start: Colour, end: Colour, label: int) -> None:
        """Fill the rows from `top` to `bottom` with a vertical gradient."""
        t = np.linspace(0, 1, bottom - top, dtype=np.float32)[:, None, None]
        colours = np.asarray(start, np.float32), np.asarray(end, np.float32)
        self.image[top:bottom] = (1 - t) * colours[0] + t * colours[1]
        self.label[top:bottom] = label

    def rect(
        self,
        top: float,
        bottom: float,
        left: float,
        right: float,
        colour: Colour,
        label: int | None = None,
        instance: int = 0,
    ) -> None:
        """Paint a rectangle."""
        window, y, x = self._window(top, bottom, left, right)
        inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        self._paint(window, inside, colour, label, instance)

    def disc(
        self,
        centre_y: float,
        centre_x: float,
        radius_y: float,
        radius_x: float,
        colour: Colour,
        label: int | None = None,
        instance: int = 0,
    ) -> None:
        """Paint an ellipse."""
        window, y, x = self._window(
            centre_y - radius_y, centre_y + radius_y, centre_x - radius_x, centre_x + radius_x
        )
        inside = ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 <= 1
        self._paint(window, inside, colour, label, instance)

    def _window(
        self, top: float, bottom: float, left: float, right: float
    ) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """The pixels of a box inside the frame: slices, and their coordinates."""
        height, width = self.label.shape
        y0, y1 = (min(max(int(y), 0), height) for y in (top, bottom + 1))
        x0, x1 = (min(max(int(x), 0), width) for x in (left, right + 1))
        y, x = np.ogrid[y0:y1, x0:x1]
        return (slice(y0, y1), slice(x0, x1)), y, x

    def _paint(
        self,
        window: tuple[slice, slice],
        inside: np.ndarray,
        colour: Colour,
        label: int | None,
        instance: int,
    ) -> None:
        self.image[window][inside] = colour
        if label is not None:
            self.label[window][inside] = label
            self.instances[window][inside] = instance
