"""Requests over HTTP that carry a parameter or a field which their route does not know are refused by name."""

from typing import Any
from urllib.parse import quote

import pytest

from softstate.server.http.routes import ROUTES
from softstate.wire import CBOR
from softstate.wire.levels import LEVEL
from softstate.wire.messages import Batch, BatchChange, Poll
from tests.kit.fake_node import Answer, FakeNode
from tests.server.http.test_upgrade import handshake


@pytest.mark.parametrize(
    ("method", "target", "name", "nearest"),
    [
        ("GET", "/v1/topics?prfix=a/", "prfix", "prefix"),
        ("GET", "/v1/topics?Prefix=a/", "Prefix", "prefix"),
        ("GET", "/v1/topics?limt=5", "limt", "limit"),
        ("GET", "/v1/topics?atleast=5", "atleast", "at_least"),
        ("GET", "/v1/topics?since=0&sinse=1", "sinse", "since"),
        ("GET", "/v1/topics/a?wait=5", "wait", "wait_ms"),
        ("GET", "/v1/topics/a?at-least=5", "at-least", "at_least"),
        ("HEAD", "/v1/topics/a?wait=5", "wait", "wait_ms"),
        ("PUT", "/v1/topics/a?expct=5", "expct", "expect"),
        ("PUT", "/v1/topics/a?expected=5", "expected", "expect"),
        ("DELETE", "/v1/topics/a?EXPECT=5", "EXPECT", "expect"),
        ("GET", "/v1/topics?=5", "", None),
        ("GET", "/v1/topics?wait_ms=5", "wait_ms", None),
        ("GET", "/v1/topics/a?ttl_ms=5", "ttl_ms", None),
        ("PUT", "/v1/topics/a?key=5", "key", None),
        ("PUT", "/v1/topics/a?wait_ms=5", "wait_ms", None),
        ("POST", "/v1/poll?wait_ms=5", "wait_ms", None),
        ("POST", "/v1/publish?expect=5", "expect", None),
        ("GET", "/v1/status?x", "x", None),
        ("GET", "/metrics?name=x", "name", None),
        ("GET", "/v1/topics?%70refixx=a/", "prefixx", "prefix"),
        ("GET", "/v1/topics?a%0Ab=1", "a\nb", None),
    ],
)
async def test_an_unknown_parameter_is_named_with_the_nearest_known_one(
    method: str, target: str, name: str, nearest: str | None
) -> None:
    node = FakeNode()
    version = await node.set("a", 1)
    body = b"{}" if method in ("PUT", "POST") else None
    answer = await node.ask(method, target, body)
    assert answer.status == 400
    assert node.position.revision == version
    if method == "HEAD":
        return
    assert answer.code == "invalid"
    message = answer.json["message"]
    assert f"unknown query parameter {name!r}" in message
    guess = None if nearest is None else f"did you mean {nearest!r}?"
    assert (guess in message) if guess else ("did you mean" not in message)
    known = ROUTES["/v1/topics/{topic}" if target.startswith("/v1/topics/") else target.partition("?")[0]]
    for each in known[method].parameters:
        assert each in message


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/v1/topics?since=1&since=1", "'since' is given twice"),
        ("/v1/topics?since=1&%73ince=2", "'since' is given twice"),
        ("/v1/topics?since=", "since must be a whole number"),
        ("/v1/topics?since", "since must be a whole number"),
        ("/v1/topics?since=1.0", "since must be a whole number"),
        ("/v1/topics?since=+1", "since must be a whole number"),
        ("/v1/topics?since=-1", "since must be a whole number"),
        ("/v1/topics?since=%D9%A1", "since must be a whole number"),
        ("/v1/topics?since=9007199254740992", "since must be a whole number"),
        ("/v1/topics?limit=0", "limit must be a whole number from 1 to 1024"),
        ("/v1/topics?limit=1025", "limit must be a whole number from 1 to 1024"),
        ("/v1/topics?limit=99999", "limit must be a whole number from 1 to 1024"),
        ("/v1/topics?limit=01", "limit must be a whole number from 1 to 1024"),
        ("/v1/topics?since=00", "since must be a whole number"),
        ("/v1/topics?since=1%0A", "since must be a whole number"),
        ("/v1/topics?prefix=", "prefix must have 1 to 256 characters"),
        ("/v1/topics?cursor=", "cursor must have 1 to 128 characters"),
        ("/v1/topics?cursor=" + "x" * 129, "cursor must have 1 to 128 characters"),
        ("/v1/topics/a?wait_ms=abc", "wait_ms must be a whole number"),
        ("/v1/topics/a?at_least=", "at_least must be a whole number"),
        ("/v1/topics?prefix=%zz/", "'%' in the request's target"),
    ],
)
async def test_a_wrong_parameter_is_named(target: str, words: str) -> None:
    answer = await FakeNode().ask("GET", target)
    assert (answer.status, answer.code) == (400, "invalid")
    assert words in answer.json["message"]


POLLS: list[tuple[Any, str, str | None]] = [
    ({"topic": {"a": 0}}, "unknown field 'topic': did you mean 'topics'?", "topics"),
    ({"topics": {}, "zzz": 5}, "unknown field 'zzz'", None),
    ({"prefix": {}}, "unknown field 'prefix': did you mean 'prefixes'?", None),
    ({"ttl_ms": 1}, "unknown field 'ttl_ms'", None),
    ({"Topics": {}}, "unknown field 'Topics': did you mean 'topics'?", None),
    ({"": 1}, "unknown field ''", None),
    (
        {"position": {"epoch": "e", "lineage": "l", "revision": 1, "revison": 1}},
        "unknown field 'revison' in position: did you mean 'revision'?",
        None,
    ),
    ({"position": None, "x": None}, "unknown field 'x'", None),
    ({"topics": {"a": "x"}, "tpics": 1}, "unknown field 'tpics'", None),
]


@pytest.mark.parametrize(("body", "words", "_nearest"), POLLS)
@pytest.mark.parametrize("cbor", [False, True])
async def test_an_unknown_field_is_named_with_its_place(
    body: Any, words: str, _nearest: str | None, cbor: bool
) -> None:
    answer = await posted(FakeNode(), "/v1/poll", body, cbor=cbor)
    assert (answer.status, answer.code) == (400, "invalid")
    assert words in answer.json["message"]
    assert "min_revision" in answer.json["message"] or "in position" in words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"change": []}, "unknown field 'change': did you mean 'changes'?"),
        ({"changes": [], "atomic": True}, "unknown field 'atomic'"),
        (
            {"changes": [{"topic": "a", "value": 1}, {"topic": "b", "valu": 1}]},
            "unknown field 'valu' in changes[1]: did you mean 'value'?",
        ),
        (
            {"changes": [{"topic": "a", "value": 1, "expct": 3}]},
            "unknown field 'expct' in changes[0]: did you mean 'expect'?",
        ),
        ({"changes": [{"topic": "a", "value": 1, "ttl_ms": 3}]}, "unknown field 'ttl_ms' in changes[0]"),
        (
            {"changes": [{"topic": "a", "delete": True}]},
            "unknown field 'delete' in changes[0]: did you mean 'deleted'?",
        ),
    ],
)
@pytest.mark.parametrize("cbor", [False, True])
async def test_a_batch_with_an_unknown_field_is_refused_as_a_whole(body: Any, words: str, cbor: bool) -> None:
    node = FakeNode()
    before = await node.store.head()
    answer = await posted(node, "/v1/publish", body, cbor=cbor)
    assert (answer.status, answer.code) == (400, "invalid")
    assert words in answer.json["message"]
    assert await node.store.head() == before


async def posted(node: FakeNode, path: str, body: Any, *, cbor: bool) -> Answer:
    if not cbor:
        return await node.ask("POST", path, body)
    return await node.ask("POST", path, CBOR.dumps(body), Content_Type="application/cbor")


async def test_the_names_of_a_value_are_its_own() -> None:
    node = FakeNode()
    odd = {"expct": 1, "position": {"x": 1}, "changes": [{"y": 1}]}
    assert (await node.ask("PUT", "/v1/topics/a", odd)).status == 200
    assert (await node.ask("GET", "/v1/topics/a")).json == odd
    batch = {"changes": [{"topic": "b", "value": odd, "expect": 0, "key": "k"}, {"topic": "a", "deleted": True}]}
    answer = await node.ask("POST", "/v1/publish", batch)
    assert [result.get("code") for result in answer.json["results"]] == [None, None]
    assert (await node.ask("GET", "/v1/topics/b")).json == odd


async def test_known_fields_are_those_of_the_messages() -> None:
    node = FakeNode()
    await node.set("a", 1)
    position = {"epoch": node.position.epoch, "lineage": node.position.lineage, "revision": node.position.revision}
    whole = {
        "op": "poll",
        "id": 1,
        "position": position,
        "topics": {"a": 0},
        "prefixes": {"a/": 0},
        "min_revision": 1,
        "wait_ms": 0,
        "age_ms": 0,
        "mode": "polling",
    }
    for cbor in (False, True):
        answer = await posted(node, "/v1/poll", whole, cbor=cbor)
        assert [change["topic"] for change in answer.json["changes"]] == ["a"]
    assert set(Poll.__struct_fields__) - set(whole) == {"cursor"}
    assert set(Batch.__struct_fields__) >= {"changes"}
    assert set(BatchChange.__struct_fields__) >= {"topic", "value", "deleted", "expect", "key"}


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/topics/a"),
        ("DELETE", "/v1/topics/a"),
        ("GET", "/v1/topics"),
        ("GET", "/v1/status"),
        ("GET", "/metrics"),
    ],
)
async def test_a_body_where_there_is_none_is_refused(method: str, target: str) -> None:
    node = FakeNode()
    version = await node.set("a", 1)
    answer = await node.ask(method, target, {"expect": 1})
    assert (answer.status, answer.code) == (400, "invalid")
    assert "takes no body" in answer.json["message"]
    assert node.position.revision == version


async def test_probes_and_preflights_read_nothing() -> None:
    for path in ("/healthz", "/readyz"):
        assert (await FakeNode().ask("GET", f"{path}?cache=1&cache=2")).status == 200
    assert (await FakeNode().ask("OPTIONS", "/v1/topics/a?x=1")).status == 204


async def test_a_handshake_has_no_parameters() -> None:
    node = FakeNode()
    (answer,) = await node.exchange(handshake("GET /v1/ws?token=x HTTP/1.1"))
    assert (answer.status, answer.code) == (400, "invalid")
    assert "unknown query parameter 'token': this request takes none" in answer.json["message"]
    assert node.upgrades == []


# The condition as a parameter ----------------------------------------------------------------------------------------


async def test_expect_is_a_condition_of_put_and_delete() -> None:
    node = FakeNode()
    first = await node.ask("PUT", "/v1/topics/a?expect=0", 1)
    assert first.status == 200
    version = first.json["version"]
    for expect in (0, 99, version + 1):
        for method, body in (("PUT", 2), ("DELETE", None)):
            lost = await node.ask(method, f"/v1/topics/a?expect={expect}", body)
            assert (lost.status, lost.code, lost.json["current"]) == (412, "conflict", version)
    assert (await node.ask("GET", "/v1/topics/a")).json == 1
    second = await node.ask("PUT", f"/v1/topics/a?expect={version}", 2)
    assert second.status == 200
    assert (await node.ask("DELETE", f"/v1/topics/a?expect={second.json['version']}")).status == 200


@pytest.mark.parametrize("expect", ["01", "00", "+1", "1_0", " 1"])
@pytest.mark.parametrize(("method", "body"), [("PUT", 1), ("DELETE", None)])
async def test_a_condition_has_one_spelling(expect: str, method: str, body: Any) -> None:
    node = FakeNode()
    before = await node.set("a", 0)
    answer = await node.ask(method, f"/v1/topics/a?expect={quote(expect)}", body)
    assert (answer.status, answer.code) == (400, "invalid")
    assert "expect must be a whole number" in answer.json["message"]
    assert node.position.revision == before


async def test_expect_means_the_same_as_in_a_batch() -> None:
    node = FakeNode()
    await node.ask("PUT", "/v1/topics/a?expect=0", 1, Idempotency_Key="k")
    batch = {"changes": [{"topic": "a", "value": 1, "expect": 0, "key": "k"}]}
    (result,) = (await node.ask("POST", "/v1/publish", batch)).json["results"]
    assert result["repeated"] is True


@pytest.mark.parametrize("headers", [{"If_Match": "*"}, {"If_None_Match": "*"}, {"If_Match": '"e.l.1"'}])
async def test_two_conditions_are_refused(headers: dict[str, str]) -> None:
    answer = await FakeNode().ask("PUT", "/v1/topics/a?expect=0", 1, **headers)
    assert (answer.status, answer.code) == (400, "invalid")
    assert "only one can be obeyed" in answer.json["message"]
    answer = await FakeNode().ask("PUT", "/v1/topics/a", 1, If_Match="*", If_None_Match="*")
    assert (answer.status, answer.code) == (400, "invalid")


# The level -----------------------------------------------------------------------------------------------------------


async def test_every_reply_below_v1_tells_the_level() -> None:
    node = FakeNode()
    await node.set("a", 1)
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/v1/topics/a", None),
        ("GET", "/v1/topics/b", None),
        ("PUT", "/v1/topics/a", 1),
        ("GET", "/v1/topics", None),
        ("POST", "/v1/poll", {}),
        ("POST", "/v1/poll", {"x": 1}),
        ("POST", "/v1/publish", {"changes": []}),
        ("GET", "/v1/status", None),
        ("GET", "/v1/nowhere", None),
        ("BREW", "/v1/poll", None),
        ("OPTIONS", "/v1/poll", None),
        ("GET", "/v1/ws", None),
    ]
    for method, target, body in asked:
        answer = await node.ask(method, target, body)
        assert (target, answer["softstate-level"]) == (target, str(LEVEL))
    tag = (await node.ask("GET", "/v1/topics/a"))["etag"]
    unchanged = await node.ask("GET", "/v1/topics/a", If_None_Match=tag)
    assert (unchanged.status, unchanged["softstate-level"]) == (304, str(LEVEL))
    for raw in (b"GET /v1/topics HTTP/1.1\r\nBad Header: 1\r\n\r\n", b"GET /v1/topics HTTP/1.1\r\nX: " + b"x" * 20_000):
        (unread,) = await node.exchange(raw)
        assert (unread.status >= 400, unread["softstate-level"]) == (True, str(LEVEL))
    foreign = await node.ask("GET", "/v1/topics/a", Origin="http://evil.example")
    assert (foreign.status, foreign["softstate-level"]) == (403, str(LEVEL))
