"""What test modules of all kinds share."""

import os
import time
from collections.abc import Callable
from typing import NoReturn

import pytest

PROJECT_MARK = "TRITON_PERF_TEST_ID"
"""In the environment of every process that a test's project starts."""


def missing_part(why: str) -> NoReturn:
    """A real part is not here: in CI that is a failure, elsewhere a skip that says so."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {why}", pytrace=False)
    pytest.skip(f"REAL PART MISSING, NOT TESTED: {why}")


def wait_for(condition: Callable[[], object], within: float = 60.0) -> None:
    """Return when the condition holds; fails where it does not come to."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
