import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.frame_protocol import FrameProtocol, Opcode

from softstate.wire.websocket import close_frame, frame, is_close, pong_frame

SIZES = pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 100_000])


@SIZES
@pytest.mark.parametrize("text", [True, False], ids=["text", "binary"])
def test_wsproto_reads_one_whole_message(size: int, text: bool) -> None:
    data = frame(b"x" * size, text=text)
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    [event] = list(client.events())
    assert isinstance(event, TextMessage if text else BytesMessage)
    assert event.message_finished
    assert event.data == ("x" * size if text else b"x" * size)


@SIZES
@pytest.mark.parametrize("text", [True, False], ids=["text", "binary"])
def test_a_frame_is_what_wsproto_would_send(size: int, text: bool) -> None:
    server = Connection(ConnectionType.SERVER)
    sent = server.send(TextMessage("x" * size)) if text else server.send(BytesMessage(b"x" * size))
    assert sent == frame(b"x" * size, text=text)
    assert not is_close(frame(b"x" * size, text=text))


def test_the_shortest_length_is_used() -> None:
    heads = {size: frame(bytes(size), text=False)[: -size or None] for size in (0, 125, 126, 65_535, 65_536)}
    assert heads == {
        0: b"\x82\x00",
        125: b"\x82\x7d",
        126: b"\x82\x7e\x00\x7e",
        65_535: b"\x82\x7e\xff\xff",
        65_536: b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
    }
    assert frame(b"hello", text=True) == b"\x81\x05hello"


def test_frames_one_after_another_are_as_many_messages() -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame(b"1", text=True) + frame(b"2" * 200, text=False) + frame(b"", text=True))
    assert [(type(event), event.data) for event in client.events() if isinstance(event, Message)] == [
        (TextMessage, "1"),
        (BytesMessage, b"2" * 200),
        (TextMessage, ""),
    ]


@pytest.mark.parametrize("code", [1000, 4000, 4299])
@pytest.mark.parametrize("reason", [None, "", "draining"])
def test_a_close_frame_is_recognised(code: int, reason: str | None) -> None:
    server = Connection(ConnectionType.SERVER)
    data = server.send(CloseConnection(code, reason))
    for form in (data, bytearray(data), memoryview(data), data[:1], data + b"more"):
        assert is_close(form)


def test_nothing_else_is_a_close_frame() -> None:
    server = Connection(ConnectionType.SERVER)
    for event in (Ping(b"\x88"), Pong(b"\x88"), TextMessage("\x08"), BytesMessage(b"\x88\x00")):
        assert not is_close(server.send(event))
    assert not is_close(b"")
    for opcode in Opcode:
        assert is_close(bytes((0x80 | opcode, 0))) == (opcode is Opcode.CLOSE)
        assert not is_close(bytes((opcode, 0)))  # a control frame is never a fragment


def test_a_frame_is_finished_and_neither_masked_nor_compressed() -> None:
    reader = FrameProtocol(client=True, extensions=[])  # refuses masked frames, and reserved bits without an extension
    reader.receive_bytes(frame(b"x", text=False))
    [read] = list(reader.received_frames())
    assert (read.opcode, read.frame_finished, read.message_finished) == (Opcode.BINARY, True, True)


@pytest.mark.parametrize("payload", [b"", b"x", b"\xff" * 125])
def test_a_pong_is_what_wsproto_would_send(payload: bytes) -> None:
    assert pong_frame(payload) == Connection(ConnectionType.SERVER).send(Pong(payload))


@pytest.mark.parametrize("code", [1000, 1002, 1011, 4000, 4299])
@pytest.mark.parametrize("reason", ["", "draining", "x" * 123, "x" * 124, "x" * 122 + "é", "☃" * 41 + "☃", "𝄞" * 31])
def test_a_close_frame_is_what_wsproto_would_send(code: int, reason: str) -> None:
    data = close_frame(code, reason)
    assert data == Connection(ConnectionType.SERVER).send(CloseConnection(code, reason))
    assert is_close(data)


def test_a_close_frame_without_a_code_is_empty() -> None:
    assert close_frame(1005) == b"\x88\x00"
