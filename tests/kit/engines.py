"""The outcome of a test whose engine is not installed: skipped, or failed where engines are required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRED = "REQUIRE_ENGINES"
"""The environment variable that lets no test skip for want of an engine; `.ci/run` sets it.

It does not begin with SOFTSTATE_, since `softstate serve` refuses such variables that it does not know."""


def left_out(reason: str) -> NoReturn:
    """Skip a test of what not every machine can have: browsers, Node.js, packages of npm; also where CI runs."""
    pytest.skip(reason)


def missing(reason: str) -> NoReturn:
    """Skip a test for a reason; fail it instead where engines are required."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set, so this is not skipped)", pytrace=False)
    pytest.skip(reason)
