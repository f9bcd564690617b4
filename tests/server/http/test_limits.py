"""Limits of rates over HTTP: 429, `Retry-After`, and which request counts as what (P-AUTH-10)."""

from __future__ import annotations

from typing import Any

import pytest

from softstate.auth.limits import NamespaceLimit, RateLimits
from softstate.server.auth.gate import NodeGate
from tests.kit.fake_node import Answer, FakeNode
from tests.kit.rules_gate import RulesGate

U1 = {"Authorization": "Bearer u1"}
U2 = {"Authorization": "Bearer u2"}


@pytest.fixture
def rules() -> RulesGate:
    rules = RulesGate()
    for subject in ("u1", "u2"):
        rules.issue(subject, subject)
        rules.may(subject, admin=True)
    rules.may("", admin=True)
    return rules


def limited(rules: RulesGate, limits: RateLimits, *, anonymous: bool = False) -> FakeNode:
    node = FakeNode(authority=rules)
    node.gate = NodeGate(rules, lambda: 50.0, lambda: 0.0, limits=limits, limit_anonymous=anonymous)
    node.http._context.gate = node.gate
    return node


def is_refused(answer: Answer, limit: str, retry_ms: int, retry_after: str) -> bool:
    told = (answer.status, answer.code, answer.json["why"], answer.json["retry_ms"], answer["retry-after"])
    return told == (429, "overloaded", limit, retry_ms, retry_after)


PUBLISHES: list[tuple[str, str, Any, dict[str, str]]] = [
    ("PUT", "/v1/topics/a", 1, {}),
    ("PUT", "/v1/topics/a", 1, {"Idempotency-Key": "k"}),
    ("DELETE", "/v1/topics/a", None, {}),
    ("POST", "/v1/publish", {"changes": [{"topic": "a", "value": 1}]}, {}),
]


@pytest.mark.parametrize(("method", "path", "body", "headers"), PUBLISHES)
async def test_a_publish_too_many_is_refused_and_not_made(
    rules: RulesGate, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    node = limited(rules, RateLimits(publishes_per_s=2))
    for _ in range(2):
        assert (await node.ask(method, path, body, **U1, **headers)).status == 200
    before = node.position
    answer = await node.ask(method, path, body, **U1, **headers)
    assert is_refused(answer, "publishes_per_s", 500, "1")
    assert node.position == before
    assert (await node.ask(method, path, body, **U2, **headers)).status == 200
    for _ in range(4):
        assert (await node.ask(method, path, body, **headers)).status == 200
    assert node.gate.limited == {"publishes_per_s": 1}


async def test_of_a_batch_all_from_the_first_one_too_many_on_are_refused(rules: RulesGate) -> None:
    node = limited(rules, RateLimits(publishes_per_s=3))
    rules.namespaces = (NamespaceLimit("b/", publishes_per_s=1),)
    changes = [{"topic": topic, "value": 1} for topic in ("a", "b/1", "b/2", "a", "$", "a")]
    answer = await node.ask("POST", "/v1/publish", {"changes": changes}, **U1)
    assert answer.status == 200
    results = answer.json["results"]
    assert [result.get("code") for result in results[:4]] == [None, None, "overloaded", "overloaded"]
    assert {result["retry_ms"] for result in results[2:4]} == {1_000}
    assert "'b/'" in results[3]["message"]
    assert (await node.ask("PUT", "/v1/topics/a", 1, **U1)).status == 200, "what was refused is not counted"
    assert (await node.ask("PUT", "/v1/topics/a", 1, **U1)).status == 429


async def test_bytes_count_as_cbor(rules: RulesGate) -> None:
    node = limited(rules, RateLimits(publish_bytes_per_s=200))
    assert (await node.ask("PUT", "/v1/topics/a", "x" * 150, **U1)).status == 200
    answer = await node.ask("PUT", "/v1/topics/a", "x" * 98, **U1)
    assert is_refused(answer, "publish_bytes_per_s", 260, "1")
    assert (await node.ask("PUT", "/v1/topics/a", "x" * 40, **U1)).status == 200


POLLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/poll", {"topics": {"a": 0}}),
    ("POST", "/v1/poll", {"prefixes": {"b/": 0}}),
    ("GET", "/v1/topics", None),
    ("GET", "/v1/topics/a", None),
]


@pytest.mark.parametrize(("method", "path", "body"), POLLS)
async def test_a_poll_too_many_is_refused(rules: RulesGate, method: str, path: str, body: Any) -> None:
    node = limited(rules, RateLimits(polls_per_s=2))
    await node.set("a", 1)
    for _ in range(2):
        assert (await node.ask(method, path, body, **U1)).status == 200
    assert is_refused(await node.ask(method, path, body, **U1), "polls_per_s", 500, "1")
    assert (await node.ask(method, path, body, **U2)).status == 200
    assert (await node.ask(method, path, body)).status == 200
    for other in ("/v1/whoami", "/v1/status"):
        assert (await node.ask("GET", other, **U1)).status == 200


async def test_a_list_of_many_pages_comes_to_its_end(rules: RulesGate) -> None:
    node = limited(rules, RateLimits(polls_per_s=1))
    for number in range(9):
        await node.set(f"t/{number}", number)
    seen, cursor = 0, ""
    while True:
        answer = await node.ask("GET", f"/v1/topics?prefix=t/&limit=1{cursor}", **U1)
        assert answer.status == 200
        seen += len(answer.json["changes"])
        if not answer.json.get("more"):
            break
        cursor = f"&cursor={answer.json['cursor']}"
    assert seen == 9
    assert (await node.ask("GET", "/v1/topics?prefix=t/&limit=1", **U1)).status == 429


async def test_those_without_credentials_are_limited_by_address_if_that_is_asked_for(rules: RulesGate) -> None:
    node = limited(rules, RateLimits(publishes_per_s=1), anonymous=True)
    assert node.gate.asks_address
    assert (await node.ask("PUT", "/v1/topics/a", 1)).status == 200
    assert (await node.ask("PUT", "/v1/topics/a", 1)).status == 429
    assert (await node.ask("PUT", "/v1/topics/a", 1, **U1)).status == 200
