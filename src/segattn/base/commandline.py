"""What the scripts that take key=value words share."""

import errno
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError, told

_OF_THE_SYSTEM = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # not allowed
    *(
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    ),  # not such a path
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE),  # the disk
}
"""Errors of the operating system that a user can mend; a missing file of ours is a bug."""


def read_words(
    words: Sequence[str], *, needed: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, str]:
    """The values of key=value words, as they were typed.

    Raises:
        UserError: A word without "=", an unknown key (the message lists the choices), one that
            stands twice or has no value, or a needed one that is missing.
    """
    values: dict[str, str] = {}
    known = (*needed, *optional)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise UserError(f"cannot read {word!r}; arguments are key=value, of {', '.join(known)}")
        if key in values or not value:
            raise UserError(f"{key} {'stands twice' if key in values else 'has no value'}")
        values[key] = value
    if missing := [key for key in needed if key not in values]:
        raise UserError(f"missing {' and '.join(f'{key}=...' for key in missing)}")
    return values


def read_protocol(name: str | None, knobs: Mapping[str, str], *, folder: Path) -> dict[str, Any]:
    """Values of a protocol: those of a named one, with single knobs changed.

    Args:
        name: Of `folder`/NAME.yaml; None for the knobs alone.
        knobs: YAML text by name, such as {"crop": "[768,768]"}.
        folder: Where named protocols stand.

    Raises:
        UserError: An unknown name (the message lists the choices), or text that is no YAML.
    """
    values: dict[str, Any] = {}
    if name is not None:
        files = {path.stem: path for path in folder.glob("*.yaml")}
        check_choice("protocol", name, files)
        values = yaml.safe_load(files[name].read_text(encoding="utf-8"))
    for knob, text in knobs.items():
        try:
            values[knob] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"cannot read protocol.{knob}={text}; a list is [768,768]") from error
    return values


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with one line for what a user can mend, and for Ctrl-C.

    Any other error is a bug, and keeps its traceback.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {told(error)}")
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{error.strerror}")
    except KeyboardInterrupt as error:
        sys.exit(f"interrupted; {str(error) or 'the same command goes on where it stopped'}")
