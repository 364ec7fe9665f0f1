"""Why the process of a cell ended without a result."""

import signal
import time
from typing import Any

from segattn.base.lock import Busy, hold
from segattn.base.runs import Run, write_json

_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


def failure(run: Run, code: int, *, before: dict[str, Any]) -> str:
    """Return the error that the run reported, or write and return what its exit `code` says.

    An error that stood in status.json `before` the attempt is an older one.
    """
    status = run.status
    if status["state"] == "failed" and status != before:
        return str(status["error"])
    killed = "killed (SIGKILL); the machine has probably run out of memory"
    error = killed if code in _KILLED else f"ended without a result, with exit code {code}"
    write_failure(run, error)
    return error


def write_failure(run: Run, error: str) -> None:
    """Mark a run as failed, since its process could not, unless another process works on it."""
    try:
        with hold(run.lock_path, seconds=1):
            status = {"state": "failed", "error": error, "updated": time.time()}
            write_json(run.status_path, {**run.status, **status})
    except (Busy, OSError):  # another process is at it already, or the disk is full
        return
