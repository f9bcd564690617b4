"""Rules and revocations that change while a request over HTTP is answered (P-AUTH-8, P-AUTH-9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.model import Page, Query
from softstate.server.http.routes import RULES_CHANGES_MAX
from tests.kit.fake_node import Answer, FakeNode, Peer
from tests.kit.rules_gate import RulesGate
from tests.server.http.conftest import ADMIN, U1


async def held(
    node: FakeNode, then: Callable[[], None], topic: str = "a", *, changes: bool = True, **headers: Any
) -> Answer:
    """Hold a GET of a topic, change something, and let it be answered, by a change of the topic if it `changes`."""
    found: list[Answer] = []

    async def ask() -> None:
        found.append(await node.ask("GET", f"/v1/topics/{topic}?wait_ms=1000", **U1, **headers))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        then()
        if changes:
            await node.set(topic, 2)
    return found[0]


async def test_a_held_request_is_judged_again_when_it_is_answered(rules: RulesGate, node: FakeNode) -> None:
    assert (await held(node, lambda: None)).status == 200
    answer = await held(node, lambda: rules.may("u1", read=["a", "d"]), "b/x")
    assert (answer.status, answer.code) == (403, "denied")
    answer = await held(node, lambda: rules.may("u1", read=["d"]), "d")
    assert answer.status == 200
    rules.may("u1", read=["e"])
    assert (await held(node, lambda: rules.revoke("token"), "e")).status == 401


@pytest.mark.parametrize(("lost", "expected"), [("right", (403, "denied")), ("token", (401, "unauthenticated"))])
async def test_a_refusal_that_tells_of_the_topic_is_judged_again_too(
    node: FakeNode, rules: RulesGate, lost: str, expected: tuple[int, str]
) -> None:
    await node.set("a", 1)
    tag = (await node.ask("GET", "/v1/topics/a", **U1)).headers["etag"]
    seen: dict[str, Any] = {"If_Match": tag, "If_None_Match": tag}
    answer = await held(node, lambda: None, **seen)
    assert (answer.status, "current" in answer.json) == (412, True)
    tag = (await node.ask("GET", "/v1/topics/a", **U1)).headers["etag"]
    seen = {"If_Match": tag, "If_None_Match": tag}
    answer = await held(node, (lambda: rules.may("u1")) if lost == "right" else (lambda: rules.revoke("token")), **seen)
    assert (answer.status, answer.code) == expected
    assert "current" not in answer.json


async def test_a_held_request_whose_credentials_are_revoked_is_answered_at_once(
    rules: RulesGate, node: FakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    def revoke() -> None:
        for scope, identity in node.http.held():
            assert identity.subject == "u1"
            scope.cancel()
        rules.revoke("token")

    began = trio.current_time()
    assert (await held(node, revoke, changes=False)).status == 401
    assert trio.current_time() == began
    assert node.http.held() == []


@pytest.mark.parametrize(("lost", "status"), [("right", 403), ("token", 401)])
async def test_a_request_is_not_held_that_lost_its_credentials_while_the_topic_was_read(
    rules: RulesGate, node: FakeNode, autojump_clock: trio.testing.MockClock, lost: str, status: int
) -> None:
    read = node.read

    async def read_slowly(query: Query) -> Page:
        page = await read(query)
        if lost == "right":
            rules.may("u1")
        elif "token" in rules.tokens:
            rules.revoke("token")
        return page

    node.read = read_slowly  # type: ignore[method-assign]
    began = trio.current_time()
    assert (await node.ask("GET", "/v1/topics/a?wait_ms=3000", **U1)).status == status
    assert trio.current_time() == began


async def test_a_held_request_ends_with_its_credentials(
    rules: RulesGate, autojump_clock: trio.testing.MockClock
) -> None:
    node = FakeNode(authority=rules)
    rules.issue("token", "u1", trio.current_time() + 5)
    began = trio.current_time()
    answer = await node.ask("GET", "/v1/topics/a?wait_ms=20000", **U1)
    assert trio.current_time() - began == pytest.approx(5)
    assert (answer.status, answer.json["why"]) == (401, "expired")


async def test_a_poll_is_read_again_if_the_rules_change_meanwhile(rules: RulesGate, node: FakeNode) -> None:
    for topic in ("a", "b/y"):
        await node.set(topic, 1)
    read = node.read
    changed: list[Query] = []

    async def read_slowly(query: Query) -> Page:
        page = await read(query)
        if not changed:
            rules.may("u1", read=["a"])
        changed.append(query)
        return page

    node.read = read_slowly  # type: ignore[method-assign]
    answer = await node.ask("POST", "/v1/poll", {"topics": {"a": 0}, "prefixes": {"b/": 0}}, **U1)
    assert [change["topic"] for change in answer.json["changes"]] == ["a"]
    assert answer.json["denied"] == ["b/"]
    assert [dict(query.prefixes) for query in changed] == [{"b/": 0}, {}]


async def test_nothing_is_told_while_the_rules_change_with_each_read(rules: RulesGate, node: FakeNode) -> None:
    await node.set("a", 1)
    read = node.read
    reads: list[Query] = []

    async def read_slowly(query: Query) -> Page:
        reads.append(query)
        rules.may("u1", read=["a", f"b/{len(reads)}"])
        return await read(query)

    node.read = read_slowly  # type: ignore[method-assign]
    answer = await node.ask("GET", "/v1/topics/a", **U1)
    assert (answer.status, answer.code, len(reads)) == (503, "unavailable", 1 + RULES_CHANGES_MAX)


async def test_a_body_that_takes_long_is_judged_by_the_present_rules(
    rules: RulesGate, node: FakeNode, nursery: trio.Nursery
) -> None:
    body = b'{"changes":[{"topic":"a","value":1}]}'
    for path, method, content in (("/v1/topics/a", "PUT", b"1"), ("/v1/publish", "POST", body)):
        rules.issue("token", "u1")
        rules.may("u1", read=["a"], write=["a"])
        peer = Peer(node, nursery)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n"
        await peer.send(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
        rules.revoke("token")
        await peer.send(content)
        assert (await peer.answer()).status == 401
        await peer.end()


# Revocations of which a node has not heard yet ------------------------------------------------------------------------


READS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/topics/a", None),
    ("GET", "/v1/topics", None),
    ("POST", "/v1/poll", {"topics": {"a": 0}}),
]


@pytest.mark.parametrize(("method", "path", "body"), READS)
async def test_a_read_waits_until_the_node_has_heard_what_was_revoked(
    node: FakeNode, method: str, path: str, body: Any
) -> None:
    node.heard = False
    assert (await node.ask(method, path, body, **ADMIN)).status in (200, 404)
    assert node.heard
    node.heard, node.deaf = False, Unavailable("the feed of this node lags the store", retry_ms=500)
    answer = await node.ask(method, path, body, **ADMIN)
    assert (answer.status, answer.json["code"]) == (503, "unavailable")


async def test_what_is_revoked_meanwhile_is_not_told(node: FakeNode, rules: RulesGate) -> None:
    node.heard = False
    hear = node.hear

    async def revoking() -> None:
        await hear()
        rules.revoke("token")

    node.hear = revoking  # type: ignore[method-assign]
    await node.set("a", 1)
    answer = await node.ask("GET", "/v1/topics/a", None, **U1)
    assert answer.status == 401
    assert b'"a"' not in answer.body


@pytest.mark.parametrize(("method", "path", "body"), READS)
async def test_a_node_that_looks_at_no_credentials_waits_for_nothing(method: str, path: str, body: Any) -> None:
    node = FakeNode()
    node.heard, node.deaf = False, Unavailable("lags", retry_ms=500)
    assert (await node.ask(method, path, body)).status in (200, 404)
