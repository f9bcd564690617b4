"""A poll on the WebSocket that asks for a revision waits for it, as one over HTTP does (P-HTTP-6)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from bench.trials.fuzz.node_targets import CONFIG, SocketTarget, handshake, replied
from bench.trials.fuzz.streams import frame
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Error, Hello, Poll, Polled

PUT = b"PUT /v1/topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\n7"


async def answers(target: SocketTarget, codec: Codec, *polls: Poll) -> list[Any]:
    said = b"".join(frame(1 if codec.text else 2, codec.encode(each), masked=True) for each in (Hello(), *polls))
    received = replied(await target.talk(handshake(codec), said), codec)
    # The lease may end meanwhile, which a poll does not rest on.
    return [message for message in received if isinstance(message, Polled | Error)]


@pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
async def test_a_poll_on_the_websocket_waits_for_its_revision(
    codec: Codec, autojump_clock: trio.testing.MockClock
) -> None:
    target = SocketTarget()

    async def publish_later() -> None:
        await trio.sleep(2)
        assert (await target.talk(PUT)).startswith(b"HTTP/1.1 200 ")

    async with target.running(), trio.open_nursery() as nursery:
        revision = (await target.store.head()).revision + 1
        nursery.start_soon(publish_later)
        polled, behind_it = await answers(target, codec, Poll(1, topics={"a": 0}, min_revision=revision), Poll(2))
        assert isinstance(polled, Polled)
        assert [(change.topic, change.version, change.value) for change in polled.changes] == [("a", revision, 7)]
        assert (polled.position.revision, behind_it.id) == (revision, 2)


async def test_a_poll_on_the_websocket_is_behind_when_the_time_is_over(autojump_clock: trio.testing.MockClock) -> None:
    target = SocketTarget()
    async with target.running():
        began = trio.current_time()
        error, polled = await answers(target, JSON, Poll(1, topics={"a": 0}, min_revision=99), Poll(2))
        assert isinstance(error, Error)
        assert (error.code, error.id) == ("behind", 1)
        assert isinstance(polled, Polled)
        assert CONFIG.timeout_ms / 1000 <= trio.current_time() - began < CONFIG.timeout_ms / 1000 + 2


async def test_a_revision_that_is_there_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    target = SocketTarget()
    async with target.running():
        revision = (await target.store.head()).revision
        began = trio.current_time()
        [polled] = await answers(target, CBOR, Poll(1, topics={"a": 0}, min_revision=revision))
        assert isinstance(polled, Polled)
        assert trio.current_time() - began < 2, "the time that the peer takes to speak and leave"
