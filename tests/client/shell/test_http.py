import pytest
import trio
from trio.testing import MockClock

from softstate.client.machine.credentials import TokenCell
from softstate.client.requests.reply import HttpFailed, Reply
from softstate.client.shell import http as http_module
from softstate.client.shell.http import IDLE_CONNECTIONS_MAX, IDLE_S_MAX, HttpClient
from softstate.client.url import parse_url
from softstate.errors import (
    Behind,
    Conflict,
    Denied,
    NotFound,
    Overloaded,
    RequestError,
    Rewound,
    SoftstateError,
    Unavailable,
)
from softstate.http_client.exchange import HEAD_BYTES_MAX
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Polled
from tests.kit.scripted_node import HERE, Answer, HttpRequest, ScriptedNode

URL = parse_url("ws://node")


async def ok(asked: HttpRequest) -> Answer:
    return Answer.of({"target": asked.target})


def client_of(node: ScriptedNode, codec: Codec = CBOR, token: str | None = None) -> HttpClient:
    return HttpClient(node.open_stream, codec, TokenCell(token))


async def get(client: HttpClient, path: str = "/v1/x", timeout_s: float = 5, url: str = "ws://node") -> Reply:
    return await client.request(parse_url(url), "GET", path, timeout_s=timeout_s)


@pytest.mark.parametrize("codec", [CBOR, JSON])
async def test_a_request_and_its_answer(nursery: trio.Nursery, codec: Codec) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        return Answer.of(codec.loads(asked.body, dict), codec)

    node = ScriptedNode(nursery, http=serve)
    client = client_of(node, codec, token="secret")
    url = parse_url("http://[::1]:9000/base")
    reply = await client.request(url, "POST", "/v1/poll", body=codec.dumps({"a": 1}), timeout_s=5)
    assert reply.decode(dict) == {"a": 1}
    asked = node.asked[0]
    assert (asked.method, asked.target) == ("POST", "/base/v1/poll")
    assert asked.headers["host"] == "[::1]:9000"
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["content-type"] == asked.headers["accept"] == codec.content_type
    await client.aclose()
    assert node.all_closed()


async def test_accept_can_be_chosen(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, http=ok)
    await client_of(node).request(URL, "GET", "/v1/status", timeout_s=5, accept="application/json")
    assert node.asked[0].headers["accept"] == "application/json"


async def test_connections_are_kept_alive_for_each_node(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, http=ok)
    client = client_of(node)
    for _ in range(3):
        await get(client)
        await get(client, url="ws://other")
        await get(client, url="wss://node:8700")
    assert node.opened == [("node", 8700, False), ("other", 8700, False), ("node", 8700, True)]
    await client.aclose()
    assert node.all_closed()


async def test_at_most_so_many_idle_connections(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, http=ok)
    client = client_of(node)
    for index in range(IDLE_CONNECTIONS_MAX + 1):
        await get(client, url=f"ws://node{index}")
    assert [stream.closed for stream in node.streams] == [True] + [False] * IDLE_CONNECTIONS_MAX


async def test_an_old_idle_connection_is_not_used(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    node = ScriptedNode(nursery, http=ok)
    client = client_of(node)
    await get(client)
    mock_clock.jump(IDLE_S_MAX - 1)
    await get(client)
    assert len(node.streams) == 1
    mock_clock.jump(IDLE_S_MAX + 1)
    await get(client)
    assert [stream.closed for stream in node.streams] == [True, False]


async def test_connection_close_is_obeyed(nursery: trio.Nursery) -> None:
    async def last(asked: HttpRequest) -> Answer:
        return Answer(200, b"null", [("Connection", "close")])

    node = ScriptedNode(nursery, http=last)
    client = client_of(node)
    await get(client)
    await get(client)
    assert len(node.streams) == 2
    assert node.all_closed()


async def test_a_kept_connection_found_closed_is_replaced_once(nursery: trio.Nursery) -> None:
    answers = iter([Answer.of(1), Answer(0), Answer.of(2)])

    async def serve(asked: HttpRequest) -> Answer:
        return next(answers)

    node = ScriptedNode(nursery, http=serve)
    client = client_of(node)
    assert (await get(client)).decode(int) == 1
    assert (await get(client)).decode(int) == 2
    assert len(node.streams) == 2


async def test_a_request_that_goes_once_is_not_sent_again_on_a_new_connection(nursery: trio.Nursery) -> None:
    """It may have been carried out: that the second one reaches no node would tell nothing of it."""
    answers = iter([Answer.of(1), Answer(0)])

    async def serve(asked: HttpRequest) -> Answer:
        return next(answers)

    node = ScriptedNode(nursery, http=serve)
    client = client_of(node)
    await client.request(URL, "POST", "/v1/publish", timeout_s=5, once=True)
    node.fail = ConnectionRefusedError("refused")
    with pytest.raises(HttpFailed) as caught:
        await client.request(URL, "POST", "/v1/publish", timeout_s=5, once=True)
    assert not caught.value.unsent
    assert len(node.streams) == 1
    assert len(node.asked) == 2


async def test_a_connection_torn_while_idle_is_replaced(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, http=ok)
    client = client_of(node)
    await get(client)
    await trio.aclose_forcefully(node.streams[0].inner)
    await get(client)
    assert len(node.streams) == 2


@pytest.mark.parametrize("partial", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
async def test_a_fresh_connection_that_breaks_is_a_failure(nursery: trio.Nursery, partial: bytes) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        return Answer(0, partial=partial)

    node = ScriptedNode(nursery, http=serve)
    with pytest.raises(HttpFailed):
        await get(client_of(node))
    assert len(node.streams) == 1
    assert node.all_closed()


async def test_no_second_try_once_an_answer_has_begun(nursery: trio.Nursery) -> None:
    answers = iter([Answer.of(1), Answer(0, partial=b"HTTP/1.1 200 OK\r\nCont")])

    async def serve(asked: HttpRequest) -> Answer:
        return next(answers)

    node = ScriptedNode(nursery, http=serve)
    client = client_of(node)
    await get(client)
    with pytest.raises(HttpFailed):
        await get(client)
    assert len(node.streams) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"\x16\x03\x01\x00\x00",
    ],
)
async def test_what_is_not_http_is_a_failure(nursery: trio.Nursery, said: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(said)
        await stream.receive_some()

    node = ScriptedNode(nursery, raw=serve)
    with pytest.raises(HttpFailed):
        await get(client_of(node), timeout_s=0.5)
    assert node.all_closed()


@pytest.mark.parametrize(("more", "good"), [(0, True), (1, False)])
async def test_the_body_limit(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, more: int, good: bool) -> None:
    monkeypatch.setattr(http_module, "MESSAGE_BYTES_MAX", 100_000)

    async def serve(asked: HttpRequest) -> Answer:
        return Answer(200, bytes(100_000 + more))

    client = client_of(ScriptedNode(nursery, http=serve))
    if good:
        assert len((await get(client)).body) == 100_000
    else:
        with pytest.raises(HttpFailed, match="longer than"):
            await get(client)


async def test_the_deadline(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    node = ScriptedNode(nursery, http=serve)
    before = trio.current_time()
    with pytest.raises(HttpFailed, match="within 3 s"):
        await get(client_of(node), timeout_s=3)
    assert trio.current_time() - before == pytest.approx(3)
    assert node.all_closed()


async def test_cancelling_closes_the_connection(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    node = ScriptedNode(nursery, http=serve)
    with trio.move_on_after(1) as scope:
        await get(client_of(node))
    assert scope.cancelled_caught
    assert node.all_closed()


async def test_a_request_that_ends_after_close_keeps_nothing(nursery: trio.Nursery) -> None:
    client: HttpClient

    async def serve(asked: HttpRequest) -> Answer:
        await client.aclose()
        return Answer.of(1)

    node = ScriptedNode(nursery, http=serve)
    client = client_of(node)
    await get(client)
    assert node.all_closed()


async def test_unreachable(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, fail=OSError("no route"))
    with pytest.raises(HttpFailed, match="no route"):
        await get(client_of(node))


def reply_of(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Reply:
    return Reply(status, headers, body)


@pytest.mark.parametrize("codec", [CBOR, JSON])
def test_an_error_becomes_its_class(codec: Codec) -> None:
    fields = {"code": "rewound", "message": "m", "position": {"epoch": "e", "lineage": "l", "revision": 5}}
    reply = reply_of(410, codec.dumps(fields), (b"content-type", codec.content_type.encode()))
    with pytest.raises(Rewound, match="m") as caught:
        reply.decode(Polled)
    assert caught.value.position == HERE
    error = reply_of(412, codec.dumps({"code": "conflict", "message": "m", "current": 7})).error()
    assert not isinstance(error, Conflict) or error.current == 7


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry_ms"),
    [
        (503, b'{"code": "behind", "message": "m", "retry_ms": 20}', Behind, 20),
        (503, b'{"code": "behind", "message": "m"}', Behind, 2000),
        (404, b'{"code": "not_found", "message": "m"}', NotFound, 2000),
        (403, b'{"code": "denied", "message": "m"}', Denied, 2000),
        (418, b'{"code": "teapot", "message": "m"}', HttpFailed, None),
        (503, b"<html>", Unavailable, 2000),
        (429, b"", Overloaded, 2000),
        (404, b"<html>", HttpFailed, None),
        (401, b"[]", HttpFailed, None),
        (302, b"", HttpFailed, None),
    ],
)
def test_errors_of_nodes_and_of_others(
    status: int, body: bytes, kind: type[SoftstateError], retry_ms: int | None
) -> None:
    error = reply_of(status, body, (b"retry-after", b"2")).error()
    assert type(error) is kind
    if isinstance(error, RequestError):
        assert error.retry_ms == retry_ms


@pytest.mark.parametrize("code", ["not_found", "c" * 5_000])
def test_a_long_error_is_taken_over_in_part(code: str) -> None:
    """Found by fuzzing: what a node, or another server, sends as its message may not fill logs."""
    error = reply_of(404, JSON.dumps({"code": code, "message": "m" * 5_000})).error()
    assert len(str(error)) < 1_500


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b'{"position": 1}', b"[" * 100_000])
def test_an_answer_that_cannot_be_understood(body: bytes) -> None:
    with pytest.raises(HttpFailed, match="cannot be understood"):
        reply_of(200, body, (b"content-type", b"application/json")).decode(Polled)


@pytest.mark.parametrize("kind", [b"text/html; charset=utf-8", b"", b"x" * 5_000])
def test_an_answer_of_another_program_is_told_from_one_of_a_node(kind: bytes) -> None:
    with pytest.raises(HttpFailed, match=r"HTTP status 200 with .*: no node .*Check the URL") as caught:
        reply_of(200, b"<html>Log in", *([(b"content-type", kind)] if kind else [])).decode(Polled)
    assert len(str(caught.value)) < 500


def test_headers_are_found() -> None:
    reply = reply_of(200, b"", (b"etag", b'"e.l.5"'))
    assert reply.header("etag") == '"e.l.5"'
    assert reply.header("x") is None


async def test_what_is_no_http_is_quoted_in_part_only(nursery: trio.Nursery) -> None:
    """Found by fuzzing."""

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"9" * 8_000 + b"\r\n\r\n")

    with pytest.raises(HttpFailed, match="not HTTP") as caught:
        await get(client_of(ScriptedNode(nursery, raw=serve)))
    assert len(str(caught.value)) < 400
