"""Credentials over HTTP: who may ask for what, and what a refusal tells (P-AUTH-8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from softstate.store.base import Committed, Write
from tests.kit.fake_node import Answer, FakeNode, Peer
from tests.kit.rules_gate import RulesGate
from tests.server.http.conftest import ADMIN, U1
from tests.server.http.test_upgrade import handshake


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """Return all of an answer that may tell something."""
    return answer.status, {name: value for name, value in answer.headers.items() if name != "date"}, answer.body


ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/v1/topics/a", None),
    ("PUT", "/v1/topics/a", 1),
    ("DELETE", "/v1/topics/a", None),
    ("GET", "/v1/topics", None),
    ("POST", "/v1/poll", {"topics": {"a": 0}}),
    ("POST", "/v1/publish", {"changes": []}),
    ("GET", "/v1/whoami", None),
    ("GET", "/v1/status", None),
    ("GET", "/v1/explain?client=shop", None),
    ("GET", "/metrics", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "missing"),
        ({"Authorization": "Bearer bad"}, "signature"),
        ({"Authorization": "Basic dTpw"}, "malformed"),
        ({"Authorization": "Bearer "}, "malformed"),
        ({"Authorization": "token"}, "malformed"),
    ],
)
async def test_nothing_is_answered_without_good_credentials(
    node: FakeNode, method: str, path: str, body: Any, headers: dict[str, str], why: str
) -> None:
    before = node.position
    answer = await node.ask(method, path, body, **headers)
    assert (answer.status, answer.code, answer.json["why"]) == (401, "unauthenticated", why)
    failed = "" if why == "missing" else f', error="invalid_token", error_description="{why}"'
    assert answer["www-authenticate"] == f'Bearer realm="softstate"{failed}'
    assert answer["cache-control"] == "no-store"
    assert "softstate-position" not in answer.headers, "it would tell how much is published"
    assert node.position == before


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/nowhere", {}, 404),
        ("GET", "/v1/poll", {}, 405),
        ("OPTIONS", "/v1/poll", {}, 204),
        ("GET", "/v1/topics/a", {"Origin": "https://other.example"}, 403),
        ("GET", "/v1/events?ticket=x&other=1", {}, 400),
        ("GET", "/v1/events?topic=a&ticket=x", {"Authorization": "Bearer bad"}, 400),
    ],
)
async def test_what_is_answered_before_credentials_are_looked_at_tells_no_position(
    node: FakeNode, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await node.ask(method, path, **headers)
    assert answer.status == status
    assert "softstate-position" not in answer.headers, "it would tell how much is published"
    assert "softstate-lag-ms" not in answer.headers


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_ask_for_no_credentials(node: FakeNode, path: str) -> None:
    assert (await node.ask("GET", path)).status == 200
    assert (await node.ask("GET", path, Authorization="Bearer bad")).status == 200


async def test_a_preflight_asks_for_no_credentials_and_allows_them(rules: RulesGate) -> None:
    page = "http://good.example"
    node = FakeNode(authority=rules, origins=(page,))
    answer = await node.ask("OPTIONS", "/v1/poll", Origin=page, Access_Control_Request_Method="POST")
    assert answer.status == 204
    assert "Authorization" in answer["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    refused = await node.ask("GET", "/v1/topics/a", Origin=page)
    assert "WWW-Authenticate" in refused["access-control-expose-headers"]
    assert refused["access-control-allow-origin"] == page


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_an_administrator_may_all(node: FakeNode, method: str, path: str, body: Any) -> None:
    await node.set("a", 1)
    assert (await node.ask(method, path, body, **ADMIN)).status == 200


@pytest.mark.parametrize("path", ["/v1/status", "/metrics"])
async def test_what_a_node_holds_is_for_administrators(node: FakeNode, path: str) -> None:
    answer = await node.ask("GET", path, **U1)
    assert (answer.status, answer.code) == (403, "denied")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/topics/x", None),
        ("GET", "/v1/topics/x?wait_ms=50", None),
        ("PUT", "/v1/topics/x", 1),
        ("DELETE", "/v1/topics/x", None),
        ("GET", "/v1/topics?prefix=x/", None),
        ("POST", "/v1/poll", {"topics": {"x": 0}, "prefixes": {"x/": 0}}),
        ("POST", "/v1/publish", {"changes": [{"topic": "x", "value": 1}]}),
    ],
)
@pytest.mark.parametrize("condition", [{}, {"If_None_Match": "*"}])
async def test_a_refusal_is_the_same_whether_the_topic_exists(
    rules: RulesGate, method: str, path: str, body: Any, condition: dict[str, str]
) -> None:
    answers = []
    for topic in ("x", "y"):
        node = FakeNode(authority=rules)
        await node.set(topic, 1)
        answers.append(told(await node.ask(method, path, body, **U1, **condition)))
    assert answers[0] == answers[1]
    assert answers[0][0] in (200, 403)


async def test_a_list_says_what_may_be_listed_instead(node: FakeNode) -> None:
    answer = await node.ask("GET", "/v1/topics?prefix=c/", **U1)
    assert (answer.status, answer.code) == (403, "denied")
    assert "you may read 'c/d'" in answer.json["message"]
    assert (await node.ask("GET", "/v1/topics?prefix=b/", **U1)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/v1/topics/x", "you may not read 'x' (no token was presented)"),
        ("GET", "/v1/topics", "you may not read '/' (no token was presented); you may read 'public/': ask for that"),
        ("PUT", "/v1/topics/x", "you may not publish 'x': no token was presented"),
        (
            "GET",
            "/v1/status",
            "this is for administrators (no token was presented): the rules of this node have to grant admin",
        ),
    ],
)
async def test_a_refusal_says_that_no_token_was_presented(
    rules: RulesGate, node: FakeNode, method: str, path: str, said: str
) -> None:
    rules.may("", read=["public/"])
    answer = await node.ask(method, path, 1 if method == "PUT" else None)
    assert (answer.status, answer.json["message"]) == (403, said)
    assert "no token" not in (await node.ask(method, path, 1 if method == "PUT" else None, **U1)).json["message"]


async def test_a_poll_answers_for_what_may_be_read(node: FakeNode) -> None:
    for topic in ("a", "x", "b/y"):
        await node.set(topic, 1)
    body = {"topics": {"a": 0, "x": 0}, "prefixes": {"b/": 0, "/": 0}}
    answer = await node.ask("POST", "/v1/poll", body, **U1)
    assert [change["topic"] for change in answer.json["changes"]] == ["a", "b/y"]
    assert answer.json["denied"] == ["x", "/"]
    assert answer.json["narrow"] == {"/": ["a", "b/", "c/d"]}


async def test_each_change_of_a_batch_is_judged_by_itself(node: FakeNode) -> None:
    changes = [{"topic": topic, "value": 1} for topic in ("a", "x", "w", "a//")]
    answer = await node.ask("POST", "/v1/publish", {"changes": changes}, **U1)
    results = answer.json["results"]
    assert [result.get("code", "") for result in results] == ["", "denied", "", "invalid"]
    assert results[2]["version"]


@pytest.mark.parametrize(
    ("headers", "body"), [({"If_None_Match": "*"}, None), ({}, {"changes": [{"topic": "w", "value": 2, "expect": 0}]})]
)
async def test_a_conflict_tells_the_version_only_to_readers(node: FakeNode, headers: dict[str, str], body: Any) -> None:
    version = await node.set("w", 1)
    for who, current in ((U1, None), (ADMIN, version)):
        if body is None:
            answer = await node.ask("PUT", "/v1/topics/w", 2, **headers, **who)
            error = answer.json
        else:
            (error,) = (await node.ask("POST", "/v1/publish", body, **who)).json["results"]
        assert (error["code"], error.get("current")) == ("conflict", current)
        assert (str(version) in error["message"]) is (current is not None)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"If_None_Match": "*"}, None),
        ({"If_None_Match": "*", "Idempotency_Key": "k"}, None),
        ({}, {"changes": [{"topic": "w", "value": 2, "expect": 0}]}),
    ],
)
@pytest.mark.parametrize("lost", ["right", "token"])
async def test_a_conflict_is_told_by_the_rules_that_are_in_force_then(
    node: FakeNode, rules: RulesGate, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], body: Any, lost: str
) -> None:
    await node.set("w", 1)
    rules.may("u1", read=["w"], write=["w"])
    publish = node.store.publish

    async def meanwhile(changes: Sequence[Write]) -> Committed:
        if lost == "right":
            rules.may("u1", write=["w"])
        else:
            rules.revoke("token")
        return await publish(changes)

    monkeypatch.setattr(node.store, "publish", meanwhile)
    if body is None:
        error = (await node.ask("PUT", "/v1/topics/w", 2, **headers, **U1)).json
    else:
        (error,) = (await node.ask("POST", "/v1/publish", body, **U1)).json["results"]
    assert (error["code"], error.get("current")) == ("conflict", None)


async def test_a_repeated_publish_tells_the_version_only_to_readers(node: FakeNode) -> None:
    first = await node.ask("PUT", "/v1/topics/w", 1, Idempotency_Key="k", **U1)
    assert first.json["version"]
    again = await node.ask("PUT", "/v1/topics/w", 1, Idempotency_Key="k", **U1)
    assert (again.json["repeated"], again.json["version"]) == (True, 0)
    assert "etag" not in again.headers
    reader = await node.ask("PUT", "/v1/topics/w", 1, Idempotency_Key="k", **ADMIN)
    assert reader.json["version"] == first.json["version"]


async def test_a_deletion_of_nothing_tells_no_tombstone(node: FakeNode) -> None:
    await node.ask("PUT", "/v1/topics/w", 1, **ADMIN)
    await node.ask("DELETE", "/v1/topics/w", **ADMIN)
    assert (await node.ask("DELETE", "/v1/topics/w", **U1)).json["version"] == 0
    assert (await node.ask("DELETE", "/v1/topics/w", **ADMIN)).json["version"]


async def test_whoami_tells_whose_the_credentials_are_and_what_they_allow(
    rules: RulesGate, autojump_clock: trio.testing.MockClock
) -> None:
    assert (await FakeNode().ask("GET", "/v1/whoami")).json == {
        "issuer": "", "subject": "", "admin": True, "read": [], "write": [],
    }  # fmt: skip
    rules.issue("brief", "u1", trio.current_time() + 60)
    answer = await FakeNode(authority=rules).ask("GET", "/v1/whoami", Authorization="Bearer brief")
    assert answer.json["credentials_ms"] == int(answer["softstate-credentials-ms"]) == 60_000
    assert (answer.json["subject"], answer.json["read"], answer.json["write"]) == (
        "u1", ["a", "b/", "c/d"], ["a", "w"],
    )  # fmt: skip


async def test_polls_tell_how_long_the_credentials_are_good(
    rules: RulesGate, autojump_clock: trio.testing.MockClock
) -> None:
    node = FakeNode(authority=rules)
    rules.issue("brief", "u1", trio.current_time() + 60)
    for who, left_ms in (({"Authorization": "Bearer brief"}, 60_000), (U1, None)):
        answer = await node.ask("POST", "/v1/poll", {"topics": {"a": 0}}, **who)
        assert answer.json.get("credentials_ms") == left_ms
        assert answer.headers.get("softstate-credentials-ms") == (None if left_ms is None else str(left_ms))


async def test_a_node_that_checks_no_credentials_ignores_them() -> None:
    answer = await FakeNode().ask("GET", "/v1/topics", Authorization="nonsense")
    assert answer.status == 200
    assert "softstate-credentials-ms" not in answer.headers


# The handshake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("presented", "status"), [("Bearer token", 101), ("Bearer bad", 401), ("Basic x", 401), (None, 101)]
)
async def test_a_handshake_may_present_a_token(
    node: FakeNode, nursery: trio.Nursery, presented: str | None, status: int
) -> None:
    request = handshake(Authorization=presented)
    if status == 401:
        (answer,) = await node.exchange(request)
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert not node.upgrades
        return
    await Peer(node, nursery).send(request)
    ((shaken, _),) = node.upgrades
    assert shaken.presented.credentials == ("token" if presented else None)
