"""Other processes: waited for, and looked at."""

import signal
import time
from collections.abc import Callable
from pathlib import Path


def hear_signals() -> None:
    """`preexec_fn` of a process that is to be interrupted as from a terminal.

    Tests that run in the background ignore Ctrl-C, and what they start would.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(condition: Callable[[], object], *, seconds: float = 180) -> None:
    """Until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Not a zombie, which waits for whoever takes over orphans."""
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rsplit(")", 1)[1].split()[0] != "Z"
