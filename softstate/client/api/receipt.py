"""Publishes on their way: the receipt that an application holds, and the outcome behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import final

import anyio

from softstate.client.shell.bell import Bell
from softstate.errors import ClientClosed, RequestError, SoftstateError
from softstate.wire.messages import Published

LOGGER = logging.getLogger(__name__.rpartition(".api")[0])


def dropped() -> ClientClosed:
    """Return the outcome of a publish that was given up."""
    return ClientClosed("this publish was dropped; if it was sent, it may be applied all the same")


@final
class Outcome:
    """The outcome of one publish: known once `settle` was called, `Published` or the error to raise."""

    def __init__(self, topic: str = "") -> None:
        self._topic = topic
        self._told = False
        self._outcome: Published | SoftstateError | None = None
        self._bell = Bell()

    @property
    def settled(self) -> bool:
        """Whether it is known."""
        return self._outcome is not None

    @property
    def known(self) -> Published | SoftstateError | None:
        """The outcome itself, None as long as it is not known."""
        return self._outcome

    def settle(self, outcome: Published | SoftstateError) -> None:
        """Make it known. Must be called once."""
        self._outcome = outcome
        self._bell.ring()

    def tell(self) -> None:
        """Take note that somebody has asked for it, or given it up: it is not logged."""
        self._told = True

    def __del__(self) -> None:
        if isinstance(self._outcome, SoftstateError) and not self._told:
            LOGGER.error("nobody waited for the publish of %r, which failed: %s", self._topic, self._outcome)

    async def wait(self) -> Published:
        """Wait until it is known; return it, or raise it."""
        self.tell()
        if self._outcome is not None:
            await anyio.lowlevel.checkpoint()
        while self._outcome is None:
            await self._bell.wait()
        if isinstance(self._outcome, Published):
            return self._outcome
        raise self._outcome.with_traceback(None)


@final
class Receipt:
    """A publish on its way. `Client.publish_soon` makes these."""

    def __init__(
        self, outcome: Outcome, drop: Callable[[], None], refusal: Callable[[], RequestError | None] = lambda: None
    ) -> None:
        self._outcome = outcome
        self._drop: Callable[[], None] | None = drop
        self._refusal = refusal

    @property
    def settled(self) -> bool:
        """Whether the outcome is known, so that `wait` would not wait."""
        return self._outcome.settled

    async def wait(self) -> Published:
        """Wait until the change is durable, and return the answer, with its `version`.

        Raises what `Client.publish` raises. If cancelled, the publish goes on, and may be waited for again.
        """
        return await self._outcome.wait()

    def drop(self) -> None:
        """Stop sending it; `wait` raises `ClientClosed` then. If it was sent already, it may be applied all the same.

        Does nothing once it is settled. A value that newer calls of `publish_soon` have taken over is theirs, and sent.
        """
        self._outcome.tell()
        drop, self._drop = self._drop, None
        if drop is not None:  # once: others may hold the same publish
            drop()


def refusal_of(receipt: Receipt) -> RequestError | None:
    """Return why a publish is still waiting if it is certain not to be applied so far, else None."""
    return receipt._refusal()  # noqa: SLF001 - this module's own, and no promise to applications
