"""The process of a driver, as its parent sees it: commands and answers are JSON lines."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

from bench.load.process import LoadProcess
from bench.peers.clients.records import Noted, noted_of


class Driver(LoadProcess):
    """Run a driver for the length of a block. All its clients follow when the block begins. Raises `LoadFailed`."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._module = name
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        try:
            self.answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def until(self, topic: str, number: int, patience_s: float) -> int:
        """Wait until all applications hold a number of a topic, or a greater one, for so long; return how many do."""
        holding: int = self.ask("until", topic=topic, number=number, patience_s=patience_s)["holding"]
        return holding

    def noted(self) -> Noted:
        """Return all that its applications noted."""
        return noted_of(self.ask("tell"))


def portions(clients: int, steps: int) -> list[int]:
    """Return how many clients to open in each step, which are about equal, and none of them 0."""
    edges = [clients * step // steps for step in range(steps + 1)]
    return [end - begin for begin, end in pairwise(edges) if end > begin]
