"""Polls that wait for a revision, and whose second read is refused at once: the connection goes on."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import CONFIG, SocketTarget, handshake, replied
from bench.trials.fuzz.streams import frame
from softstate.errors import Overloaded, RequestError, Unavailable
from softstate.server.storage.reads import StoreReads
from softstate.server.websocket.connection import IDLE_LEASES
from softstate.wire import JSON
from softstate.wire.messages import ClientMessage, Error, Hello, Poll, Polled, ServerBye, Welcome


def framed(*messages: ClientMessage) -> bytes:
    return b"".join(frame(1, JSON.encode(message), masked=True) for message in messages)


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> RequestError:
    """Have the third read of the store refused at once: that of a poll which has waited for its revision."""
    error: RequestError = request.param
    submit = StoreReads.submit
    reads: list[object] = []

    def refusing(self: StoreReads, *asked: Any) -> Any:
        reads.append(asked)
        if len(reads) == 3:
            raise error
        return submit(self, *asked)

    monkeypatch.setattr(StoreReads, "submit", refusing)
    return error


BOTH = pytest.mark.parametrize(
    "refusal", [Overloaded("too many wait"), Unavailable("stuck")], ids=lambda error: error.code, indirect=True
)


async def answers(first: bytes, *parts: bytes) -> list[Any]:
    """Say these parts, half a second apart; return the answers but those about the lease, which ends meanwhile."""
    target = SocketTarget()
    async with target.running():
        received = replied(await target.talk(handshake(JSON) + first, *parts), JSON)
        await target.check_unharmed()
    assert isinstance(received[0], Welcome)
    return [answer for answer in received if isinstance(answer, Error | Polled | ServerBye)]


WAITING = Poll(1, topics={"a": 0}, min_revision=99)
HALF_SECONDS = [b""] * int(2 * CONFIG.timeout_ms / 1000)


@BOTH
async def test_messages_behind_a_poll_that_was_refused_at_once_are_taken(
    refusal: RequestError, autojump_clock: MockClock
) -> None:
    refused, second, third = await answers(framed(Hello(), WAITING, Poll(2)), *HALF_SECONDS, framed(Poll(3)))
    assert (refused.code, refused.id) == (refusal.code, 1)
    assert (second.id, third.id) == (2, 3)


@BOTH
async def test_the_silence_of_its_peer_counts_from_that_answer_on(
    refusal: RequestError, autojump_clock: MockClock
) -> None:
    silent_s = IDLE_LEASES * CONFIG.ttl_ms / 1000
    silence = HALF_SECONDS + [b""] * int(2 * silent_s - 1)
    refused, third = await answers(framed(Hello(), WAITING), *silence, framed(Poll(3)))
    assert (refused.code, refused.id, third.id) == (refusal.code, 1, 3)
