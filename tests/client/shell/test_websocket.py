import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from trio_websocket import WebSocketConnection
from wsproto.utilities import generate_accept_token

from softstate.client.requests.reply import RETRY_AFTER_S_MAX, retry_after_ms
from softstate.client.shell import asyncio_websockets, trio_websockets, websocket as websocket_module
from softstate.client.shell.asyncio_websockets import TAKEN_MAX
from softstate.client.shell.sockets import CLOSE_TIMEOUT_S, Gone, HandshakeFailed, WebSocket
from softstate.client.shell.websocket import open_websocket
from softstate.client.url import parse_url
from softstate.wire import CBOR, JSON, Codec
from tests.kit.scripted_node import Answer, ScriptedNode

URL = parse_url("ws://node/prefix")


@pytest.fixture(params=["trio", "asyncio"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use trio-websocket, or the library for asyncio, whose module runs under Trio as well."""
    monkeypatch.setattr(websocket_module, "running_loop", lambda: request.param)
    return str(request.param)


async def echo(ws: WebSocketConnection) -> None:
    while True:
        await ws.send_message(await ws.get_message())


async def connect(nursery: trio.Nursery, node: ScriptedNode, codec: Codec = CBOR) -> WebSocket:
    return await open_websocket(nursery, URL, codec, node.open_stream, 5)


@pytest.mark.parametrize(("codec", "message"), [(CBOR, b"\x00\xff"), (JSON, "ü")])
async def test_messages_go_both_ways(nursery: trio.Nursery, codec: Codec, message: bytes | str) -> None:
    node = ScriptedNode(nursery, websocket=echo)
    socket = await connect(nursery, node, codec)
    await socket.send(message)
    assert await socket.receive() == message
    await socket.aclose()
    assert node.opened == [("node", 8700, False)]
    assert node.all_closed()


async def test_no_log_has_headers_or_messages(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    node = ScriptedNode(nursery, websocket=echo)
    headers = [("Authorization", "Bearer secret-of-the-handshake")]
    socket = await open_websocket(nursery, URL, JSON, node.open_stream, 5, headers)
    await socket.send('{"op":"hello","token":"secret-of-hello"}')
    assert "secret" in str(await socket.receive())
    await socket.aclose()
    assert "secret" not in caplog.text


async def test_messages_that_come_together_are_taken_together_but_not_all(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    if library != "asyncio":
        pytest.skip("trio-websocket hands out one at a time")
    count = 3 * TAKEN_MAX

    async def many(ws: WebSocketConnection) -> None:
        for number in range(count):
            await ws.send_message(bytes([number]))
        await ws.get_message()

    socket = await connect(nursery, ScriptedNode(nursery, websocket=many))
    await trio.testing.wait_all_tasks_blocked()
    order: list[int | None] = []

    async def other() -> None:
        while len(order) < 1_000:
            order.append(None)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as both:
        both.start_soon(other)
        await trio.lowlevel.checkpoint()
        for _ in range(count):
            message = await socket.receive()
            assert isinstance(message, bytes)
            order.append(message[0])
        both.cancel_scope.cancel()
    runs = [len(run.split()) for run in " ".join("x" if each is None else "m" for each in order).split("x")]
    assert [each for each in order if each is not None] == list(range(count))
    # Trio draws the order of each turn: the other task may be first in one, and last in the next.
    assert TAKEN_MAX <= max(runs) <= 2 * TAKEN_MAX
    assert sum(run > 0 for run in runs) <= 4
    await socket.aclose()


async def test_path_prefix_and_subprotocol_are_asked_for(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery)
    with pytest.raises(HandshakeFailed):
        await connect(nursery, node)
    assert node.asked[0].target == "/prefix/v1/ws"
    assert node.asked[0].headers["sec-websocket-protocol"] == CBOR.protocol
    assert node.asked[0].headers["host"] == "node:8700"


async def test_a_refusal_has_its_status_and_retry_after(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, refusal=Answer(503, b"full", [("Retry-After", "7")]))
    with pytest.raises(HandshakeFailed, match="503") as caught:
        await connect(nursery, node)
    assert (caught.value.status, caught.value.retry_ms) == (503, 7000)
    assert node.all_closed()


@pytest.mark.parametrize(
    ("value", "ms"),
    [(b"0", 0), (b"12", 12_000), (b"9" * 5000, RETRY_AFTER_S_MAX * 1000), (b"Wed, 21 Oct 2015 07:28:00 GMT", None)],
)
def test_retry_after_is_read_within_reason(value: bytes, ms: int | None) -> None:
    assert retry_after_ms([(b"x", b"1"), (b"Retry-After", value)]) == ms
    assert retry_after_ms([]) is None


async def test_unreachable_is_reported_at_once(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, fail=ConnectionRefusedError("refused"))
    with pytest.raises(HandshakeFailed, match="refused"):
        await connect(nursery, node)


@pytest.mark.parametrize(
    "said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"\x00" * 200_000]
)
async def test_a_broken_off_handshake_fails_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock, said: bytes
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        if said:
            await stream.send_all(said)

    node = ScriptedNode(nursery, raw=serve)
    before = trio.current_time()
    with pytest.raises(HandshakeFailed):
        await connect(nursery, node)
    assert trio.current_time() == before
    assert node.all_closed()


async def test_a_silent_node_is_given_up_after_the_timeout(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass

    node = ScriptedNode(nursery, raw=silent)
    before = trio.current_time()
    with pytest.raises(HandshakeFailed, match="within 5 s"):
        await connect(nursery, node)
    assert trio.current_time() - before == pytest.approx(5)
    assert node.all_closed()


async def test_the_timeout_covers_opening_the_stream(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def never(host: str, port: int, tls: bool) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(HandshakeFailed, match="within 5 s"):
        await open_websocket(nursery, URL, CBOR, never, 5)


async def test_a_node_without_the_subprotocol_is_refused(nursery: trio.Nursery) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        head = bytes(await stream.receive_some()).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = generate_accept_token(key.encode()).decode()
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await stream.receive_some()

    node = ScriptedNode(nursery, raw=serve)
    with pytest.raises(HandshakeFailed, match="does not speak"):
        await connect(nursery, node)
    assert node.all_closed()


async def test_a_close_code_is_reported(nursery: trio.Nursery) -> None:
    async def leave(ws: WebSocketConnection) -> None:
        await ws.aclose(4001, "rewound")

    socket = await connect(nursery, ScriptedNode(nursery, websocket=leave))
    with pytest.raises(Gone) as caught:
        await socket.receive()
    assert (caught.value.code, caught.value.reason) == (4001, "rewound")
    with pytest.raises(Gone):
        await socket.send(b"x")
    await socket.aclose()


async def test_a_torn_connection_has_no_code(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, websocket=echo)
    socket = await connect(nursery, node)
    await trio.aclose_forcefully(node.streams[0].inner)
    with pytest.raises(Gone) as caught:
        await socket.receive()
    assert caught.value.code is None
    with pytest.raises(Gone):
        await socket.send(b"x")


async def test_a_frame_that_breaks_the_protocol_ends_the_connection(nursery: trio.Nursery) -> None:
    async def break_it(ws: WebSocketConnection) -> None:
        await ws._stream.send_all(b"\xff\xff\xff\xff\xff\xff\xff\xff")
        await trio.sleep_forever()

    socket = await connect(nursery, ScriptedNode(nursery, websocket=break_it))
    with pytest.raises(Gone):
        await socket.receive()
    await socket.aclose()


@pytest.mark.parametrize(("more", "kept"), [(0, True), (1, False)])
async def test_the_message_limit(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, more: int, kept: bool) -> None:
    for module in (trio_websockets, asyncio_websockets):
        monkeypatch.setattr(module, "MESSAGE_BYTES_MAX", 100_000)

    async def big(ws: WebSocketConnection) -> None:
        await ws.send_message(bytes(100_000 + more))
        await trio.sleep_forever()

    socket = await connect(nursery, ScriptedNode(nursery, websocket=big))
    if kept:
        assert len(await socket.receive()) == 100_000
    else:
        with pytest.raises(Gone) as caught:
            await socket.receive()
        assert caught.value.code == 1009


async def test_closing_never_hangs(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def deaf(ws: WebSocketConnection) -> None:
        await trio.sleep_forever()

    node = ScriptedNode(nursery, websocket=deaf)
    socket = await connect(nursery, node)
    node.streams[0].blocked = True
    before = trio.current_time()
    await socket.aclose()
    assert trio.current_time() - before == pytest.approx(CLOSE_TIMEOUT_S)
    assert node.all_closed()


async def test_after_a_cancelled_send_no_closing_handshake_is_tried(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node = ScriptedNode(nursery, websocket=echo)
    socket = await connect(nursery, node)
    node.streams[0].blocked = True
    with trio.move_on_after(1):
        await socket.send(b"x" * 100)
    node.streams[0].blocked = False
    before = trio.current_time()
    await socket.aclose()
    assert trio.current_time() == before
    assert node.all_closed()


async def test_cancelling_an_open_closes_the_stream(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    node = ScriptedNode(nursery, raw=silent)
    with trio.move_on_after(1) as scope:
        await connect(nursery, node)
    assert scope.cancelled_caught
    assert len(node.streams) == 1
    assert node.all_closed()


async def test_pings_are_answered_while_messages_are_read(nursery: trio.Nursery) -> None:
    ponged = trio.Event()

    async def ping(ws: WebSocketConnection) -> None:
        nursery.start_soon(echo_quietly, ws)
        await ws.ping(b"p")
        ponged.set()
        await trio.sleep_forever()

    async def echo_quietly(ws: WebSocketConnection) -> None:
        await ws.get_message()

    socket = await connect(nursery, ScriptedNode(nursery, websocket=ping))
    await socket.send(b"x")
    with trio.CancelScope() as reading:
        async with trio.open_nursery() as readers:
            readers.start_soon(socket.receive)
            await ponged.wait()
            reading.cancel()


@pytest.mark.parametrize("header", [b"Connection: \xe4", b"Sec-WebSocket-Protocol: \xff", b"Upgrade: \xff"])
async def test_an_answer_that_is_no_ascii_is_a_failed_handshake(
    nursery: trio.Nursery, autojump_clock: MockClock, header: bytes
) -> None:
    """Found by fuzzing: wsproto's UnicodeDecodeError ended the client."""

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n" + header + b"\r\n\r\n")

    node = ScriptedNode(nursery, raw=serve)
    with pytest.raises(HandshakeFailed):
        await connect(nursery, node)
    assert node.all_closed()


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_messages_that_are_sent_together_are_one_write(nursery: trio.Nursery, count: int) -> None:
    node = ScriptedNode(nursery, websocket=echo)
    written: list[bytes] = []

    async def noting(host: str, port: int, tls: bool) -> trio.abc.Stream:
        stream = await node.open_stream(host, port, tls)
        send_all = stream.send_all

        async def noted(data: bytes | bytearray | memoryview) -> None:
            written.append(bytes(data))
            await send_all(data)

        stream.send_all = noted  # type: ignore[method-assign]
        return stream

    socket = await open_websocket(nursery, URL, CBOR, noting, 5)
    del written[:]
    messages = [bytes([number]) * 10 for number in range(count)]
    await socket.send(*messages)
    assert [await socket.receive() for _ in messages] == messages
    assert len(written) == 1
    await socket.aclose()


async def test_messages_that_are_sent_together_to_a_node_that_has_gone(nursery: trio.Nursery) -> None:
    async def gone(ws: WebSocketConnection) -> None:
        await ws.aclose(4_000)

    socket = await connect(nursery, ScriptedNode(nursery, websocket=gone))
    with pytest.raises(Gone):
        await socket.receive()
    with pytest.raises(Gone) as caught:
        await socket.send(b"a", b"b")
    assert caught.value.code == 4_000
