"""For every test: CUDA markers, random numbers put back, and nothing left behind."""

from __future__ import annotations

import ctypes
import os
import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

from tests import leaks

# The same examples on every machine, however slow it is at the moment.
settings.register_profile("frameloom", deadline=None, derandomize=True, database=None)
settings.load_profile("frameloom")


@pytest.fixture(autouse=True)
def restore_random_numbers() -> Iterator[None]:
    """A test that seeds the global generators does not change what the next one draws."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the global one
    yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002


@pytest.fixture(autouse=True)
def leave_nothing_behind(restore_random_numbers: None) -> Iterator[None]:
    """Fail a test that leaves a process, a thread or shared memory."""
    before = leaks.take_inventory()
    yield
    found = leaks.lasting_leaks(before, leaks.PATIENCE_S)
    if found:
        pytest.fail("left behind: " + "; ".join(found), pytrace=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_cuda") is None or cuda_device_count() > 0:
        return
    if os.environ.get("FRAMELOOM_REQUIRE_CUDA") == "1":
        pytest.fail("needs a CUDA device, and FRAMELOOM_REQUIRE_CUDA=1 forbids to skip it")
    pytest.skip("needs a CUDA device")


def cuda_device_count() -> int:
    """Asked of the driver itself, so that no test has to import torch to be skipped."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
