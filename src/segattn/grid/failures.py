"""Why a process of a cell ended without a result: what it told, or else how it died."""

import signal
import time

from segattn.lock import BUSY_EXIT, Busy, hold
from segattn.runs import Run, write_json


def describe_exit(code: int) -> str:
    """What an exit code of scripts/train.py says; negative for a signal."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL); if nobody did that, the machine ran out of memory"
    if code == BUSY_EXIT:
        return f"exit code {code}: another process was at this run"
    return f"exit code {code}"


def failure(run: Run, otherwise: str, *, since: float) -> str:
    """The error that the run told, or `otherwise`, which is then written down.

    Args:
        run: It ended without a result, and nothing of it runs any more.
        otherwise: What is known from outside.
        since: When the attempt began, seconds since 1970; what was told before is of another one.
    """
    status = run.status
    told = status.get("error") if status.get("updated", 0) >= since else None
    if told is None:
        write_failure(run, otherwise)
    return told or otherwise


def write_failure(run: Run, error: str) -> None:
    """A killed process could not say that it failed; a second start has to know."""
    try:
        with hold(run.lock_path, seconds=1):  # who only looks is gone by then
            status = {"state": "failed", "error": error, "updated": time.time()}
            write_json(run.status_path, {**run.status, **status})
    except Busy:  # another driver is at it already
        return
