"""One image file as pixels, whatever a viewer would show: palettes, grey, alpha, 16 bits."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from segattn.base.errors import UserError

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
PngImagePlugin.MAX_TEXT_CHUNK = 2**26  # bytes; colour profiles of cameras exceed Pillow's 1 MB
# what Pillow raises depends on the format and on which bytes are wrong
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError)


def read_image(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """An image as uint8 [H, W, 3], RGB; transparent parts are white.

    16-bit grey is scaled to 8 bits over its whole range, 0 to 65535.

    Args:
        path: Any format and mode that Pillow reads, 8 or 16 bits a channel.
        upright: Whether to turn it by its EXIF orientation. The labels of data sets follow the
            stored pixels.

    Raises:
        UserError: The file is damaged or no image, is larger than Pillow opens, holds several
            images, or numbers whose range is not known.
    """
    image = open_image(path)
    # photos of phones (MPO) carry depth or light as further frames
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(f"{path} holds {frames} images; store each as a file of its own")
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path} has pixels of 32 bits (mode {image.mode}), whose range is not known; store it "
            "with 8 or 16"
        )
    return _to_rgb(ImageOps.exif_transpose(image) if upright else image)


def open_image(path: Path) -> Image.Image:
    """A file as Pillow loads it.

    Raises:
        UserError: It is damaged, no image, or larger than Pillow opens.
    """
    try:
        image = Image.open(path)
        image.load()
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large ({error}); cut it into smaller images") from error
    except _DAMAGED as error:
        raise UserError(f"cannot read {path}: {_reason(path, error)}") from error
    return image


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # of the system, not of the file
        return error.strerror
    if path.stat().st_size == 0:
        return "the file is empty; copy it again"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a format that Pillow knows"
    return f"it is damaged ({error}); copy it again"


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BITS:
        grey = (np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return np.asarray(image.convert("RGB"))
