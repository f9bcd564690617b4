"""HTTP without I/O: what is sent for a request, and what is made of the bytes that come back."""

from __future__ import annotations

import pytest

from softstate.http_client.exchange import (
    HEAD_BYTES_MAX,
    QUOTE_CHARS_MAX,
    ConnectionBroken,
    Exchange,
    ExchangeFailed,
    MalformedRequest,
    MalformedResponse,
    Request,
    Response,
)

GET = Request("GET", "node:8700", "/v1/x", [("Accept", "application/json")])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"


def begun(request: Request = GET) -> Exchange:
    exchange = Exchange()
    exchange.start(request)
    return exchange


def read(exchange: Exchange, data: bytes, step: int) -> Response:
    """Give an exchange bytes in pieces of `step`, and read the response as a shell does."""
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    while (head := exchange.head()) is None:
        exchange.receive(pieces.pop(0) if pieces else b"")
    body = b""
    while (part := exchange.part()) != b"":
        if part is None:
            exchange.receive(pieces.pop(0) if pieces else b"")
        else:
            body += part
    return Response(head.status, head.headers, body)


def test_a_request_as_bytes() -> None:
    assert Exchange().start(GET) == b"GET /v1/x HTTP/1.1\r\nHost: node:8700\r\nAccept: application/json\r\n\r\n"
    post = Request("POST", "[::1]:9", "/p", body=b"body")
    assert Exchange().start(post) == b"POST /p HTTP/1.1\r\nHost: [::1]:9\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_header_cannot_be_smuggled(value: str) -> None:
    with pytest.raises(MalformedRequest, match="cannot be written"):
        Exchange().start(Request("GET", "x", "/", [("Authorization", value)]))


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    "data",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab",
        b"HTTP/1.0 200 OK\r\n\r\nab",
    ],
)
def test_a_response_in_pieces_of_any_size(data: bytes, step: int) -> None:
    response = read(begun(), data, step)
    assert (response.status, response.body) == (200, b"ab")


def test_headers_are_found_in_lower_case() -> None:
    response = read(begun(), b'HTTP/1.1 200 OK\r\nETag: "e.l.5"\r\nContent-Length: 0\r\n\r\n', 1000)
    assert response.header("etag") == '"e.l.5"'
    assert response.header("x") is None


def test_requests_follow_one_another() -> None:
    exchange = begun()
    for _ in range(3):
        read(exchange, OK, 1000)
        assert exchange.answered
        assert exchange.finish()
        exchange.start(GET)
        assert not exchange.answered


@pytest.mark.parametrize(
    "data",
    [
        OK.replace(b"Content", b"Connection: close\r\nContent"),
        OK + b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nab",
    ],
)
def test_no_request_follows_a_close_or_bytes_that_were_not_asked_for(data: bytes) -> None:
    exchange = begun()
    read(exchange, data, 1000)
    assert not exchange.finish()


def test_a_request_cannot_follow_before_the_response_ends() -> None:
    exchange = begun()
    exchange.receive(OK[:-1])
    assert exchange.head() is not None
    assert exchange.part() == b"a"
    assert exchange.part() is None
    assert not exchange.finish()


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x00\x00",
        b"9" * 8_000 + b"\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http(data: bytes) -> None:
    with pytest.raises(MalformedResponse, match="not HTTP") as caught:
        read(begun(), data, len(data))
    assert len(str(caught.value)) < QUOTE_CHARS_MAX + 50


def test_a_switch_of_protocols_that_was_not_asked_for() -> None:
    with pytest.raises(ExchangeFailed):
        read(begun(), b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 1000)


@pytest.mark.parametrize(
    ("data", "answered"), [(b"", False), (b"HTTP/1.1 200 OK\r\nCont", True), (OK[:-1], True), (b"HTTP/1.1 103 x", True)]
)
def test_an_end_before_the_response_is_complete(data: bytes, answered: bool) -> None:
    with pytest.raises(ConnectionBroken) as caught:
        read(begun(), data, 1000)
    assert (caught.value.answered, caught.value.ended) == (answered, True)
