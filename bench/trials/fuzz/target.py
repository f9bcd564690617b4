"""What every fuzzed parser has to say of itself: how to make an input for it, and what may come of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import ClassVar

ECHO_BYTES_MAX = 4_096
"""Longest message of an error, whatever the input: nobody gets his megabytes back with an explanation."""


class Broken(AssertionError):
    """The parser broke what is documented of it."""


class Target(ABC):
    """One parser. `check` may be called any number of times inside `running`, and keeps nothing in between."""

    name: ClassVar[str]
    virtual: ClassVar[bool] = False
    """Whether it runs on virtual time, so that what waits for a timeout costs nothing. Such a target uses no thread."""

    @abstractmethod
    def make(self, random: Random) -> bytes:
        """Make an input: mostly well-formed but for a detail, sometimes rubbish."""

    @abstractmethod
    async def check(self, data: bytes) -> str:
        """Feed an input; return in one word what came of it. Raises `Broken`, or whatever escapes the parser."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep what `check` needs alive."""
        yield


def brief(message: str) -> None:
    """Refuse an error message that grows with the input."""
    if len(message.encode("utf-8", "surrogatepass")) > ECHO_BYTES_MAX:
        raise Broken(f"an error message of {len(message)} characters: {message[:80]!r}…")
