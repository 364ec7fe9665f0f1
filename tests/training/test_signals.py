"""Signals that come at a bad moment."""

import os
import signal
import threading
import time

import pytest

from segattn.grid.signals import signals_later


def test_a_signal_waits_for_what_belongs_together():
    """Also where another thread takes it, which a mask of this one would let happen."""
    stop, after = threading.Event(), []
    threading.Thread(target=stop.wait).start()

    def work():
        with signals_later():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            after.append("done")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
        stop.set()
    assert after == ["done"]


def test_a_driver_may_run_in_another_thread():
    done = []

    def work():
        with signals_later():
            done.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["done"]


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_later():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
