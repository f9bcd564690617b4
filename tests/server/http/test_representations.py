"""JSON and CBOR of one topic are two representations: their tags, conditions, and what caches may do with replies."""

import gzip

import pytest
import trio
import trio.testing

from softstate.server.http.validators import etag, position_of_tag
from softstate.wire import CBOR, JSON
from tests.kit.fake_node import FakeNode

TYPES = {JSON: "application/json", CBOR: "application/cbor"}


async def tags(node: FakeNode, topic: str = "a") -> tuple[str, str]:
    """Return the tags of a topic's JSON and CBOR."""
    json, cbor = [await node.ask("GET", f"/v1/topics/{topic}", Accept=accept) for accept in TYPES.values()]
    return json["etag"], cbor["etag"]


async def test_each_representation_has_a_strong_tag_of_its_own() -> None:
    node = FakeNode()
    await node.set("a", 1)
    position = node.position
    assert await tags(node) == (f'"{position}+json"', f'"{position}+cbor"')
    assert await tags(node) == (etag(position, JSON), etag(position, CBOR))
    await node.delete("a")
    assert await tags(node) == (f'"{node.position}+json"', f'"{node.position}+cbor"')


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}'])
async def test_if_none_match_compares_representations(form: str) -> None:
    node = FakeNode()
    await node.set("a", 1)
    json, cbor = await tags(node)
    for accept, own, other in (("application/json", json, cbor), ("application/cbor", cbor, json)):
        same = await node.ask("GET", "/v1/topics/a", Accept=accept, If_None_Match=form.format(own))
        assert (same.status, same["etag"], same["vary"]) == (304, own, "Accept, Authorization, Origin")
        different = await node.ask("GET", "/v1/topics/a", Accept=accept, If_None_Match=form.format(other))
        assert (different.status, different["content-type"]) == (200, accept)
        both = await node.ask("GET", "/v1/topics/a", Accept=accept, If_None_Match=f"{other}, {own}")
        assert both.status == 304


async def test_a_tag_without_a_codec_names_the_version_in_all_representations() -> None:
    node = FakeNode()
    await node.set("a", 1)
    for accept in TYPES.values():
        answer = await node.ask("GET", "/v1/topics/a", Accept=accept, If_None_Match=f'"{node.position}"')
        assert answer.status == 304


async def test_a_hold_is_for_the_representation_that_was_seen(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode()
    await node.set("a", 1)
    json, cbor = await tags(node)
    assert (await node.ask("GET", "/v1/topics/a?wait_ms=5000", If_None_Match=cbor)).status == 200
    assert trio.current_time() == 0
    assert (await node.ask("GET", "/v1/topics/a?wait_ms=5000", If_None_Match=json)).status == 304
    assert trio.current_time() == 5
    await node.delete("a")
    json, cbor = await tags(node)
    assert (await node.ask("GET", "/v1/topics/a?wait_ms=5000", If_None_Match=cbor)).status == 404
    assert trio.current_time() == 5


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_if_match_of_a_write_takes_the_tag_of_either_representation(method: str) -> None:
    for form in ("{}+json", "{}+cbor", "{}"):
        node = FakeNode()
        await node.set("a", 1)
        body = 2 if method == "PUT" else None
        tag = f'"{form.format(node.position)}"'
        assert (await node.ask(method, "/v1/topics/a", body, If_Match=tag, Accept="application/cbor")).status == 200
        assert (await node.ask(method, "/v1/topics/a", body, If_Match=tag)).status == 412


@pytest.mark.parametrize("tag", ['W/"{}+json"', '"{}+xml"', '"{}+JSON"', '"{}+json+json+x"', '"{} +json"', '"+json"'])
async def test_other_tags_in_if_match_of_a_write_are_refused(tag: str) -> None:
    node = FakeNode()
    await node.set("a", 1)
    answer = await node.ask("PUT", "/v1/topics/a", 2, If_Match=tag.format(node.position))
    assert (answer.status, answer.code) == (400, "invalid")


async def test_if_match_is_a_condition_of_reading_too() -> None:
    """RFC 9110 section 13.1.1: not ignored, on any method."""
    node = FakeNode()
    await node.set("a", 1)
    json, cbor = await tags(node)
    for good in (json, cbor, "*", f'"x", {json}'):
        assert (await node.ask("GET", "/v1/topics/a", If_Match=good)).status == 200
        assert (await node.ask("GET", "/v1/topics/a", If_Match=good, If_None_Match=json)).status == 304
    version = await node.set("a", 2)
    for method in ("GET", "HEAD"):
        answer = await node.ask(method, "/v1/topics/a", If_Match=json)
        assert answer.status == 412
    answer = await node.ask("GET", "/v1/topics/a", If_Match=json)
    assert (answer.code, answer.json["current"]) == ("conflict", version)
    for anything in (json, "*"):
        assert (await node.ask("GET", "/v1/topics/none", If_Match=anything)).status == 412
    assert (await node.ask("GET", "/v1/topics/a", If_Match="x")).status == 400


async def test_a_tag_is_read_back() -> None:
    node = FakeNode()
    for codec in (JSON, CBOR):
        assert position_of_tag(etag(node.position, codec).strip('"')) == node.position
    assert position_of_tag(str(node.position)) == node.position
    assert position_of_tag("x") is None


# Caches --------------------------------------------------------------------------------------------------------------

STORED_BY_NOBODY: list[tuple[str, str, object]] = [
    ("GET", "/v1/topics", None),
    ("GET", "/v1/topics/none", None),
    ("PUT", "/v1/topics/b", 1),
    ("DELETE", "/v1/topics/b", None),
    ("POST", "/v1/poll", {}),
    ("POST", "/v1/publish", {"changes": []}),
    ("GET", "/v1/status", None),
    ("GET", "/v1/ws", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/metrics", None),
    ("OPTIONS", "/v1/poll", None),
    ("GET", "/nowhere", None),
    ("GET", "/v1/topics/a?no=1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), STORED_BY_NOBODY)
async def test_no_cache_stores_a_reply(method: str, path: str, body: object) -> None:
    node = FakeNode()
    await node.set("a", 1)
    answer = await node.ask(method, path, body)
    assert (answer["cache-control"], answer["x-content-type-options"]) == ("no-store", "nosniff")
    assert answer["vary"] == "Accept, Authorization, Origin"


async def test_no_cache_stores_a_refusal_of_what_is_no_request() -> None:
    (answer,) = await FakeNode().exchange(b"nonsense\r\n\r\n")
    assert (answer["cache-control"], answer["vary"]) == ("no-store", "Accept, Authorization, Origin")


async def test_only_the_cache_of_one_user_keeps_a_topic_and_asks_before_it_uses_it() -> None:
    node = FakeNode(origins=("http://good.example",))
    await node.set("a", 1)
    tag, _ = await tags(node)
    for headers in ({}, {"If_None_Match": tag}, {"Origin": "http://good.example"}):
        answer = await node.ask("GET", "/v1/topics/a", **headers)
        assert (answer["cache-control"], answer["vary"]) == ("private, no-cache", "Accept, Authorization, Origin")
        assert answer["x-content-type-options"] == "nosniff"


# Codings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/topics/a"), ("POST", "/v1/poll"), ("POST", "/v1/publish")])
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "identity, gzip", "GZIP"])
async def test_a_compressed_body_is_refused_by_the_name_of_its_coding(method: str, path: str, coding: str) -> None:
    node = FakeNode()
    answer = await node.ask(method, path, gzip.compress(b"{}"), Content_Encoding=coding)
    assert (answer.status, answer.code, answer["accept-encoding"]) == (415, "unsupported", "identity")
    assert coding in answer.json["message"]
    assert await node.store.head() == node.position


async def test_a_body_as_it_is_may_say_so() -> None:
    assert (await FakeNode().ask("PUT", "/v1/topics/a", 1, Content_Encoding="Identity")).status == 200
    assert (await FakeNode().ask("GET", "/v1/topics", Content_Encoding="gzip")).status == 200, "there is no body"


async def test_a_compressed_body_is_refused_before_it_is_sent() -> None:
    head = b"POST /v1/poll HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
    for more in (b"Content-Length: 30\r\nExpect: 100-continue\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        (answer,) = await FakeNode().exchange(head + more)
        assert (answer.status, answer["connection"]) == (415, "close")


async def test_upgrade_required_names_upgrade_in_connection() -> None:
    answer = await FakeNode().ask("GET", "/v1/ws")
    assert (answer.status, answer["upgrade"], answer["connection"]) == (426, "websocket", "Upgrade")
