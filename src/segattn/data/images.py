"""One image file as pixels: palettes, grey, alpha, 16 bits.

Every image is read as it is stored, in training, tests, checks and predictions alike, since labels
of data sets lie on the stored pixels. A viewer may turn it by its EXIF orientation.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from segattn.base.errors import UserError

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
PngImagePlugin.MAX_TEXT_CHUNK = 2**26  # bytes; colour profiles of cameras exceed Pillow's 1 MB
# what undoes each EXIF orientation, 2 to 8
_BACK = dict(zip(range(2, 9), map(Image.Transpose, (0, 3, 1, 5, 2, 6, 4)), strict=True))
# what Pillow raises depends on the format and on which bytes are wrong
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError)


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as uint8 [H, W, 3], RGB; transparent parts are white.

    16-bit grey is scaled to 8 bits over its whole range, 0 to 65535.

    Args:
        path: Any format and mode that Pillow reads, 8 or 16 bits a channel.

    Raises:
        UserError: `open_image` raises it, or the file holds numbers whose range is not known.
    """
    image = open_image(path)
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path} has pixels of 32 bits (mode {image.mode}), whose range is not known; store it "
            "with 8 or 16"
        )
    return _to_rgb(image)


def open_image(path: Path) -> Image.Image:
    """A file as Pillow loads it, but never turned.

    Raises:
        UserError: It is damaged, is not an image, is larger than Pillow opens, or holds several.
    """
    try:
        with path.open("rb") as file:  # by its name, Pillow scrambles grey TIFF that it turns
            image = Image.open(file)
            image.load()
            # photos of phones (MPO) carry depth or light as further frames
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large ({error}); cut it into smaller images") from error
    except _DAMAGED as error:
        raise UserError(f"cannot read {path}: {_reason(path, error)}") from error
    if frames > 1:
        raise UserError(f"{path} holds {frames} images; store each as a file of its own")
    turn = orientation(path) if image.format == "TIFF" else 1  # Pillow turns this format alone
    return image.transpose(_BACK[turn]) if turn > 1 else image


def orientation(path: Path) -> int:
    """EXIF orientation of an image, 1 to 8; an image without one has 1."""
    try:
        with Image.open(path) as image:  # the base class, for PNG would decode its pixels
            found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except (*_DAMAGED, struct.error, Image.DecompressionBombError):  # also of an intact image
        return 1
    return found if found in _BACK else 1


def resize(array: NDArray[Any], size: Sequence[int], *, nearest: bool = False) -> NDArray[Any]:
    """An image or a label map at another (height, width), bilinear or by the nearest pixel."""
    if array.shape[:2] == tuple(size):
        return array
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(array).resize((size[1], size[0]), method))


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # of the system, not of the file
        return error.strerror
    if path.stat().st_size == 0:
        return "the file is empty; copy it again"
    if isinstance(error, UnidentifiedImageError):
        return "Pillow does not know the format"
    return f"it is damaged ({error}); copy it again"


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BITS:
        grey = (np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return np.asarray(image.convert("RGB"))
