"""Advice of a node: how many clients it counts, and at which rates it believes to serve them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from softstate.client.api.connect import connect
from softstate.client.shell.clock import TrioClock
from softstate.errors import Rewound, Unavailable
from softstate.model import Page, Query
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.server.http import begun_poll
from softstate.server.storage.reads import StoreReads
from softstate.session.load_advice import LOAD, POLL_MS, PRIOR_S, SPREAD_MS_MIN
from softstate.store.base import Write
from softstate.store.memory.store import MemoryStore
from softstate.testing.network.network import SimNetwork
from softstate.wire import CBOR
from tests.kit.silent_sink import SilentSink

HOST, PORT = "localhost", 8700
RECOVER = ServerConfig().recover_cap_ms / 1000


class SlowStore(MemoryStore):
    """A memory store whose reads take `read_s`."""

    read_s = 0.0
    fails = False

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        await trio.sleep(self.read_s)
        if self.fails:
            raise Unavailable("it fails")
        return await super().read(group)


class Rig:
    """A node on a network in memory."""

    def __init__(self, node: Node, store: SlowStore, network: SimNetwork) -> None:
        self.node = node
        self.store = store
        self.network = network

    async def come_live(self, name: str, *, think_s: float = 0.0) -> None:
        """Let a client come live, stay a while, and leave."""
        opener, clock = self.network.opener(name), TrioClock()
        async with connect(f"ws://{HOST}:{PORT}", open_stream=opener, random=Random(name), clock=clock) as client:
            await trio.sleep(think_s)
            async with client.subscribe("a"):
                async for mode in client.modes():
                    if mode == "live":
                        break

    async def ask(self, *requests: str, body: str = "{}") -> list[dict[str, Any]]:
        """Send requests on one connection, one after the other, and return the answers."""
        stream = await self.network.opener("curl")(HOST, PORT, False)
        answers = []
        for request in requests:
            head = f"{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            await stream.send_all(head.encode())
            received = b""
            while not received.endswith(b"}"):
                received += await stream.receive_some(65536)
            answers.append(json.loads(received.partition(b"\r\n\r\n")[2]))
        await stream.aclose()
        return answers


@asynccontextmanager
async def running(*, strict: bool = True, **options: Any) -> AsyncIterator[Rig]:
    store = SlowStore()
    await store.publish([Write("a", b"\x01")])
    bulkhead = Bulkhead(strict=strict)
    node = Node(ServerConfig(**options), store, await store.head(), jitter=Random(1), bulkhead=bulkhead)
    async with trio.open_nursery() as nursery:
        network = SimNetwork(Random(1))
        nursery.start_soon(network.run)
        nursery.start_soon(node.run, [network.listen(HOST, PORT)])
        await trio.testing.wait_all_tasks_blocked()
        yield Rig(node, store, network)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def node() -> Node:
    store = MemoryStore()
    return Node(ServerConfig(), store, await store.head())


# How many ------------------------------------------------------------------------------------------------------------


async def test_dead_leases_raise_no_spread_once_their_clients_would_be_back(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    for number in range(941):
        lease = node.leases.grant(str(number), node.now(), 60.0)
        node.leases.attach(lease, SilentSink())
        if number:
            node.leases.detach(lease)
    assert node.terms().poll.spread_ms == 2823
    assert node.terms().recover.spread_ms == 3147  # one in nine would poll before a late connect
    await trio.sleep(RECOVER)
    assert node.terms().recover.spread_ms == SPREAD_MS_MIN
    assert node.terms().poll.spread_ms == SPREAD_MS_MIN
    counts = node.counts()
    assert (counts["sessions"], counts["attached"], counts["detached"]) == (941, 1, 940)


async def test_a_poll_over_http_is_told_the_advice_of_all_others(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as rig:
        for number in range(20_000):
            rig.node.leases.attach(rig.node.leases.grant(str(number), rig.node.now(), 60.0), SilentSink())
        assert rig.node.terms().poll.every_ms == 60_000
        (polled,) = await rig.ask("POST /v1/poll", body='{"topics": {"a": 0}}')
        assert polled["next_ms"] == pytest.approx(60_000, rel=0.01)


async def test_a_node_without_sessions_advises_by_the_polls_that_it_sees(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(handshakes_per_s=10.0, role="poll") as rig:
        rig.store.read_s = 0.1  # ten a second, one after the other
        told = []
        for _ in range(150):
            told += await rig.ask("POST /v1/poll", body='{"topics": {"a": 0}}')
        assert told[0]["next_ms"] == POLL_MS
        # A client each: they share two thirds of ten polls a second.
        assert told[-1]["next_ms"] == pytest.approx(150 * 1000 / (10 * LOAD), rel=0.1)
        assert (await rig.node.status())["polling"] == 150
        await trio.sleep(2 * told[-1]["next_ms"] / 1000)
        assert rig.node.terms().poll.every_ms == POLL_MS


async def test_one_connection_that_polls_all_the_time_counts_once_and_a_listing_not_at_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(handshakes_per_s=10.0) as rig:
        rig.store.read_s = 0.1
        told = await rig.ask(*["POST /v1/poll"] * 300, body='{"topics": {"a": 0}}')
        assert {answer["next_ms"] for answer in told} == {POLL_MS}
        await rig.ask(*["GET /v1/topics"] * 50)
        assert (await rig.node.status())["polling"] == 1


# How fast ------------------------------------------------------------------------------------------------------------


async def test_handshakes_are_measured_up_to_the_first_answered_subscribe(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(handshakes_per_s=811.0) as rig:
        rig.store.read_s = 0.04
        for number in range(150):
            await rig.come_live(str(number), think_s=3.0)
        # Two reads for each: 12.5 a second at most. What the clients do in between does not count.
        assert rig.node.handshakes.per_s == pytest.approx(
            12.5 + 800 * (PRIOR_S / 5) * 2.718 ** (-(150 * 0.08 - 5 + PRIOR_S) / 5), rel=0.2
        )
        assert rig.node.handshakes.in_progress == 0


async def test_clients_that_never_subscribe_and_errors_leave_the_rate_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(handshakes_per_s=100.0) as rig:
        rig.store.read_s = 0.5
        for number in range(20):
            opener = rig.network.opener(str(number))
            async with connect(f"ws://{HOST}:{PORT}", open_stream=opener, clock=TrioClock()) as client:
                await client.publish("a", number)
        rig.store.fails = True
        await rig.ask(*["POST /v1/poll"] * 20, body='{"topics": {"a": 0}}')
        for rate in (rig.node.handshakes, rig.node.polls):
            assert rate.in_progress == 0
            assert rate.per_s == pytest.approx(100.0, rel=0.01)


async def test_polls_have_a_rate_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    async with running(handshakes_per_s=500.0) as rig:
        rig.store.read_s = 0.02
        await rig.ask(*["POST /v1/poll"] * 1500, body='{"topics": {"a": 0}}')
        assert rig.node.polls.per_s == pytest.approx(50.0, rel=0.1)
        assert rig.node.handshakes.per_s == 500.0


PAGED = '{"prefixes": {"p/": 0}}'


async def fill(rig: Rig) -> None:
    """Publish what a poll of one page does not hold."""
    for number in range(6):
        await rig.store.publish([Write(f"p/{number}", CBOR.dumps("x" * 60_000))])


async def test_pages_of_polls_that_go_on_leave_the_rate_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with running(handshakes_per_s=100.0) as rig:
        await fill(rig)
        rig.store.read_s = 0.05
        answers = await rig.ask(*["POST /v1/poll"] * 60, body=PAGED)
        assert all(answer["more"] for answer in answers)
        assert rig.node.polls.in_progress == 0
        assert rig.node.polls.per_s == pytest.approx(100.0, rel=0.01)
        # The last page counts as the poll.
        last = await rig.ask("POST /v1/poll", body=json.dumps({**json.loads(PAGED), "cursor": answers[0]["cursor"]}))
        assert "next_ms" in last[0]
        assert rig.node.polls.in_progress == 0


@pytest.mark.parametrize(
    "body",
    [
        '{"topics": {"a": 0}}', '{"topics": {"a/": 0}}', '{"prefixes": {"p": 0}}',
        '{"topics": {"a": 0}, "cursor": "x"}',
        '{"position": {"epoch": "e", "lineage": "l", "revision": 1}, "topics": {"a": 0}}', '{"min_revision": 99}',
        json.dumps({"topics": {f"t/{number}": 0 for number in range(300)}}),
    ],
)  # fmt: skip
async def test_no_poll_stays_in_progress_however_it_is_answered(
    body: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with running() as rig:
        await rig.ask("POST /v1/poll", body=body)
        assert rig.node.polls.in_progress == 0


@pytest.mark.parametrize(("request_", "body"), [("POST /v1/poll", PAGED), ("GET /v1/topics", "")])
async def test_no_poll_stays_in_progress_whose_client_hangs_up(
    request_: str, body: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with running() as rig:
        await fill(rig)
        rig.store.read_s = 1.0
        stream = await rig.network.opener("curl")(HOST, PORT, False)
        head = f"{request_} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body.encode())
        await trio.sleep(0.5)
        assert rig.node.polls.in_progress == 1
        await stream.aclose()
        await trio.sleep(10)
        assert rig.node.polls.in_progress == 0


@pytest.mark.parametrize("where", ["submit", "answer", "encode"])
async def test_no_poll_stays_in_progress_that_meets_a_bug(
    where: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {
        "submit": (StoreReads, "submit"),
        "answer": (begun_poll, "encode_by_turns"),
        "encode": (begun_poll, "reply_page"),
    }
    monkeypatch.setattr(*broken[where], lambda *_: 1 / 0)
    async with running(strict=False) as rig:
        await fill(rig)
        with structlog.testing.capture_logs():
            await rig.ask("POST /v1/poll", body=PAGED)
        assert (rig.node.bulkhead.bugs, rig.node.polls.in_progress) == (1, 0)
