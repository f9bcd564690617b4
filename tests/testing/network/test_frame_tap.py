"""The tap, tested with frames made by wsproto, in pieces of any size."""

from typing import Any

import cbor2
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from softstate.testing.network.frame_tap import Frame, FrameTap

REQUEST = b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def fed(tap: FrameTap, data: bytes, size: int) -> list[Frame]:
    return [frame for at in range(0, len(data), size) for frame in tap.feed(data[at : at + size])]


@pytest.mark.parametrize("size", [1, 3, 1_000_000])
@pytest.mark.parametrize("from_client", [True, False])
def test_frames_are_found_whole_and_read(size: int, from_client: bool) -> None:
    side = Connection(ConnectionType.CLIENT if from_client else ConnectionType.SERVER)
    messages: list[dict[str, Any]] = [{"op": "a", "x": b"y" * length} for length in (0, 125, 126, 300, 70_000)]
    sent = [side.send(BytesMessage(cbor2.dumps(message))) for message in messages]
    sent += [side.send(TextMessage('{"op": "b"}')), side.send(Ping(b"?")), side.send(CloseConnection(1000))]
    head = REQUEST if from_client else ACCEPTED
    tap = FrameTap(from_client=from_client)
    first, *frames = fed(tap, head + b"".join(sent), size if size > 1 else 997)
    assert (first.data, first.opcode, first.op) == (head, None, "")
    assert tap.kind == "websocket"
    assert [frame.data for frame in frames] == sent
    assert [frame.message for frame in frames[:5]] == messages
    assert [frame.op for frame in frames[4:]] == ["a", "b", "ping", "close"]


@pytest.mark.parametrize("from_client", [True, False])
def test_plain_http_passes_as_it_comes(from_client: bool) -> None:
    tap = FrameTap(from_client=from_client)
    head = b"POST /v1/poll HTTP/1.1\r\n\r\n" if from_client else b"HTTP/1.1 200 OK\r\n\r\n"
    assert tap.feed(head[:5]) == []
    assert tap.flush() == head[:5]
    assert [frame.data for frame in tap.feed(head + b"\x82\x01x")] == [head, b"\x82\x01x"]
    assert tap.kind == "http"
    assert [frame.data for frame in tap.feed(b"\x82")] == [b"\x82"]
    assert tap.flush() == b""


def test_a_fragment_passes_unread() -> None:
    tap = FrameTap(from_client=False)
    _, fragment = tap.feed(ACCEPTED + b"\x02\x01x")
    assert (fragment.op, fragment.message) == ("?", None)
