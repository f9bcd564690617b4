"""Limits by address, at a node on sockets: connections are counted in and out, however they end."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from ipaddress import ip_network

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from softstate.auth.failures import BURST
from softstate.auth.proxy import TrustedProxy
from tests.kit.node_rig import LocalNode, node, until
from tests.kit.rules_gate import RulesGate

HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: softstate.v1.json"
)

FAILURES_PER_S = 0.1
"""So rarely that no further token is looked at while a test runs, however slow the machine."""


async def open_(running: LocalNode, opened: AsyncExitStack, client: str = "") -> WebSocketConnection:
    url = f"{running.url}/v1/ws"
    headers = [(b"X-Forwarded-For", client.encode())] if client else []
    return await opened.enter_async_context(
        open_websocket_url(url, subprotocols=["softstate.v1.json"], extra_headers=headers)
    )


def behind_proxy() -> RulesGate:
    rules = RulesGate(proxy=TrustedProxy((ip_network("127.0.0.1"),)))
    rules.issue("known", "known")
    rules.may("known", admin=True)
    return rules


async def ask(stream: trio.SocketStream, path: str, token: str = "", client: str = "") -> bytes:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    forwarded = f"X-Forwarded-For: {client}\r\n" if client else ""
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}{forwarded}\r\n".encode())
    return bytes(await stream.receive_some())


async def get(running: LocalNode, path: str = "/healthz", token: str = "", client: str = "") -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
        return await ask(stream, path, token, client)


async def test_an_address_has_so_many_connections_and_one_that_ends_makes_room() -> None:
    async with node(connections_per_address_max=3) as running, AsyncExitStack() as opened:
        sockets = [await open_(running, opened) for _ in range(2)]
        kept = await trio.open_tcp_stream("127.0.0.1", running.port)
        assert (await ask(kept, "/healthz")).startswith(b"HTTP/1.1 200")
        for _ in range(3):
            answer = await get(running)
            assert answer.startswith(b"HTTP/1.1 429")
            assert b"retry-after: 1" in answer.lower()
            assert b'"why":"connections_per_address_max"' in answer
        assert running.node.gate.limited == {"connections_per_address_max": 3}
        assert len(running.node.per_address) == 1
        await kept.aclose()
        await until(lambda: running.node.connections == 2)
        sockets.append(await open_(running, opened))
        await sockets[0].aclose()
        await until(lambda: running.node.connections == 2)
        sockets.append(await open_(running, opened))
        for socket in sockets:
            await socket.aclose()
        await until(lambda: running.node.connections == 0)
        assert len(running.node.per_address) == 0


async def test_one_that_sends_bad_tokens_is_not_looked_at_and_those_who_were_known_stay_in() -> None:
    rules = RulesGate()
    for name in ("known", "new"):
        rules.issue(name, name)
        rules.may(name, admin=True)
    async with (
        node(parts={"authority": rules}, auth_failures_per_s=FAILURES_PER_S) as running,
        AsyncExitStack() as opened,
    ):
        answer = await get(running, "/v1/whoami", "known")
        assert answer.startswith(b"HTTP/1.1 200")
        for number in range(BURST):
            answer = await get(running, "/v1/whoami", f"bad{number}")
            assert answer.startswith(b"HTTP/1.1 401")
        asked = rules.asked
        answer = await get(running, "/v1/whoami", "bad")
        assert answer.startswith(b"HTTP/1.1 429")
        assert b'"why":"auth_failures_per_s"' in answer
        assert b"retry-after" in answer.lower()
        answer = await get(running, "/v1/whoami", "known")
        assert answer.startswith(b"HTTP/1.1 200")
        assert rules.asked > asked
        assert (await get(running, "/v1/ws", "new")).startswith(b"HTTP/1.1 4")
        assert (await get(running, "/v1/whoami", "new")).startswith(b"HTTP/1.1 429")
        known = await open_(running, opened)
        await known.send_message(json.dumps({"op": "hello", "token": "known"}))
        assert json.loads(await known.get_message())["op"] == "welcome"


async def test_behind_a_trusted_proxy_websockets_count_for_the_address_of_their_client() -> None:
    parts = {"authority": behind_proxy()}
    async with node(parts=parts, connections_per_address_max=2) as running, AsyncExitStack() as opened:
        sockets = [await open_(running, opened, "192.0.2.1") for _ in range(2)]
        answer = await get(running, "/v1/ws", client=f"192.0.2.1\r\n{HANDSHAKE}")
        assert answer.startswith(b"HTTP/1.1 429")
        assert b'"why":"connections_per_address_max"' in answer
        sockets.append(await open_(running, opened, "192.0.2.2"))
        for _ in range(3):  # requests over connections of the proxy itself
            assert (await get(running, "/v1/whoami", "known", "192.0.2.1")).startswith(b"HTTP/1.1 200")
        assert running.node.gate.limited == {"connections_per_address_max": 1}
        assert len(running.node.per_address) == 2
        await sockets[0].aclose()
        await until(lambda: running.node.connections == 2)
        sockets.append(await open_(running, opened, "192.0.2.1"))
        for socket in sockets:
            await socket.aclose()
        await until(lambda: running.node.connections == 0)
        assert len(running.node.per_address) == 0


async def test_behind_a_trusted_proxy_bad_tokens_count_for_the_address_of_who_sends_them() -> None:
    async with node(parts={"authority": behind_proxy()}, auth_failures_per_s=FAILURES_PER_S) as running:
        for number in range(BURST):
            answer = await get(running, "/v1/whoami", f"bad{number}", "192.0.2.1")
            assert answer.startswith(b"HTTP/1.1 401")
        assert (await get(running, "/v1/whoami", "bad", "192.0.2.1")).startswith(b"HTTP/1.1 429")
        assert (await get(running, "/v1/whoami", "bad", "192.0.2.2")).startswith(b"HTTP/1.1 401")
