"""What test modules of all kinds share."""

import os
from typing import NoReturn

import pytest

PROJECT_MARK = "TRITON_PERF_TEST_ID"
"""In the environment of every process that a test's project starts."""


def missing_part(why: str) -> NoReturn:
    """A real part is not here: in CI that is a failure, elsewhere a skip that says so."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {why}", pytrace=False)
    pytest.skip(f"REAL PART MISSING, NOT TESTED: {why}")
