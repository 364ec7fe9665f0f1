"""Lists of the images in a split, in the forms that editors and data sets leave them."""

import codecs
import re
from pathlib import Path

from segattn.base.errors import UserError


def read_names(listing: Path) -> list[str]:
    """The names of the images in a split's list, one a line, without folders and suffixes.

    Lists carry the paths of whoever edited them, in any system's form, and a column of labels.

    Raises:
        UserError: The list is missing, empty, or no text.
    """
    return [_name_in(line) for line in read_lines(listing)]


def read_lines(listing: Path) -> list[str]:
    """The lines of a split's list that name an image; raises `UserError` as `read_names` does."""
    try:
        text = _decoded(listing.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read the list of images {listing}: {error.strerror}") from error
    if re.search(r"[\x00-\x08\x0e-\x19\x1b-\x1f]", text):
        raise UserError(f"cannot read the list of images {listing}: it is not text")
    lines = (re.sub("[\u200b\ufeff\x1a]", "", line).strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.startswith("#")]
    if not kept:
        raise UserError(f"{listing} lists no image; copy it again from the data set")
    return kept


def _name_in(line: str) -> str:
    if file := re.search(r"([^/\\\s\"']+)\.(?:png|jpe?g|mat)\b", line, re.IGNORECASE):
        return file[1]
    return re.split(r"[/\\]", line.split()[0].strip("\"',;"))[-1]


def _decoded(content: bytes) -> str:
    """Text as editors of any system leave it: with a byte-order mark, wide, or in Latin-1."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(content) % 2 == 0:
        return content.decode("utf-16", errors="replace").replace("\0", "")
    content = content.replace(b"\0", b"")  # UTF-16 or UTF-32 of plain letters
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
