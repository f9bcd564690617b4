"""The driver of generators in `softstate.client.requests`: it sends what they ask, and waits as they say."""

from __future__ import annotations

from typing import Protocol, TypeVar, final

import anyio

from softstate.client.requests.reading import Aged, Listing, Reading
from softstate.client.requests.reply import HttpFailed, Reply
from softstate.client.requests.steps import AnotherToken, Ask, FirstToken, SleepUntil, Step, Steps, TimeIsUp
from softstate.client.shell.http import HttpClient
from softstate.errors import Unauthenticated

T = TypeVar("T")

BEHIND_S = 1.0
"""How much longer than asked a read waits that names a version: a node waits as long itself before it says `behind`."""


class Tokens(Protocol):
    """The tokens of a client with a provider, as its reads know them."""

    async def first(self) -> None:
        """Wait until there is a token."""

    async def after(self, refused: str | None, error: Unauthenticated) -> None:
        """Say that a node refused a token, and wait until there is another one. Raises `error` if none comes."""


async def drive(steps: Steps[T], http: HttpClient, tokens: Tokens | None = None) -> T:
    """Do what a generator yields until it returns, and return that; raises what it raises. Safe to cancel."""
    try:
        step = next(steps)
        while True:
            reply: Reply | None = None
            failure: HttpFailed | Unauthenticated | None = None
            try:
                reply = await _do(step, http, tokens)
            except (HttpFailed, Unauthenticated) as error:
                failure = error
            step = steps.send(reply) if failure is None else steps.throw(failure)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def _do(step: Step, http: HttpClient, tokens: Tokens | None) -> Reply | None:
    match step:
        case Ask():
            return await http.ask(step)
        case SleepUntil():
            await anyio.sleep_until(step.at)
        case FirstToken():
            assert tokens is not None, "only reads of a client with a provider wait for a token"
            await tokens.first()
        case AnotherToken():
            assert tokens is not None, "only reads of a client with a provider wait for a token"
            await tokens.after(step.refused, step.error)
    return None


@final
class Reader:
    """Reads through any of several nodes."""

    def __init__(self, http: HttpClient, reading: Reading, tokens: Tokens | None = None) -> None:
        self._http = http
        self._reading = reading
        self._tokens = tokens

    async def get(self, topic: str, at_least: int | None, timeout_s: float) -> Aged:
        """Return the state of a topic: a tombstone, if the node knows one; None if it knows nothing."""
        timeout_s = timeout_s if at_least is None else timeout_s + BEHIND_S
        return await self._within(timeout_s, self._reading.get(topic, at_least, timeout_s))

    async def listing(self, prefix: str, timeout_s: float) -> Listing:
        """Return every topic below a prefix that has a value, in order of their names."""
        return await self._within(timeout_s, self._reading.listing(prefix, timeout_s))

    async def count(self, prefix: str, most: int, timeout_s: float) -> int:
        """Count the topics below a prefix that have a value, up to `most`, which has to fit into one page."""
        return await self._within(timeout_s, self._reading.count(prefix, most, timeout_s))

    async def status(self, timeout_s: float) -> dict[str, object]:
        """Return a node's own account of what it holds."""
        return await self._within(timeout_s, self._reading.status(timeout_s))

    async def _within(self, timeout_s: float, steps: Steps[T]) -> T:
        with anyio.move_on_after(timeout_s):
            return await drive(steps, self._http, self._tokens)
        try:
            steps.throw(TimeIsUp())
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        raise AssertionError("a read ends when its time is up")
