"""The generation guard: an answer of the store counts only if the store was not reopened while it was under way.

A store that was replaced or restored from a backup is opened again, and may then be on another history than the hub
and every session. Until `StoreFollower` has compared the two, no answer can be trusted: it may be of a history
that was lost, or of one that the sessions do not know yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from softstate.errors import StoreFault, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

DOWN_RETRY_MS = 500
"""Delay after which a client is told to try again if the store does not answer."""

CHECKED = "the store is not as this node left it, and is being checked: try again later"


class StoreGuard:
    """Makes the store calls of one node. `fault` is called with every `StoreFault` that one of them meets."""

    def __init__(self, fault: Callable[[StoreFault], None]) -> None:
        self.generation: int | None = 0
        """Number of times that the store was reopened; None from a reopening until the hub is on the same history."""
        self.because = ""
        """The reason why the store could not be used at the last attempt; stale once a generation is current."""
        self._fault = fault

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a store call and return its answer, which is of the generation that was current when it began.

        Raises `Unavailable` if that one is over, or none was current, and as `report` does.
        """
        generation = self.generation
        answer = await self.report(function, *args, **kwargs)
        if generation is None or generation != self.generation:
            raise Unavailable(
                "the store was opened again during this request, and may have lost what it answered: try again",
                retry_ms=DOWN_RETRY_MS,
            )
        return answer

    async def report(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a store call whose answer its caller compares with the hub's history itself.

        Raises `Unavailable` for a `StoreFault`, which is reported, and lets other errors pass. While the store cannot
        be opened again, that has the reason.
        """
        try:
            return await function(*args, **kwargs)
        except StoreFault as fault:
            self._fault(fault)
            reason = self.because if self.generation is None else ""
            raise Unavailable(reason or CHECKED, retry_ms=DOWN_RETRY_MS) from None
