"""Refused publishes of one connection: no later one may overtake them (P-PUB-6)."""

from __future__ import annotations

from softstate.errors import Overloaded, RequestError, TryLater, Unavailable
from softstate.wire import messages

_OVERTAKES = "an earlier publish of this connection was refused, and this one may not overtake it: send both again"


class Refusals:
    """The publish refused as `overloaded` or `unavailable` that later ones of the connection may not overtake.

    That ends once all that was received is answered: its client can then send again, from the first one refused.
    """

    __slots__ = ("first",)

    def __init__(self) -> None:
        self.first: TryLater | None = None

    def note(self, error: RequestError) -> None:
        """Refuse later publishes if this one was refused, and not for its own sake."""
        if isinstance(error, Overloaded | Unavailable) and self.first is None:
            self.first = error

    def end(self, inflight: int, *, received: bool) -> None:
        """Take publishes again, unless some are not answered, or messages were received that wait to be looked at."""
        if self.first is not None and not inflight and not received:
            self.first = None

    def answer(self, request: messages.Id) -> messages.Error:
        """Return the answer to a later one."""
        assert self.first is not None
        return messages.Error(self.first.code, _OVERTAKES, request, self.first.retry_ms)


def answer_error(error: RequestError, request: messages.Id | None) -> messages.Error:
    """Return the message that answers a request with an error."""
    return messages.Error(error.code, error.message, request, error.retry_ms, error.current, error.position, error.why)
