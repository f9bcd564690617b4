"""The access log: one line for each answer over HTTP, with what ties it to the traces of its caller."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing
import trio
from trio_websocket import open_websocket_url

from softstate.server.http.access_log import REQUEST_ID_CHARS_MAX
from softstate.wire import CBOR
from tests.kit.node_rig import LocalNode, node

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def lines(running: LocalNode, *heads: str) -> list[dict[str, Any]]:
    with structlog.testing.capture_logs() as logged:
        for head in heads:
            async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
                await stream.send_all(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1"))
                async for _ in stream:
                    pass
    return [dict(line) for line in logged if line["event"] == "request answered"]


async def test_each_answer_is_a_line() -> None:
    async with node(access_log=True) as running:
        found = await lines(running, "GET /v1/topics/a?at_least=0 HTTP/1.1", "DELETE /nowhere HTTP/1.1")
    assert [(line["method"], line["path"], line["status"]) for line in found] == [
        ("GET", "/v1/topics/a", 404),
        ("DELETE", "/nowhere", 404),
    ]
    assert all(line["peer"] == "127.0.0.1" and line["who"] == "anyone" and line["ms"] >= 0 for line in found)


async def test_it_is_off_by_default() -> None:
    async with node() as running:
        assert not await lines(running, "GET /v1/topics/a HTTP/1.1")


async def test_a_handshake_is_a_line_too() -> None:
    async with node(access_log=True) as running:
        with structlog.testing.capture_logs() as logged:
            async with open_websocket_url(f"{running.url}/v1/ws", subprotocols=[CBOR.protocol]):
                pass
    assert [line["status"] for line in logged if line["event"] == "request answered"] == [101]


@pytest.mark.parametrize(
    ("header", "ties"),
    [
        ("X-Request-Id: r-7", {"request_id": "r-7"}),
        ("X-Request-Id: " + "x" * (REQUEST_ID_CHARS_MAX + 1), {}),
        (f"Traceparent: 00-{TRACE}-00f067aa0ba902b7-01", {"trace": TRACE}),
        (f"Traceparent: 00-{TRACE[1:]}-00f067aa0ba902b7-01", {}),
        (f"Traceparent: 00-{TRACE.upper()}-00f067aa0ba902b7-01", {}),
    ],
)
async def test_a_line_bears_the_caller_s_ids_if_they_are_of_their_form(header: str, ties: dict[str, str]) -> None:
    async with node(access_log=True) as running:
        (line,) = await lines(running, f"GET /healthz HTTP/1.1\r\n{header}")
    assert {name: line[name] for name in ("request_id", "trace") if name in line} == ties


async def test_an_address_is_that_of_the_connection_unless_a_proxy_is_trusted() -> None:
    async with node(access_log=True) as running:
        (line,) = await lines(running, "GET /healthz HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9")
    assert line["peer"] == "127.0.0.1"
