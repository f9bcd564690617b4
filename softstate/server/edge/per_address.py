"""Open connections by the address of their peers, for the limit of each."""

from __future__ import annotations

from typing import final

from softstate.errors import Overloaded

ADDRESS_LIMIT = "connections_per_address_max"
"""The limit, as options and errors name it."""

RETRY_MS = 1_000
"""Delay after which a client is told to try again whose address has too many connections."""


@final
class PerAddress:
    """How many connections each address has. It may have `most`; 0: any number, and none is counted."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many addresses have connections."""
        return len(self._open)

    def refusal(self, address: str) -> Overloaded | None:
        """Return the error for one more connection of an address, None if it may have one."""
        if not self.most or self._open.get(address, 0) < self.most:
            return None
        text = f"too many connections of {address}, the limit ({ADDRESS_LIMIT}) is {self.most}"
        return Overloaded(text, retry_ms=RETRY_MS, why=ADDRESS_LIMIT)

    def enter(self, address: str) -> None:
        """Count a connection in."""
        if self.most:
            self._open[address] = self._open.get(address, 0) + 1

    def leave(self, address: str) -> None:
        """Count a connection out that was counted in."""
        if self.most:
            left = self._open[address] - 1
            if left:
                self._open[address] = left
            else:
                del self._open[address]
