"""Events of a connection, which a reader of frames hands out beside messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

NO_CODE = 1005
"""Stands for the code of a close frame that has none; never sent (RFC 6455 section 7.1.5)."""


class ViolationCode(IntEnum):
    """The close code that answers a violation (RFC 6455 section 7.4.1)."""

    PROTOCOL = 1002
    """Bytes that are no frames, or frames in an order that makes no messages."""
    NOT_UTF8 = 1007
    """Text that is not UTF-8."""
    TOO_MANY = 1008
    """More fragments of a message, or more pings and pongs between messages, than the limit."""
    TOO_BIG = 1009
    """A message that is longer than the limit."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping: to be answered by a pong with the same payload, at most 125 bytes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, solicited or not."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerClose:
    """A close frame. Nothing that follows it counts."""

    code: int
    """`NO_CODE` if the frame has none."""
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke a rule: the connection is to be closed with this code. Nothing that follows counts."""

    code: ViolationCode
    reason: str
    """One line of ASCII, at most 123 bytes: it fits into a close frame."""


Received: TypeAlias = bytes | str | Ping | Pong | PeerClose | Violation
"""A whole message (`bytes` if it was sent as binary, `str` if as text), or an event."""


class Violated(Exception):
    """Raised inside of the package where a violation is found; `FrameReader.feed` turns it into a `Violation`."""

    def __init__(self, code: ViolationCode, reason: str) -> None:
        super().__init__(reason)
        self.violation = Violation(code, reason)
