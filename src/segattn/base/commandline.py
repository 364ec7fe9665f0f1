"""What the scripts that take key=value words share."""

import argparse
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
    """The values of key=value words, as they were typed but for a leading "~".

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
        values[key] = os.path.expanduser(value)
    if missing := [key for key in needed if key not in values]:
        raise UserError(f"missing {' and '.join(f'{key}=...' for key in missing)}")
    return values


def parse_words(doc: str | None) -> list[str]:
    """The key=value words of the command line; `doc` is what --help prints."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="key=value")
    return list(parser.parse_args().words)


def as_path(text: str) -> Path:
    """Return the path a user typed, with "~" expanded; shells do not expand it in `--out=~/x`."""
    return Path(text).expanduser()


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
