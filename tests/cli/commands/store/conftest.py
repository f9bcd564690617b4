"""Fixtures: an empty directory to run `softstate store` in, and what it prints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kit.command_group import folder, output_of, refusal_of

__all__ = ["folder"]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """See `output_of`."""
    return output_of("store", capsys)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """See `refusal_of`."""
    return refusal_of("store", capsys)
