"""A host that can do only so much: what waits, what is served in which order, and for whom in the end."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from softstate.testing.network.capacity import Capacity, Processor
from softstate.testing.network.network import SimNetwork
from softstate.testing.network.route import uniform
from softstate.testing.network.stream import SimListener, SimStream

UPGRADE = b"GET /v1/ws HTTP/1.1\r\nHost: n\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
FRAME = b"\x82\x83\0\0\0\0abc"
POLL = b"POST /v1/poll HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\n\r\n"
CAPACITY = Capacity(backlog=3, accept_s=0.1, upgrade_s=1.0, request_s=0.5, message_s=0.2)


def limited(capacity: Capacity = CAPACITY) -> tuple[SimNetwork, SimListener, Processor]:
    """Return a network without delays, whose host n can do only so much."""
    net = SimNetwork(Random(1))
    processor = net.limit("n", capacity)
    for one, other in (("c", "n"), ("n", "c")):
        net.set_delay(one, other, uniform(0.0, 0.0))
    return net, net.listen("n", 1), processor


async def accepted(listener: SimListener) -> tuple[SimStream, float]:
    """Accept a connection; return it with the time that has passed."""
    began = trio.current_time()
    stream = await listener.accept()
    return stream, round(trio.current_time() - began, 6)


async def reads_after(stream: SimStream) -> tuple[bytes, float]:
    """Read once; return the bytes with the time that has passed."""
    began = trio.current_time()
    data = await stream.receive_some()
    return data, round(trio.current_time() - began, 6)


async def test_each_kind_of_work_has_its_price(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    net, listener, processor = limited()
    nursery.start_soon(net.run)
    socket = await net.open_stream("c", "n", 1)
    node, waited_s = await accepted(listener)
    assert waited_s == pytest.approx(0.1)
    for data, cost_s in ((UPGRADE, 1.0), (FRAME, 0.2), (FRAME, 0.2)):
        await socket.send_all(data)
        assert await reads_after(node) == (data, cost_s)
    http = await net.open_stream("c", "n", 1)
    node, _ = await accepted(listener)
    for _ in range(2):
        await http.send_all(POLL)
        assert await reads_after(node) == (POLL, 0.5)
    assert processor.busy_s == pytest.approx(0.2 + 1.4 + 1.0)
    assert processor.wasted_s == 0.0
    assert CAPACITY.connect_s == pytest.approx(1.5)
    assert CAPACITY.poll_s == pytest.approx(0.6)
    nursery.cancel_scope.cancel()


async def test_work_is_served_in_the_order_in_which_it_was_asked(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, listener, _ = limited()
    nursery.start_soon(net.run)
    ends: list[tuple[str, float]] = []

    async def read(name: str, node: SimStream) -> None:
        await node.receive_some()
        ends.append((name, round(trio.current_time() - began, 6)))

    nodes = []
    for _ in range(3):
        client = await net.open_stream("c", "n", 1)
        await client.send_all(POLL)
        nodes.append((await accepted(listener))[0])
    began = trio.current_time()
    async with trio.open_nursery() as readers:
        for name, node in zip("abc", nodes, strict=True):
            readers.start_soon(read, name, node)
            await trio.testing.wait_all_tasks_blocked()
    assert ends == [("a", 0.5), ("b", 1.0), ("c", 1.5)]
    nursery.cancel_scope.cancel()


async def test_who_has_given_up_is_served_all_the_same(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    net, listener, processor = limited()
    nursery.start_soon(net.run)
    for closes in (True, False):
        client = await net.open_stream("c", "n", 1)
        await client.send_all(UPGRADE)
        if closes:
            client.close()
    node, _ = await accepted(listener)
    assert (await reads_after(node))[0] == UPGRADE
    assert processor.wasted_s == pytest.approx(1.1)
    node, _ = await accepted(listener)
    assert (await reads_after(node))[0] == UPGRADE
    assert processor.wasted_s == pytest.approx(1.1)
    assert processor.busy_s == pytest.approx(2.2)
    assert processor.accept_queue_max == 2
    nursery.cancel_scope.cancel()


async def test_a_read_that_is_cancelled_loses_no_bytes_and_costs_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, listener, processor = limited()
    nursery.start_soon(net.run)
    client = await net.open_stream("c", "n", 1)
    await client.send_all(POLL)
    node, _ = await accepted(listener)
    with trio.move_on_after(0.2):
        await node.receive_some()
    assert await reads_after(node) == (POLL, 0.8)
    assert processor.busy_s == pytest.approx(1.1)
    nursery.cancel_scope.cancel()


async def test_beyond_the_backlog_a_connection_is_asked_for_again_as_tcp_does(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, listener, _ = limited()
    nursery.start_soon(net.run)
    for _ in range(CAPACITY.backlog):
        await net.open_stream("c", "n", 1)
    took_s: list[float] = []

    async def open_one() -> None:
        began = trio.current_time()
        await net.open_stream("c", "n", 1)
        took_s.append(trio.current_time() - began)

    nursery.start_soon(open_one)
    await trio.sleep(1.5)
    assert took_s == []
    await listener.accept()
    await trio.sleep(2.0)
    assert took_s == [pytest.approx(3.0)]
    listener.close()
    with pytest.raises(OSError, match="nothing listens"):
        await net.open_stream("c", "n", 1)
    nursery.cancel_scope.cancel()


async def test_a_process_that_starts_again_has_no_work(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    net, listener, processor = limited()
    nursery.start_soon(net.run)
    nursery.start_soon(processor.serve, "other", 100.0)
    await trio.testing.wait_all_tasks_blocked()
    net.end_process("n", silently=False)
    listener = net.listen("n", 1)
    await net.open_stream("c", "n", 1)
    assert (await accepted(listener))[1] == pytest.approx(0.1)
    nursery.cancel_scope.cancel()


async def test_a_program_is_told_for_how_long_it_works(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Three reads of a WebSocket are its client's way back; what a program began is told to it alone."""
    net, listener, processor = limited()
    nursery.start_soon(net.run)
    told: list[tuple[str, bool, float]] = []
    began = trio.current_time()
    processor.told = lambda work, begins: told.append((work, begins, round(trio.current_time() - began, 6)))
    socket = await net.open_stream("c", "n", 1)
    node, _ = await accepted(listener)
    for data in (UPGRADE, FRAME, FRAME, FRAME):
        await socket.send_all(data)
        await node.receive_some()
    http = await net.open_stream("c", "n", 1)
    node, _ = await accepted(listener)
    await http.send_all(POLL)
    nursery.start_soon(node.receive_some)
    await trio.sleep(0.1)
    processor.restart()
    await trio.sleep(1.0)
    works = ["connect", "connect", "connect", "connect", "other", "connect", "poll"]
    assert [(work, begins) for work, begins, _ in told] == [
        (work, begins) for work in works for begins in (True, False)
    ]
    times = [at for _, _, at in told]
    each_s = [round(end - begin, 6) for begin, end in zip(times[::2], times[1::2], strict=True)]
    assert each_s == [0.1, 1.0, 0.2, 0.2, 0.2, 0.1, 0.5]
    nursery.cancel_scope.cancel()
