"""Polls keep their connection: across pages, failures of other requests, and many requests to other nodes at once."""

from __future__ import annotations

import pytest
import trio

from softstate.client.machine.events import Connect, ConnectFailed, PollAnswered, RequestFailed, SendPoll
from softstate.client.requests.reply import HttpFailed
from softstate.client.shell.http import IDLE_CONNECTIONS_MAX, HttpClient
from softstate.client.url import parse_url
from softstate.wire import CBOR
from softstate.wire.messages import Poll, Polled
from tests.kit.scripted_node import HERE, Answer, HttpRequest, ScriptedNode
from tests.kit.shell_rig import URL, running

POLLED = Polled(0, HERE, next_ms=100)


async def _serve(asked: HttpRequest) -> Answer:
    if asked.target == "/v1/broken":
        return Answer(0)
    return Answer.of(POLLED)


async def test_polls_keep_their_connection(nursery: trio.Nursery) -> None:
    async with running(ScriptedNode(nursery, http=_serve)) as rig:
        for request in range(1, 6):
            rig.do(SendPoll(request, URL, Poll(topics={"a": 1}), 5))
            while sum(isinstance(event, PollAnswered) for event in rig.machine.events) < request:
                await trio.lowlevel.checkpoint()
        assert len(rig.node.asked) == 5
        assert len(rig.node.opened) == 1


async def _poll(client: HttpClient, url: str = URL) -> None:
    body = CBOR.dumps(Poll(topics={"a": 1}))
    await client.request(parse_url(url), "POST", "/v1/poll", body=body, timeout_s=5)


async def test_failures_of_other_requests_cost_polls_nothing(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, http=_serve)
    client = HttpClient(node.open_stream, CBOR)
    await _poll(client)
    for _ in range(3):
        with pytest.raises(HttpFailed, match="broke"):
            await client.request(parse_url(URL), "GET", "/v1/broken", timeout_s=5)
    assert len(node.opened) == 4
    for _ in range(3):
        await _poll(client)
    assert len(node.opened) == 4


async def test_many_requests_to_one_node_leave_another_its_connection(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, http=_serve)
    client = HttpClient(node.open_stream, CBOR)
    await _poll(client, "ws://polled:8700")
    async with trio.open_nursery() as others:
        for _ in range(3 * IDLE_CONNECTIONS_MAX):
            others.start_soon(_poll, client, "ws://busy:8700")
    opened = [host for host, _, _ in node.opened]
    await _poll(client, "ws://polled:8700")
    assert [host for host, _, _ in node.opened] == opened
    assert opened.count("polled") == 1


async def test_a_refused_dial_is_told_as_such_on_both_paths(nursery: trio.Nursery) -> None:
    class Absent(ScriptedNode):
        async def open_stream(self, host: str, port: int, tls: bool) -> trio.abc.Stream:
            raise ConnectionRefusedError("no process listens")

    async with running(Absent(nursery, http=_serve)) as rig:
        rig.do(Connect(1, URL, 5.0), SendPoll(2, URL, Poll(topics={"a": 1}), 5))
        assert (await rig.machine.saw(ConnectFailed)).unsent
        assert (await rig.machine.saw(RequestFailed)).unsent


async def test_a_handshake_that_is_broken_off_is_no_refused_dial(nursery: trio.Nursery) -> None:
    async def broken(_: HttpRequest) -> Answer:
        return Answer(0)

    async with running(ScriptedNode(nursery, http=broken)) as rig:
        rig.do(SendPoll(2, URL, Poll(topics={"a": 1}), 5))
        assert not (await rig.machine.saw(RequestFailed)).unsent
        rig.do(Connect(1, URL, 5.0))
        assert not (await rig.machine.saw(ConnectFailed)).unsent
