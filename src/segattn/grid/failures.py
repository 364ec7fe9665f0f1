"""Why a process of a cell ended without a result: what it told, or else how it died."""

import signal
import time

from segattn.base.lock import BUSY_EXIT, Busy, hold
from segattn.base.runs import Run, write_json


def describe_exit(code: int) -> str:
    """What an exit code of scripts/train.py says; negative for a signal."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL); if nobody did that, the machine ran out of memory"
    if code == BUSY_EXIT:
        return f"exit code {code}: another process was at this run"
    return f"exit code {code}"


def failure(run: Run, otherwise: str, *, known: float) -> str:
    """The error that the run told, or `otherwise`, which is then written down.

    Args:
        run: It ended without a result, and nothing of it runs any more.
        otherwise: What is known from outside.
        known: The run's stamp before the attempt; what was told then is of another one.
    """
    told = run.status.get("error") if run.stamp != known else None
    if told is None:
        write_failure(run, otherwise)
    return told or otherwise


def write_failure(run: Run, error: str) -> None:
    """A killed process could not say that it failed; a second start should know."""
    try:
        with hold(run.lock_path, seconds=1):  # who only looks is gone by then
            if run.result is not None:  # another process has finished it meanwhile
                return
            status = {"state": "failed", "error": error, "updated": time.time()}
            write_json(run.status_path, {**run.status, **status})
    except (Busy, OSError):  # another driver is at it already, or the disk is full
        return
