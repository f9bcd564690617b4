"""Polls on a WebSocket that wait: for a revision, and for their peer to take a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import CONFIG, SocketTarget, handshake, replied
from bench.trials.fuzz.streams import frame
from softstate.errors import Overloaded, RequestError, Rewound, Unavailable
from softstate.model import PAGE_RECORDS_MAX, Page, Query
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.server.storage.reads import StoreReads
from softstate.server.websocket.connection import Connection
from softstate.server.websocket.silence import IDLE_LEASES
from softstate.session import MeasuredRequest
from softstate.store.base import Write
from softstate.store.memory.store import MemoryStore
from softstate.wire import JSON
from softstate.wire.messages import ClientMessage, Error, Hello, Poll, Polled, ServerBye, Welcome
from tests.kit.fake_wire import FakeWire


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


class SlowStore(MemoryStore):
    """A memory store whose reads take `read_s`."""

    read_s = 0.0

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        await trio.sleep(self.read_s)
        return await super().read(group)


async def test_the_node_works_on_a_poll_while_it_reads_and_not_while_the_peer_takes_a_page(
    autojump_clock: MockClock,
) -> None:
    store, wire = SlowStore(), FakeWire()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(PAGE_RECORDS_MAX + 1)])
    node = Node(ServerConfig(), store, await store.head(), bulkhead=Bulkhead(strict=True))
    over: list[Connection] = []
    connection = Connection(node._parts, JSON, wire, MeasuredRequest(node.handshakes), over.append)
    wire.attach(connection)
    async with trio.open_nursery() as nursery:
        await node.start(nursery)
        connection.begin(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        wire.arrive(framed(Hello()))
        await trio.sleep(1)
        wire.free_bytes = 0
        wire.arrive(framed(Poll(1, prefixes={"t/": 0})))
        in_progress = [node.polls.in_progress]
        await trio.sleep(1)
        in_progress.append(node.polls.in_progress)
        store.read_s = 1.0
        wire.allow()
        in_progress.append(node.polls.in_progress)
        await trio.sleep(2)
        in_progress.append(node.polls.in_progress)
        assert in_progress == [1, 0, 1, 0]
        pages = [answer.more for answer in replied(bytes(wire.taken), JSON) if isinstance(answer, Polled)]
        assert pages == [True, False]
        connection.end()
        assert over == [connection]
        nursery.cancel_scope.cancel()
