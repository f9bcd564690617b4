"""The tap of plain HTTP, fed with pieces of any size."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest

from softstate.testing.network.http_tap import HttpTap

POLL = b'POST /v1/poll HTTP/1.1\r\nAuthorization: Bearer t1\r\nContent-Length: 4\r\n\r\n{"":'
GET = b"GET /v1/health HTTP/1.1\r\n\r\n"


def answer(status: bytes, kind: str, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b x\r\ncontent-type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind.encode(), len(body)) + body


def fed(tap: HttpTap, data: bytes, size: int) -> list[dict[str, Any]]:
    return [message for at in range(0, len(data), size) for message in tap.feed(data[at : at + size])]


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_requests_tell_their_tokens(size: int) -> None:
    found = fed(HttpTap(from_client=True), POLL + GET + POLL, size)
    poll = {"target": "/v1/poll", "token": "t1"}
    assert found == [poll, {"target": "/v1/health"}, poll]


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_answers_tell_their_bodies(size: int) -> None:
    body = {"changes": [{"topic": "t", "version": 3}]}
    data = (
        answer(b"200", "application/cbor", cbor2.dumps(body))
        + answer(b"503", "application/json", json.dumps({"code": "unavailable"}).encode())
        + answer(b"200", "text/plain", b"\r\n\r\n")
    )
    assert fed(HttpTap(from_client=False), data, size) == [
        {"status": 200, **body},
        {"status": 503, "code": "unavailable"},
        {"status": 200},
    ]


@pytest.mark.parametrize(
    ("from_client", "head"),
    [(True, b"GET /v1/ws HTTP/1.1\r\n\r\n"), (False, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")],
)
def test_a_websocket_is_not_read_on(from_client: bool, head: bytes) -> None:
    assert fed(HttpTap(from_client=from_client), head + GET, 5) == []
