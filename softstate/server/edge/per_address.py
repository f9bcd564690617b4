"""Open connections by the address of their peers, for the limit of each."""

from __future__ import annotations

from typing import final


@final
class PerAddress:
    """How many connections each address has. It may have `most`; 0: any number, and none is counted."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many addresses have connections."""
        return len(self._open)

    def has_room(self, address: str) -> bool:
        """Tell whether an address may have one more."""
        return not self.most or self._open.get(address, 0) < self.most

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
