"""A person's own images: finding them in a folder, and reading whatever Pillow reads as RGB."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segattn.base.errors import UserError

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def find_photos(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images below `folder`, and what else is there, both sorted and relative to it.

    An image is a file with a suffix that Pillow reads. Hidden files are left out; folders that are
    links are not entered, since they may lead round in a circle, and count as what else is there.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; set images to the folder of your images")
    suffixes = _suffixes()
    found = sorted(_walk(folder))
    photos = [path for path in found if path.suffix.lower() in suffixes]
    photos = [path for path in photos if not (folder / path).is_dir()]
    if not photos:
        raise UserError(f"{folder} holds no image; .jpg, .png and whatever Pillow reads are taken")
    return photos, [path for path in found if path not in set(photos)]


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in (*files, *links):
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder)


def _suffixes() -> set[str]:
    known = Image.registered_extensions()
    return {suffix for suffix, name in known.items() if name in Image.OPEN}


def read_photo(path: Path) -> NDArray[np.uint8]:
    """An image as one sees it: upright by its EXIF orientation, in RGB, transparent parts white.

    16-bit grey is scaled to 8 bits over its whole range, 0 to 65535.

    Args:
        path: Any format and mode that Pillow reads, 8 or 16 bits a channel.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: The file is damaged or no image, is larger than Pillow opens, holds several
            images, or numbers whose range is not known.
    """
    try:
        with Image.open(path) as opened:
            # photos of phones (MPO) carry depth or light as further frames
            frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
            opened.load()
            image = ImageOps.exif_transpose(opened)
    # what Pillow raises depends on the format and on which bytes are wrong
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError) as e:
        raise UserError(f"cannot be read ({e})") from e
    except Image.DecompressionBombError as error:
        raise UserError(f"{error}; cut it into parts") from error
    if frames > 1:
        raise UserError(f"holds {frames} images; store each as a file of its own")
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BITS:
        grey = (np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UserError(
            f"has {image.mode} pixels of 32 bits, whose range is not known; store it with 8 or 16"
        )
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return np.asarray(image.convert("RGB"))
