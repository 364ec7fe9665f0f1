"""One process at a time in a run folder, on one machine or on several that share its disk."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segattn.base.errors import UserError

_POLL_SECONDS = 0.1


class Busy(UserError):
    """Another process holds the lock."""


@contextmanager
def hold(path: Path, *, seconds: float = 10) -> Iterator[None]:
    """Hold the lock file `path`; the system releases it however the process ends.

    Args:
        path: Made where it is missing, and left there: removing it would let two processes hold
            two files of one name.
        seconds: How long to wait. `is_held` takes the lock for a moment, and a killed process may
            need a moment to end.

    Raises:
        Busy: It is still taken; the message names the holder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A record lock: it belongs to the process. With flock(), the workers of a loader would inherit
    # it and keep it for seconds after a SIGKILL of the run.
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + seconds
        while not _try(file.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Busy(f"{path.parent} is in use by {_read(path)}; wait for it, or stop it")
            time.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Return whether another process holds the lock file `path`.

    A process must not ask about a lock of its own: closing the file would release it.
    """
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as file:  # reading suffices, so other users' folders work
        return not _try(file.fileno(), fcntl.LOCK_SH)  # shared: several may ask at once


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError | PermissionError):  # EAGAIN or EACCES: taken
            return False
        raise UserError(
            f"the disk of the run folders offers no locks ({error.strerror}), without which two "
            f"processes could work on one run; set runs_dir to another disk"
        ) from error
    return True


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() or "another process"
