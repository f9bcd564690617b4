import json
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from softstate.errors import Overloaded, Rewound, Unavailable
from softstate.model import Page, Query
from softstate.server.edge.patience import TICK_S
from softstate.server.http.channel import LINGER_BYTES_MAX, LINGER_S_MAX
from tests.kit.fake_node import Answer, FakeNode, MemorySocket, Peer, parse, read_all

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POLL = b"POST /v1/poll HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}"


def padded(size: int) -> bytes:
    """Return a request whose head has exactly `size` bytes."""
    frame = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: \r\n\r\n"
    return frame.replace(b"X: ", b"X: " + b"x" * (size - len(frame)))


def many(headers: int) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: 1\r\n" * (headers - 1) + b"\r\n"


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def late(after_s: float, began: float = 0.0) -> bool:
    """Tell whether a deadline was just found to be over, as soon as the wheel of the node's patience finds it."""
    return after_s <= trio.current_time() - began <= after_s + 2 * TICK_S


# Connections ---------------------------------------------------------------------------------------------------------


async def test_a_connection_is_kept_for_more_requests(nursery: trio.Nursery) -> None:
    peer = Peer(FakeNode(), nursery)
    for _ in range(3):
        await peer.send(GET)
        assert (await peer.answer()).status == 200
        await peer.send(POLL)
        assert (await peer.answer()).json["changes"] == []


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
async def test_pipelined_requests_are_answered_in_order_however_they_are_cut(chunk: int) -> None:
    missing = GET.replace(b"/healthz", b"/nowhere")
    answers = await FakeNode().exchange(GET + POLL + missing + POLL + GET, chunk=chunk)
    assert statuses(answers) == [200, 200, 404, 200, 200]


@pytest.mark.parametrize("request_", [GET.replace(b"1.1", b"1.0"), GET.replace(b"Host", b"Connection: close\r\nHost")])
async def test_a_peer_may_ask_to_close(request_: bytes) -> None:
    answers = await FakeNode().exchange(request_ + GET)
    assert statuses(answers) == [200]
    assert answers[0]["connection"] == "close"


async def test_a_draining_node_closes_after_each_reply() -> None:
    node = FakeNode()
    node.draining = True
    answers = await node.exchange(GET + GET)
    assert (statuses(answers), answers[0]["connection"]) == ([200], "close")


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/v1/topics/a?at_least=99", None),
        ("GET", "/v1/topics/a?at_least=99&wait_ms=20000", None),
        ("GET", "/v1/topics?at_least=99", None),
        ("POST", "/v1/poll", {"min_revision": 99}),
    ],
)
async def test_no_request_is_held_that_would_be_once_the_node_drains(
    method: str, target: str, body: object, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read was under way when it began to drain, and no request was held."""
    node = FakeNode()
    read = node.store.read

    async def slow(group: Sequence[Query]) -> Sequence[Page | Rewound]:
        await trio.sleep(1)
        return await read(group)

    async def drain() -> None:
        await trio.sleep(0.5)
        assert node.http.statistics().holds == 0
        node.draining = True
        node.http.drain()

    monkeypatch.setattr(node.store, "read", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        answer = await node.ask(method, target, body)
    assert (answer.status, answer.code, answer["connection"]) == (503, "behind", "close")
    assert trio.current_time() == 2, "the time of two reads"


async def test_draining_closes_kept_connections_and_leaves_new_ones(nursery: trio.Nursery) -> None:
    node = FakeNode()
    kept, new = Peer(node, nursery), Peer(node, nursery)
    await kept.send(GET)
    await kept.answer()
    await trio.testing.wait_all_tasks_blocked()
    node.draining = True
    node.http.drain()
    assert await kept.rest() == []
    await new.send(GET)
    assert statuses(await new.rest()) == [200]
    await new.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.statistics().connections == 0


async def test_a_half_closed_peer_gets_its_answer() -> None:
    assert statuses(await FakeNode().exchange(GET)) == [200]
    assert await FakeNode().exchange(b"") == []


async def test_a_peer_that_vanishes_is_no_error(nursery: trio.Nursery) -> None:
    node = FakeNode()
    for data in (b"", b"GET", GET, POLL[:-1], GET + GET):
        peer = Peer(node, nursery)
        await peer.send(data or b"G")
        await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.statistics().connections == 0


@pytest.mark.parametrize("data", [b"", GET[:5], POLL[:-1], b"nonsense\r\n\r\n"])
async def test_a_connection_that_breaks_is_no_error(data: bytes) -> None:
    node = FakeNode()
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.serve, server)
        await client.send_all(data)
        await trio.testing.wait_all_tasks_blocked()
        server.receive_stream.close()
    assert node.http.statistics().connections == 0


async def test_an_unexpected_error_of_a_handler_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode()
    monkeypatch.setattr(node, "scrape", lambda: 1 / 0)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with trio.open_nursery():
            await node.ask("GET", "/metrics")


async def test_replies_are_counted() -> None:
    node = FakeNode()
    await node.exchange(GET + POLL + POLL + b"nonsense\r\n\r\n")
    assert node.http.statistics().replies == {("/healthz", 200): 1, ("/v1/poll", 200): 2, ("none", 400): 1}


async def test_a_connection_beyond_the_limit_is_answered_and_closed() -> None:
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(FakeNode().serve, MemorySocket(server), Overloaded("too many", retry_ms=1_000))
        await client.send_all(GET)
        await client.send_eof()
        (answer,) = parse(await read_all(client))
    assert (answer.status, answer.code, answer["retry-after"], answer["connection"]) == (
        503,
        "overloaded",
        "1",
        "close",
    )


async def test_whole_seconds_in_retry_after_are_rounded_up() -> None:
    node = FakeNode()
    for retry_ms, seconds in ((0, "0"), (1, "1"), (1_000, "1"), (1_001, "2")):
        node.fault = Unavailable("down", retry_ms=retry_ms)
        answer = await node.ask("GET", "/v1/topics")
        assert (answer["retry-after"], answer.json["retry_ms"]) == (seconds, retry_ms)


# Limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 1 << 20])
async def test_head_size_at_the_limit_and_one_over(chunk: int) -> None:
    node = FakeNode(head_bytes_max=300)
    assert statuses(await node.exchange(GET + padded(300), chunk=chunk)) == [200, 200]
    (_, refused) = await node.exchange(GET + padded(301), chunk=chunk)
    assert (refused.status, refused.code, refused["connection"]) == (431, "too_large", "close")
    assert "head_bytes_max" in refused.json["message"]


async def test_header_count_at_the_limit_and_one_over() -> None:
    node = FakeNode(headers_max=10)
    assert statuses(await node.exchange(many(10))) == [200]
    (refused,) = await node.exchange(many(11))
    assert (refused.status, refused.code) == (431, "too_large")
    assert "headers_max" in refused.json["message"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_size_at_the_limit_and_one_over(chunked: bool) -> None:
    node = FakeNode(body_bytes_max=100)
    for size, status in ((100, 200), (101, 413)):
        body = b"{}".ljust(size)
        framing = b"Content-Length: %d" % size
        if chunked:
            framing, body = b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
        (answer,) = await node.exchange(b"POST /v1/poll HTTP/1.1\r\nHost: 127.0.0.1\r\n" + framing + b"\r\n\r\n" + body)
        assert answer.status == status
        if status == 413:
            assert (answer.code, "body_bytes_max" in answer.json["message"]) == ("too_large", True)


async def test_a_slow_head_times_out(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(head_s_max=10)
    peer = Peer(node, nursery)
    for byte in GET[:9]:
        await peer.send(bytes([byte]))
        await trio.sleep(1)
    await peer.send(GET[9:])
    assert (await peer.answer()).status == 200

    peer = Peer(node, nursery)
    for byte in GET[:11]:
        await peer.send(bytes([byte]))
        await trio.sleep(1.1)
    (answer,) = await peer.rest()
    assert (answer.status, answer.code, answer["connection"]) == (408, "invalid", "close")


async def test_a_kept_connection_may_idle_then_has_the_head_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    node = FakeNode(head_s_max=10, idle_s_max=60)
    peer = Peer(node, nursery)
    await peer.send(GET)
    await peer.answer()
    await trio.sleep(59)
    await peer.send(GET[:5])
    await trio.sleep(9)
    await peer.send(GET[5:])
    assert (await peer.answer()).status == 200
    began = trio.current_time()
    assert await peer.rest() == []
    assert late(60, began)


async def test_a_new_connection_that_is_silent_is_closed_without_a_word(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Peer(FakeNode(head_s_max=10), nursery)
    assert await peer.rest() == []
    assert late(10)


async def test_a_slow_body_times_out(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    for wait_s, status in ((29.9, 200), (30.6, 408)):
        peer = Peer(FakeNode(body_s_max=30), nursery)
        await peer.send(POLL[:-1])
        await trio.sleep(wait_s)
        await peer.send(POLL[-1:])
        await peer.stream.send_eof()
        assert statuses(await peer.rest()) == [status]


async def test_a_peer_that_does_not_read_is_left(autojump_clock: trio.testing.MockClock) -> None:
    client, server = trio.testing.memory_stream_pair()
    node = FakeNode(send_s_max=30)
    sock = MemorySocket(server)
    sock.free_bytes = 10
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.serve, sock)
        await client.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        assert node.http.statistics().connections == 1
    assert late(30)


async def test_a_refused_peer_may_finish_sending(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer(FakeNode(body_bytes_max=10), nursery)
    await peer.send(POLL.replace(b"Length: 2", b"Length: 11"))
    (answer,) = await peer.rest()
    assert (answer.status, answer["connection"]) == (413, "close")
    await peer.send(b"x" * LINGER_BYTES_MAX)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.BrokenResourceError):
        await peer.send(b"x")

    peer = Peer(FakeNode(), nursery)
    await peer.send(b"nonsense\r\n\r\n")
    await peer.rest()
    began = trio.current_time()
    await trio.sleep(LINGER_S_MAX - 0.1)
    await peer.send(b"x")
    await trio.sleep(0.1 + 2 * TICK_S)
    assert trio.current_time() - began == pytest.approx(LINGER_S_MAX + 2 * TICK_S)
    with pytest.raises(trio.BrokenResourceError):
        await peer.send(b"x")


# Expect: 100-continue ------------------------------------------------------------------------------------------------

EXPECT = POLL[:-2].replace(b"Host", b"Expect: 100-continue\r\nHost")


async def test_a_peer_is_told_to_continue(nursery: trio.Nursery) -> None:
    peer = Peer(FakeNode(), nursery)
    await peer.send(EXPECT)
    assert (await peer.answer()).status == 100
    await peer.send(b"{}")
    assert (await peer.answer()).status == 200
    await peer.send(GET)
    assert (await peer.answer()).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (EXPECT.replace(b"Length: 2", b"Length: 2000"), 413),
        (EXPECT.replace(b"/v1/poll", b"/nowhere"), 404),
        (EXPECT.replace(b"POST", b"GET"), 405),
        (EXPECT.replace(b"Host", b"Origin: http://evil\r\nHost"), 403),
    ],
)
async def test_a_peer_is_refused_before_it_sends_its_body(request_: bytes, status: int) -> None:
    (answer,) = await FakeNode(body_bytes_max=1000).exchange(request_)
    assert (answer.status, answer["connection"]) == (status, "close")


# Input that is no HTTP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET  / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /\x80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: m\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nBad Header: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: n", 400),
        (POLL[:-1], 400),
        (POLL.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked") + b"\r\n", 400),
        (b"CONNECT n:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    ],
)
async def test_bad_requests_get_an_error_and_the_connection_ends(raw: bytes, status: int) -> None:
    for chunk in (1, 1 << 20):
        (answer,) = await FakeNode().exchange(raw, chunk=chunk)
        assert (answer.status, set(answer.json) <= {"op", "code", "message", "position"}) == (status, True)
        if status == 400:
            assert (answer.code, answer["connection"]) == ("invalid", "close")


PIECES = [
    b"GET ", b"PUT ", b"POST ", b"HEAD ", b"OPTIONS ", b"/v1/topics/a", b"/v1/topics/%f", b"/v1/poll", b"/v1/ws", b"/",
    b"?wait_ms=1", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: 127.0.0.1\r\n", b"Content-Length: 3\r\n",
    b"Connection: upgrade\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Upgrade: websocket\r\n", b"If-Match: *\r\n", b'If-None-Match: "\r\n',
    b"Accept: application/cbor\r\n", b"Content-Type: application/cbor\r\n", b"Expect: 100-continue\r\n",
    b"\r\n", b"\r\n",
    b"{}", b"123", b"3\r\n123\r\n", b"0\r\n\r\n", b"Origin: null\r\n", b"\x00", b"\xff", GET, POLL,
]  # fmt: skip


@given(
    raw=st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=24).map(b"".join), chunk=st.integers(1, 99)
)
@settings(max_examples=250, deadline=None)
def test_any_bytes_are_answered_in_http_or_closed(raw: bytes, chunk: int) -> None:
    async def body() -> None:
        node = FakeNode(body_bytes_max=1000)
        client, server = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, server)
            try:
                for at in range(0, len(raw), chunk):
                    await client.send_all(raw[at : at + chunk])
                await client.send_eof()
            except trio.BrokenResourceError:
                pass
            received = await read_all(client)
        assert not received or received.startswith((b"HTTP/1.1 ", b"upgraded"))
        assert b"Internal" not in received
        assert node.http.statistics().connections == 0

    trio.run(body, clock=trio.testing.MockClock(autojump_threshold=0))


# Origin --------------------------------------------------------------------------------------------------------------

ROUTES = [("GET", "/healthz"), ("GET", "/v1/topics"), ("PUT", "/v1/topics/a"), ("POST", "/v1/poll"), ("GET", "/v1/ws")]


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("OPTIONS", "/v1/poll"), ("GET", "/nowhere")])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8701",
        "ftp://127.0.0.1:8700",
        "127.0.0.1:8700",
        "http://node:8700",
        "",
    ],
)
async def test_foreign_origins_are_denied_everywhere(method: str, path: str, origin: str) -> None:
    node = FakeNode(origins=("http://good.example",))
    answer = await node.ask(method, path, Origin=origin)
    assert (answer.status, answer.code) == (403, "denied")
    assert "access-control-allow-origin" not in answer.headers
    assert await node.store.head() == node.position


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://good.example", "n:1"),
        ("http://n:1", "n:1"),
        ("https://n:1", "N:1"),
        ("http://n", "n"),
        ("http://n", "n:80"),
        ("https://n", "n:443"),
        ("http://[::1]:8700", "[::1]:8700"),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/nowhere"])
async def test_good_origins_may_read_the_reply(origin: str, host: str, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n".encode()
    (answer,) = await FakeNode(origins=("http://good.example",), allow_host=("n",)).exchange(request)
    assert answer["access-control-allow-origin"] == origin
    assert "Origin" in answer["vary"]
    for name in ("ETag", "Retry-After", "Softstate-Position", "Softstate-Lag-Ms", "Softstate-Held-Ms"):
        assert name in answer["access-control-expose-headers"]


async def test_preflights() -> None:
    node = FakeNode(origins=("http://good.example",))
    headers = {"Origin": "http://good.example", "Access_Control_Request_Method": "PUT"}
    answer = await node.ask("OPTIONS", "/v1/topics/a", **headers)
    assert (answer.status, answer["access-control-allow-origin"]) == (204, "http://good.example")
    assert "PUT" in answer["access-control-allow-methods"]
    for name in ("Content-Type", "If-Match", "If-None-Match", "Idempotency-Key"):
        assert name in answer["access-control-allow-headers"]


async def test_options_that_are_no_preflight_tell_the_methods_alone() -> None:
    answer = await FakeNode().ask("OPTIONS", "/v1/poll")
    assert (answer.status, answer["allow"]) == (204, "OPTIONS, POST")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    everything = await FakeNode().ask("OPTIONS", "*")
    assert (everything.status, everything["allow"]) == (204, "OPTIONS, HEAD, GET, PUT, DELETE, POST")


async def test_without_an_origin_there_are_no_cors_headers() -> None:
    answer = await FakeNode().ask("GET", "/healthz")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_error_bodies_have_the_documented_fields_only() -> None:
    async def body() -> None:
        answer = await FakeNode().ask("GET", "/v1/topics?since=5")
        assert set(json.loads(answer.body)) - {"op"} == {"code", "message", "position"}

    trio.run(body)


async def test_an_unreadable_head_after_a_head_request_is_answered_in_full() -> None:
    """Found by fuzzing: the refusal was sent without its body, as to HEAD, and h11's error for that ended the node."""
    answers = await FakeNode().exchange(GET.replace(b"GET", b"HEAD") + b'"\r\n\r\n', heads=[0])
    assert statuses(answers) == [200, 400]
    assert "not valid HTTP" in answers[1].json["message"]
