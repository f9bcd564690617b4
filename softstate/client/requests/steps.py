"""The steps of a request: what a generator of this package has its driver do next."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from softstate.client.requests.reply import Reply
from softstate.client.url import NodeUrl
from softstate.errors import Unauthenticated

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this request and send the reply into the generator, or throw `HttpFailed`, at the latest after `timeout_s`.

    `path` is encoded. `accept` is the wanted content type, empty for the client's own. `once`: never send it again on
    another connection.
    """

    url: NodeUrl
    method: str
    path: str
    timeout_s: float
    body: bytes = b""
    accept: str = ""
    once: bool = False


@dataclass(frozen=True, slots=True)
class SleepUntil:
    """Go on at `at`, in seconds on the clock that the generator was given."""

    at: float


@dataclass(frozen=True, slots=True)
class FirstToken:
    """Go on as soon as the provider has given a token."""


@dataclass(frozen=True, slots=True)
class AnotherToken:
    """Go on as soon as there is another token than `refused`; throw `error` into the generator if none comes."""

    refused: str | None = field(repr=False)
    error: Unauthenticated


class TimeIsUp(Exception):
    """Thrown into a generator when the time for the whole of it is over."""


Step: TypeAlias = Ask | SleepUntil | FirstToken | AnotherToken

Steps: TypeAlias = Generator[Step, Reply | None, T]
"""Yields steps, is sent the reply to each `Ask`, and returns what was asked for, or raises."""


def ask(request: Ask) -> Steps[Reply]:
    """Ask, and return the reply. Raises `HttpFailed`."""
    reply = yield request
    assert reply is not None, "a driver sends the reply to what it was to ask"
    return reply
