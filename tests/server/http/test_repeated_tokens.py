"""A token that a connection presents again, with the same head: it is looked up once, and rules are heeded still."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from softstate.auth.answers import Entry
from softstate.auth.identity import Identity
from softstate.auth.presented import Credentials
from tests.kit.fake_node import Answer, FakeNode, Peer
from tests.kit.rules_gate import RulesGate

POLLED = b'{"topics":{"a":0}}'


def poll(token: str = "token", *lines: str) -> bytes:
    head = ["POST /v1/poll HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(POLLED)}", "", ""]).encode() + POLLED


async def ask(peer: Peer, request: bytes) -> Answer:
    await peer.send(request)
    return await peer.answer()


async def test_it_is_looked_up_once(node: FakeNode, rules: RulesGate, nursery: trio.Nursery) -> None:
    peer = Peer(node, nursery)
    assert [(await ask(peer, poll())).status for _ in range(3)] == [200] * 3
    assert rules.asked == 1
    other = Peer(node, nursery)
    assert (await ask(other, poll())).status == 200
    assert rules.asked == 2


async def test_that_it_was_revoked_is_heeded(node: FakeNode, rules: RulesGate, nursery: trio.Nursery) -> None:
    peer = Peer(node, nursery)
    assert (await ask(peer, poll())).status == 200
    rules.revoke("token")
    refused = await ask(peer, poll())
    assert (refused.status, refused.json["why"]) == (401, "signature")
    rules.issue("token", "u1")
    assert (await ask(peer, poll())).status == 200


async def test_that_less_is_allowed_is_heeded(node: FakeNode, rules: RulesGate, nursery: trio.Nursery) -> None:
    peer = Peer(node, nursery)
    assert "denied" not in (await ask(peer, poll())).json
    rules.may("u1", read=["b"])
    assert (await ask(peer, poll())).json["denied"] == ["a"]
    assert (await ask(peer, poll())).json["denied"] == ["a"]
    rules.may("u1", read=["a"])
    assert "denied" not in (await ask(peer, poll())).json


async def test_that_it_has_expired_is_heeded(
    node: FakeNode, rules: RulesGate, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    rules.issue("token", "u1", until=trio.current_time() + 10)
    peer = Peer(node, nursery)
    assert (await ask(peer, poll())).json["credentials_ms"] == 10_000
    mock_clock.jump(9)
    assert (await ask(peer, poll())).json["credentials_ms"] == 1_000
    mock_clock.jump(0.1)
    refused = await ask(peer, poll())
    assert (refused.status, refused.json["why"]) == (401, "expired")


async def test_another_token_and_none_are_others(node: FakeNode, rules: RulesGate, nursery: trio.Nursery) -> None:
    rules.may("u2", read=["b"])
    rules.issue("other", "u2")
    peer = Peer(node, nursery)
    assert "denied" not in (await ask(peer, poll())).json
    assert (await ask(peer, poll("other"))).json["denied"] == ["a"]
    assert "denied" not in (await ask(peer, poll())).json
    assert (await ask(peer, poll("bad"))).status == 401
    none = poll().replace(b"Authorization: Bearer token\r\n", b"")
    assert (await ask(peer, none)).json["why"] == "missing"
    assert "denied" not in (await ask(peer, poll())).json


async def test_a_long_head_is_looked_up_again(node: FakeNode, rules: RulesGate, nursery: trio.Nursery) -> None:
    peer = Peer(node, nursery)
    long = poll("token", f"X: {2_048 * 'x'}")
    assert [(await ask(peer, long)).status for _ in range(2)] == [200] * 2
    assert rules.asked == 2


async def test_what_a_callout_says_is_not_held_for_a_connection(
    node: FakeNode, rules: RulesGate, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify, entry = rules.identify, Entry("token", "digest", "peer")

    def of_callout(token: Credentials, now: float, *more: object) -> Identity:
        found = identify(token, now)
        return Identity(found.issuer, found.subject, found.grant, generation=found.generation, evidence=entry.hold())

    monkeypatch.setattr(rules, "identify", of_callout)
    peer = Peer(node, nursery)
    assert [(await ask(peer, poll())).status for _ in range(2)] == [200] * 2
    assert rules.asked == 2
