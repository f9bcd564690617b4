"""Tokens over HTTP about which the callout has to be asked first: the request waits (P-AUTH-12)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from tests.kit.fake_node import FakeNode, Peer
from tests.kit.rules_gate import RulesGate
from tests.server.http.conftest import U1
from tests.server.http.test_upgrade import handshake


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/v1/whoami", None), ("PUT", "/v1/topics/a", 1)])
async def test_a_request_waits_until_its_token_was_asked_about(
    node: FakeNode, rules: RulesGate, nursery: trio.Nursery, method: str, path: str, body: Any
) -> None:
    rules.unasked["token"] = []
    data = b"" if body is None else json.dumps(body).encode()
    peer = Peer(node, nursery)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n"
    await peer.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    assert len(rules.unasked["token"]) == 1
    rules.answer("token")
    assert (await peer.answer()).status == 200
    # The next request on this connection is as any other.
    await peer.send(b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n\r\n")
    assert (await peer.answer()).json["subject"] == "u1"


async def test_a_handshake_waits_until_its_token_was_asked_about(
    node: FakeNode, rules: RulesGate, nursery: trio.Nursery
) -> None:
    rules.unasked["token"] = []
    await Peer(node, nursery).send(handshake(Authorization="Bearer token"))
    assert not node.upgrades
    rules.answer("token")
    await trio.testing.wait_all_tasks_blocked()
    ((shaken, _),) = node.upgrades
    assert shaken.presented.credentials == "token"


async def test_a_request_of_whose_token_nobody_can_tell_is_unavailable(
    node: FakeNode, rules: RulesGate, nursery: trio.Nursery
) -> None:
    rules.unasked["token"] = []
    for request in (
        b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n\r\n",
        handshake(Authorization="Bearer token"),
    ):
        peer = Peer(node, nursery)
        await peer.send(request)
        rules.answer("token", Unavailable("the callout is down", retry_ms=1_000))
        answer = await peer.answer()
        assert (answer.status, answer.code, answer["retry-after"]) == (503, "unavailable", "1")
    assert not node.upgrades


async def test_a_page_may_read_why_nobody_can_tell_whose_its_token_is(rules: RulesGate, nursery: trio.Nursery) -> None:
    page = "http://good.example"
    rules.unasked["token"] = []
    peer = Peer(FakeNode(authority=rules, origins=(page,)), nursery)
    head = f"Host: localhost\r\nOrigin: {page}\r\nAuthorization: Bearer token\r\n\r\n"
    await peer.send(f"GET /v1/whoami HTTP/1.1\r\n{head}".encode())
    rules.answer("token", Unavailable("the callout is down", retry_ms=1_000))
    answer = await peer.answer()
    assert (answer.code, answer["access-control-allow-origin"]) == ("unavailable", page)


async def test_a_peer_that_has_left_while_its_token_was_asked_about_harms_nobody(
    node: FakeNode, rules: RulesGate, nursery: trio.Nursery
) -> None:
    rules.unasked["token"] = []
    peer = Peer(node, nursery)
    await peer.send(b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n\r\n")
    await peer.stream.aclose()
    rules.answer("token")
    await trio.testing.wait_all_tasks_blocked()
    assert (await node.ask("GET", "/v1/whoami", **U1)).status == 200
    assert node.bulkhead.bugs == 0


async def test_a_held_request_of_whose_token_nobody_can_tell_any_more_is_unavailable(
    node: FakeNode, rules: RulesGate, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.set("a", 1)
    etag = (await node.ask("GET", "/v1/topics/a", **U1))["etag"]
    peer = Peer(node, nursery)
    head = f"Host: localhost\r\nAuthorization: Bearer token\r\nIf-None-Match: {etag}\r\n\r\n"
    await peer.send(f"GET /v1/topics/a?wait_ms=5000 HTTP/1.1\r\n{head}".encode())

    def again(_identity: object, _now: float, _peer: str = "") -> Any:
        raise Unavailable("the callout has not answered for too long", retry_ms=1_000)

    monkeypatch.setattr(rules, "again", again)
    rules.generation += 1
    for scope, _identity in node.http.held():
        scope.cancel()
    answer = await peer.answer()
    assert (answer.status, answer.code) == (503, "unavailable")
