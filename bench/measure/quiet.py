"""Runs without the log of clients: faults are meant there, and clients warn of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_clients() -> Iterator[None]:
    """Have clients log nothing for the duration of a block."""
    logger = logging.getLogger("softstate.client")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
