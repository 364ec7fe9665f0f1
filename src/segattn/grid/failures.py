"""Why a process of a cell ended without a result: what it told, or else how it died."""

import signal
import time
from typing import Any

from segattn.base.lock import Busy, hold
from segattn.base.runs import Run, write_json


def describe_exit(code: int) -> str:
    """What an exit code of scripts/train.py says; negative for a signal."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL); if nobody did that, the machine ran out of memory"
    return f"exit code {code}"


def failure(run: Run, otherwise: str, *, before: dict[str, Any]) -> str:
    """The error that the run told, or `otherwise`, which is then written down.

    Args:
        run: It ended without a result.
        otherwise: What is known from outside.
        before: The run's status before the attempt; what was told then is of another one.
    """
    told = run.status
    if told["state"] == "failed" and told != before:
        return str(told["error"])
    write_failure(run, otherwise)
    return otherwise


def write_failure(run: Run, error: str) -> None:
    """A killed process could not say that it failed; a second start should know."""
    try:
        with hold(run.lock_path, seconds=1):  # who only looks is gone by then
            status = {"state": "failed", "error": error, "updated": time.time()}
            write_json(run.status_path, {**run.status, **status})
    except (Busy, OSError):  # another process is at it already, or the disk is full
        return
