"""A node that is full: it accepts no more until some that wait are answered or gone."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
import trio

from bench.trials.fuzz.node_targets import handshake
from softstate.server.edge.admission import CAPACITIES, Admission, Kind
from softstate.wire import JSON
from tests.kit.fake_node import parse
from tests.kit.node_rig import LocalNode, node, until
from tests.kit.pumps import settled

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = handshake(JSON)
LIMIT = 3


OPENED: list[trio.SocketStream] = []


@pytest.fixture(autouse=True)
async def _close_all() -> AsyncIterator[None]:
    yield
    while OPENED:
        OPENED.pop().socket.close()


async def connect(running: LocalNode) -> trio.SocketStream:
    OPENED.append(await trio.open_tcp_stream("127.0.0.1", running.port))
    return OPENED[-1]


async def silent(running: LocalNode, count: int) -> list[trio.SocketStream]:
    """Open connections that say nothing, until the node has accepted them."""
    streams = [await connect(running) for _ in range(count)]
    await until(lambda: running.node.http.greeting == count)
    return streams


async def answered(stream: trio.SocketStream) -> int:
    await stream.send_all(GET)
    return parse(bytes(await stream.receive_some()))[0].status


async def test_below_the_limit_of_greetings_all_are_accepted() -> None:
    async with node(greeting_max=LIMIT) as running:
        await silent(running, LIMIT - 1)
        assert running.node.counts()["accepting"] == 1
        assert await answered(await connect(running)) == 200


async def test_at_the_limit_of_greetings_none_is_accepted_until_one_is_answered() -> None:
    async with node(greeting_max=LIMIT) as running:
        first, second, _ = await silent(running, LIMIT)
        await until(lambda: running.node.counts()["accepting"] == 0)
        waiting = await connect(running)
        await waiting.send_all(GET)
        await settled(running.node.pump)
        assert running.node.http.greeting == LIMIT
        assert await answered(first) == 200
        assert parse(bytes(await waiting.receive_some()))[0].status == 200
        # One that leaves is as good as one that is answered.
        await silent_again(running)
        await second.aclose()
        assert await answered(await connect(running)) == 200


async def silent_again(running: LocalNode) -> None:
    while running.node.http.greeting < LIMIT:
        before = running.node.http.greeting
        await connect(running)
        await until(lambda before=before: running.node.http.greeting > before)  # type: ignore[misc]


async def test_after_one_whose_time_is_over_another_is_accepted() -> None:
    async with node(greeting_max=1, head_s_max=0.1) as running:
        await silent(running, 1)
        assert await answered(await connect(running)) == 200


async def test_a_node_with_four_times_the_work_that_it_can_do_accepts_no_more() -> None:
    async with node(handshakes_per_s=10.0) as running:
        admission = running.node.admission
        queue = admission._queues[Kind.UPGRADE].waiting
        count = int(CAPACITIES * 10.0 * running.node.config.timeout_ms / 1000)
        assert not running.node._is_full()
        for number in range(count):
            queue[number] = trio.current_time()  # type: ignore[index]
        assert running.node._is_full()
        queue.clear()
        assert await answered(await connect(running)) == 200


async def test_those_that_come_together_wait_for_their_part_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by a profile: each was served when it was read, before others had been accepted."""
    found: list[tuple[int, int]] = []
    serve = Admission.serve

    def noted(admission: Admission, now: float) -> None:
        before = admission.waiting
        serve(admission, now)
        if before:
            found.append((before, admission.waiting))

    monkeypatch.setattr(Admission, "serve", noted)
    monkeypatch.setattr("softstate.server.edge.admission.SERVE_S_MAX", 0.0)
    monkeypatch.setattr("softstate.server.edge.acceptor.ACCEPT_S_MAX", 60.0)
    async with node() as running:
        with ExitStack() as opened:
            # Without a checkpoint in between, so that the node finds them all at once.
            peers = [opened.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(20)]
            for peer in peers:
                peer.sendall(UPGRADE)
            await until(lambda: len(running.node.sockets) == 20)
            assert found == [(waiting, waiting - 1) for waiting in range(20, 0, -1)]


async def test_what_waits_and_what_was_refused_is_counted() -> None:
    async with node() as running:
        counts = running.node.counts()
        names = ("handshakes_waiting", "handshakes_shed", "polls_waiting", "polls_shed", "greeting")
        assert [counts[name] for name in names] == [0] * 5
        assert b"softstate_handshakes_shed_total 0.0" in running.node.metrics()
