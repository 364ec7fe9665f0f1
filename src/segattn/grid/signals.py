"""Signals that end a driver, kept back where they would tear apart what belongs together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_later() -> Iterator[None]:
    """A signal that comes inside takes effect at the end.

    A mask would not do: it is that of one thread, and any other one lets the signal through. Python
    handles signals in the main thread; in another one there is nothing to keep back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    heard = [n for n in INTERRUPTIONS if signal.getsignal(n) is not signal.SIG_IGN]  # as with nohup
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
