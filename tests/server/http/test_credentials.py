"""Credentials over HTTP: who may ask for what, and what a refusal tells (P-AUTH-8)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from softstate.auth.authority import RulesAuthority
from softstate.auth.policy_file import read_policy
from softstate.auth.presented import Presented, Vouched
from softstate.errors import Unavailable
from softstate.model import Page, Query
from softstate.server.http.routes import RULES_CHANGES_MAX
from softstate.store.base import Committed, Write
from tests.kit.fake_node import Answer, FakeNode, Peer
from tests.kit.rules_gate import RulesGate
from tests.server.http.test_upgrade import handshake

U1 = {"Authorization": "Bearer token"}
ADMIN = {"Authorization": "bearer root"}


@pytest.fixture
def rules() -> RulesGate:
    rules = RulesGate()
    rules.may("u1", read=["a", "b/", "c/d"], write=["a", "w"])
    rules.may("root", admin=True)
    rules.issue("token", "u1")
    rules.issue("root", "root")
    return rules


@pytest.fixture
async def node(rules: RulesGate) -> FakeNode:
    return FakeNode(authority=rules)


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


# Rules that change while a request is answered ------------------------------------------------------------------------


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
    rules: RulesGate, node: FakeNode
) -> None:
    def revoke() -> None:
        for scope, identity in node.http.held():
            assert identity.subject == "u1"
            scope.cancel()
        rules.revoke("token")

    began = trio.current_time()
    assert (await held(node, revoke, changes=False)).status == 401
    assert trio.current_time() < began + 1
    assert node.http.held() == []


@pytest.mark.parametrize(("lost", "status"), [("right", 403), ("token", 401)])
async def test_a_request_is_not_held_that_lost_its_credentials_while_the_topic_was_read(
    rules: RulesGate, node: FakeNode, lost: str, status: int
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
    assert trio.current_time() < began + 1


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


# The handshake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("presented", "status"), [("Bearer token", 101), ("Bearer bad", 401), ("Basic x", 401), (None, 101)]
)
async def test_a_handshake_may_present_a_token(
    node: FakeNode, nursery: trio.Nursery, presented: str | None, status: int
) -> None:
    authorization = f"Authorization: {presented}\r\n" if presented else ""
    request = (
        "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: softstate.v1.json\r\n{authorization}\r\n"
    )
    if status == 401:
        (answer,) = await node.exchange(request.encode())
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert not node.upgrades
        return
    await Peer(node, nursery).send(request.encode())
    ((handshake, _),) = node.upgrades
    assert handshake.presented.credentials == ("token" if presented else None)


READS = [
    route for route in ROUTES if route[1] in ("/v1/topics/a", "/v1/topics", "/v1/poll") and route[0] in ("GET", "POST")
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


# Headers of proxies ---------------------------------------------------------------------------------------------------

PROXY = """
[auth.proxy]
trusted = ["10.0.0.1"]
subject_header = "Softstate-Subject"
grants_header = "Softstate-Grants"
[[auth.token]]
name = "ci"
sha256 = "DIGEST"
read = ["builds/"]
[[allow]]
who = "signed-in"
read = ["users/{sub}/"]
[[allow]]
who = "anyone"
read = ["public/"]
""".replace("DIGEST", sha256(b"sst_" + b"c" * 43).hexdigest())
CI = {"Authorization": "Bearer sst_" + "c" * 43}


def behind_proxy(content: str = PROXY) -> FakeNode:
    return FakeNode(authority=RulesAuthority(read_policy(content, "auth.toml").policy))


@pytest.mark.parametrize(
    ("peer", "headers", "subject", "why"),
    [
        ("10.0.0.1:5", {"Softstate-Subject": "u1"}, "u1", None),
        ("10.0.0.1:5", {"Softstate-Subject": "zoë".encode().decode("latin-1")}, "zoë", None),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", **CI}, "ci", None),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", "Softstate-Grants": "{}"}, "u1", None),
        ("10.0.0.1:5", {}, "", None),
        ("10.0.0.2:5", {}, "", None),
        ("10.0.0.2:5", CI, "ci", None),
        ("10.0.0.2:5", {"Softstate-Subject": "u1"}, None, "untrusted"),
        ("10.0.0.2:5", {"Softstate-Subject": "u1", **CI}, None, "untrusted"),
        ("10.0.0.2:5", {"Softstate-Grants": "{}"}, None, "untrusted"),
        ("peer", {"Softstate-Subject": "u1", "X-Forwarded-For": "10.0.0.1"}, None, "untrusted"),
        ("10.0.0.1:5", {"Softstate-Grants": "{}"}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": "zoë"}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": ""}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", "Softstate-Grants": "x"}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", "Authorization": "Bearer bad"}, None, "malformed"),
    ],
)
async def test_a_proxy_that_is_trusted_may_say_who_a_request_is_from(
    peer: str, headers: dict[str, str], subject: str | None, why: str | None
) -> None:
    node = behind_proxy()
    node.peer_name = peer
    answer = await node.ask("GET", "/v1/whoami", None, **headers)
    assert answer.status == (401 if why else 200)
    assert answer.json.get("why") == why
    assert answer.json.get("subject") == subject


async def test_a_header_from_elsewhere_is_refused_with_the_name_of_the_setting() -> None:
    answer = await behind_proxy().ask("GET", "/v1/topics/public/x", None, Softstate_Subject="u1")
    assert answer.json["message"] == (
        "peer may not say who a request is from: leave out the header softstate-subject, or name that address in"
        " 'trusted' of [auth.proxy]"
    )


@pytest.mark.parametrize(("peer", "status"), [("10.0.0.1:5", 101), ("10.0.0.2:5", 401)])
async def test_a_handshake_may_come_with_the_header_of_a_proxy(nursery: trio.Nursery, peer: str, status: int) -> None:
    node = behind_proxy()
    node.peer_name = peer
    request = (
        "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: softstate.v1.json\r\nSoftstate-Subject: u1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
    )
    if status == 401:
        (answer,) = await node.exchange(request.encode())
        assert (answer.status, answer.json["why"]) == (401, "untrusted")
        return
    await Peer(node, nursery).send(request.encode())
    ((handshake, _),) = node.upgrades
    assert handshake.presented == Presented(Vouched("u1", None, "10.0.0.1"), "192.0.2.1")


async def test_the_log_tells_the_address_of_the_client_and_not_that_of_its_proxy() -> None:
    node = behind_proxy()
    node.peer_name = "10.0.0.1:5"
    with capture_logs() as lines:
        await node.ask("GET", "/v1/topics/x", None, X_Forwarded_For="1.1.1.1, 192.0.2.1")
        await node.ask("GET", "/v1/topics/x", None, X_Forwarded_For="192.0.2.1", Authorization="Bearer bad")
        await node.ask("GET", "/v1/topics/x", None, X_Forwarded_For="192.0.2.2", Authorization="Basic bad")
        node.peer_name = "10.0.0.2:5"
        await node.ask("PUT", "/v1/topics/x", 1, X_Forwarded_For="192.0.2.1", **CI)
    assert [line["peer"] for line in lines] == ["192.0.2.1", "192.0.2.1", "10.0.0.2"]


async def test_a_node_without_a_proxy_takes_no_notice_of_its_headers(node: FakeNode) -> None:
    answer = await node.ask("GET", "/v1/whoami", None, Softstate_Subject="root", **U1)
    assert answer.json["subject"] == "u1"


# Tokens about which somebody has to be asked ------------------------------------------------------------------------


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
