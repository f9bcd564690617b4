"""Clients log nothing in a block, and what they did before it behind it, also if it raises."""

from __future__ import annotations

import logging

import pytest

from bench.measure.quiet import quiet_clients


@pytest.mark.parametrize("before", [False, True])
def test_the_log_of_clients_is_off_for_a_block_alone(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("softstate.client")
    monkeypatch.setattr(logger, "disabled", before)
    with pytest.raises(KeyError), quiet_clients():
        assert logger.disabled
        raise KeyError
    assert logger.disabled is before
