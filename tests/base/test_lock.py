"""A run folder belongs to one process at a time."""

import errno
import fcntl
import os
from contextlib import contextmanager

import pytest
from tiny import tiny_config

from segattn.base.lock import Busy, hold, is_held
from segattn.training.train import run_folder, train


@contextmanager
def elsewhere(run):
    """A process that holds the run's lock."""
    ready, end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with hold(run.lock_path):
            os.write(ready[1], b"x")
            os.read(end[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        yield child
    finally:
        os.write(end[1], b"x")
        os.waitpid(child, 0)


def test_a_run_that_is_at_work_is_left_alone(tmp_path):
    config = tiny_config(tmp_path)
    run = run_folder(config)
    with elsewhere(run) as child:
        assert is_held(run.lock_path)
        told = rf"is in use by process {child} on "
        with pytest.raises(Busy, match=told), hold(run.lock_path, seconds=0):
            pass
    assert train(config).status["state"] == "done"


def test_who_looks_is_no_holder(tmp_path):
    """Two who look in the same moment do not take each other for a process at work."""
    with hold(tmp_path / "lock"):
        pass
    (ready, told), (go, end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with (tmp_path / "lock").open() as file:
            fcntl.lockf(file.fileno(), fcntl.LOCK_SH)  # what is_held does, kept
            os.write(told, b"x")
            os.read(go, 1)
        os._exit(0)
    os.read(ready, 1)
    try:
        assert not is_held(tmp_path / "lock")
    finally:
        os.write(end, b"x")
        os.waitpid(child, 0)


def test_a_disk_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(ValueError, match=r"no locks \(No locks available\).* set runs_dir"):
        train(tiny_config(tmp_path))
