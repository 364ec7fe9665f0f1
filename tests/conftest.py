"""Every test draws the same numbers, in any order and on any number of processes."""

import os
import tempfile

import numpy as np
import pytest
import torch

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="segattn-cache-")  # also of subprocesses


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed before the fixtures of a test, also those that a module shares."""
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
