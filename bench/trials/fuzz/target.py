"""The interface of a fuzzed parser: a generator of inputs, and a check of their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import ClassVar

import trio

ERROR_BYTES_MAX = 4_096
"""Longest error message, for any input: a message must not grow with the input."""

DEADLINE_S = 60.0
"""Virtual seconds after which a connection hangs: all timeouts of a node or client together are shorter."""


class Broken(AssertionError):
    """The parser broke a documented rule."""


class Target(ABC):
    """One parser. `check` may be called any number of times inside `running`, and keeps no state between calls."""

    name: ClassVar[str]
    virtual: ClassVar[bool] = False
    """Whether it runs on virtual time, so that timeouts cost nothing. Such a target must not use threads."""

    @abstractmethod
    def make(self, random: Random) -> bytes:
        """Return an input: mostly well-formed except for a detail, sometimes arbitrary."""

    @abstractmethod
    async def check(self, data: bytes) -> str:
        """Feed an input; return the result in a word. Raises `Broken`, and any exception that escapes the parser."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the services that `check` needs."""
        yield


@contextmanager
def deadline(state: str) -> Iterator[None]:
    """Raise `Broken` if the block takes longer than `DEADLINE_S`; `state` says what it still is or does then."""
    with trio.move_on_after(DEADLINE_S) as scope:
        yield
    if scope.cancelled_caught:
        raise Broken(f"still {state} after {DEADLINE_S:g} s")


def check_length(message: str) -> None:
    """Raise `Broken` for an error message longer than `ERROR_BYTES_MAX`."""
    if len(message.encode("utf-8", "surrogatepass")) > ERROR_BYTES_MAX:
        raise Broken(f"an error message of {len(message)} characters: {message[:80]!r}…")
