from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.server.http.arguments import PARAMETERS_MAX
from softstate.wire import CBOR
from tests.kit.fake_node import Answer, FakeNode


async def test_put_then_get() -> None:
    node = FakeNode()
    put = await node.ask("PUT", "/v1/topics/orders/42", {"state": "paid"})
    assert put.status == 200
    assert (put.json["topic"], put.json["version"]) == ("orders/42", 2)
    assert put["etag"] == f'"{put["softstate-position"]}+json"'

    got = await node.ask("GET", "/v1/topics/orders/42")
    assert (got.status, got.json, got["content-type"]) == (200, {"state": "paid"}, "application/json")
    assert got["etag"] == put["etag"]
    assert got["cache-control"] == "private, no-cache"
    assert put["cache-control"] == "no-store"
    assert got["softstate-lag-ms"] == "0"


async def test_lag_is_rounded_up() -> None:
    node = FakeNode()
    node.lag_s = 0.0101
    assert (await node.ask("GET", "/v1/topics/a"))["softstate-lag-ms"] == "11"


async def test_cbor_in_and_out() -> None:
    node = FakeNode()
    raw = CBOR.dumps({"b": b"\x00"})
    put = await node.ask("PUT", "/v1/topics/a", raw, Content_Type="application/cbor", Accept="application/cbor")
    assert put.cbor["version"] == 2
    got = await node.ask("GET", "/v1/topics/a", Accept="application/cbor, */*;q=0.5")
    assert (got.body, got["content-type"]) == (raw, "application/cbor")
    assert (await node.ask("GET", "/v1/topics/a")).json == {"b": {"$bytes": "AA=="}}
    error = await node.ask("GET", "/v1/topics/nowhere", Accept="application/cbor")
    assert (error.status, error.cbor["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("application/cbor;q=0", "application/json"),
        ("application/cbor;q=0.4, application/json;q=0.5", "application/json"),
        ("application/cbor;q=0.6, application/json;q=0.5", "application/cbor"),
        ("application/cbor;q=nonsense", "application/cbor"),
        ("application/json;q=0, application/cbor;q=0.1, */*", "application/cbor"),
    ],
)
async def test_accept(accept: str, kind: str) -> None:
    assert (await FakeNode().ask("GET", "/healthz", Accept=accept))["content-type"] == kind


@pytest.mark.parametrize("path", ["orders%2F42", "orders/42", "%6Frders/42"])
async def test_topic_names_are_percent_decoded(path: str) -> None:
    node = FakeNode()
    await node.set("orders/42", 1)
    assert (await node.ask("GET", f"/v1/topics/{path}")).json == 1


async def test_topic_names_are_utf8() -> None:
    node = FakeNode()
    await node.set("straße", 1)
    assert (await node.ask("GET", "/v1/topics/stra%C3%9Fe")).json == 1


@pytest.mark.parametrize("path", ["", "%", "%zz", "a%4", "%ff", "a//b", "a/", "..", "%2E%2E", "a%00b", "x" * 256])
async def test_bad_topic_names(path: str) -> None:
    answer = await FakeNode().ask("GET", f"/v1/topics/{path}")
    assert (answer.status, answer.code) == (400, "invalid")


async def test_absent_and_deleted_topics_are_not_found() -> None:
    node = FakeNode()
    await node.set("gone", 1)
    await node.delete("gone")
    for topic in ("gone", "never"):
        answer = await node.ask("GET", f"/v1/topics/{topic}")
        assert (answer.status, answer.code) == (404, "not_found")
        assert answer["softstate-position"] == str(node.position)


async def test_head_is_get_without_its_body() -> None:
    node = FakeNode()
    await node.set("a", "value")
    got, head = await node.ask("GET", "/v1/topics/a"), await node.ask("HEAD", "/v1/topics/a")
    assert head.headers == got.headers
    assert head.body == b""


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '{}, "x"', '"x",W/{},', "*"])
async def test_if_none_match(form: str) -> None:
    node = FakeNode()
    await node.set("a", 1)
    tag = (await node.ask("GET", "/v1/topics/a"))["etag"]
    same = await node.ask("GET", "/v1/topics/a", If_None_Match=form.format(tag))
    assert (same.status, same.body, same["etag"]) == (304, b"", tag)
    await node.set("a", 2)
    assert (await node.ask("GET", "/v1/topics/a", If_None_Match=tag)).status == 200


@pytest.mark.parametrize("header", ["unquoted", '"open', "", '"a" "b"', "*, *"])
async def test_bad_if_none_match(header: str) -> None:
    answer = await FakeNode().ask("GET", "/v1/topics/a", If_None_Match=header)
    assert (answer.status, answer.code) == (400, "invalid")


async def test_a_tag_names_the_lineage_of_its_version() -> None:
    node = FakeNode()
    await node.set("a", 1)
    before = (await node.ask("GET", "/v1/topics/a"))["etag"]
    await node.store.reopen()
    await node.set("b", 1)
    got = await node.ask("GET", "/v1/topics/a")
    assert got["etag"] == before
    assert got["softstate-position"].split(".")[1] != before.split(".")[1]


@pytest.mark.parametrize("lineages", [{}, {2: "other"}, {1: "other", 2: "other", 3: "other"}])
async def test_no_tag_is_made_of_two_histories(lineages: dict[int, str]) -> None:
    node = FakeNode()
    await node.set("a", 1)
    await node.set("b", 1)

    async def lineage_at_after_a_restore(revision: int) -> str | None:
        return lineages.get(revision)

    node.lineage_at = lineage_at_after_a_restore  # type: ignore[method-assign]
    answer = await node.ask("GET", "/v1/topics/a")
    assert (answer.status, answer.code) == (503, "unavailable")


# Waiting -------------------------------------------------------------------------------------------------------------


async def test_a_hold_ends_with_the_change(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode()
    await node.set("a", 1)
    tag = (await node.ask("GET", "/v1/topics/a"))["etag"]

    async def change_later() -> None:
        await trio.sleep(3.5)
        await node.set("other", 1)
        await node.set("a", 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change_later)
        got = await node.ask("GET", "/v1/topics/a?wait_ms=10000", If_None_Match=tag)
    assert (got.status, got.json, got["softstate-held-ms"]) == (200, 2, "3500")


async def test_a_hold_ends_with_its_time(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(hold_ms_max=2_000)
    await node.set("a", 1)
    tag = (await node.ask("GET", "/v1/topics/a"))["etag"]
    for asked, held in ((1_500, "1500"), (2_000, "2000"), (2_001, "2000")):
        got = await node.ask("GET", f"/v1/topics/a?wait_ms={asked}", If_None_Match=tag)
        assert (got.status, got["softstate-held-ms"]) == (304, held)


async def test_a_hold_on_an_absent_topic_ends_when_it_appears(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode()

    async def appear() -> None:
        await trio.sleep(1)
        await node.set("a", "here")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(appear)
        got = await node.ask("GET", "/v1/topics/a?wait_ms=5000")
    assert (got.status, got.json) == (200, "here")
    assert (await node.ask("GET", "/v1/topics/none?wait_ms=5000")).status == 404


async def test_nothing_is_held_when_the_topic_has_changed() -> None:
    node = FakeNode()
    await node.set("a", 1)
    got = await node.ask("GET", "/v1/topics/a?wait_ms=5000", If_None_Match='"e.l.1"')
    assert got.status == 200
    assert "softstate-held-ms" not in got.headers
    assert (await node.ask("GET", "/v1/topics/b?wait_ms=5000", If_None_Match='"e.l.1"')).status == 404


async def test_holds_at_the_limit_and_one_over(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(holds_max=2)
    statuses: list[int] = []

    async def hold() -> None:
        statuses.append((await node.ask("GET", "/v1/topics/a?wait_ms=5000")).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        assert node.http.statistics().holds == 2
        refused = await node.ask("GET", "/v1/topics/a?wait_ms=5000")
        assert (refused.status, refused.code, refused["retry-after"]) == (429, "overloaded", "5")
        assert (await node.ask("GET", "/v1/topics/a")).status == 404
    assert statuses == [404, 404]
    assert node.http.statistics().holds == 0


async def test_draining_ends_holds(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode()

    async def drain() -> None:
        await trio.sleep(1)
        node.draining = True
        node.http.drain()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        got = await node.ask("GET", "/v1/topics/a?wait_ms=20000")
    assert (got.status, got["softstate-held-ms"], got["connection"]) == (404, "1000", "close")


async def test_a_push_node_holds_nothing() -> None:
    node = FakeNode(role="push")
    answer = await node.ask("GET", "/v1/topics/a?wait_ms=1")
    assert (answer.status, answer.code) == (404, "not_found")
    assert "does not serve polls" in answer.json["message"]
    await node.set("a", 1)
    assert (await node.ask("GET", "/v1/topics/a")).status == 200


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "", "9007199254740992", "1&wait_ms=2", "%ff", "%"])
async def test_bad_parameters(text: str) -> None:
    answer = await FakeNode().ask("GET", f"/v1/topics/a?wait_ms={text}")
    assert (answer.status, answer.code) == (400, "invalid")


async def test_parameters_at_the_limit_and_one_over() -> None:
    most = f"malformed query string (at most {PARAMETERS_MAX} parameters"
    for count, words in ((PARAMETERS_MAX, "unknown query parameter 'p0'"), (PARAMETERS_MAX + 1, most)):
        query = "&".join(f"p{number}=1" for number in range(count))
        answer = await FakeNode().ask("GET", f"/v1/topics/a?{query}")
        assert answer.status == 400
        assert words in answer.json["message"]


async def test_at_least_waits_for_the_revision(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode()
    await node.set("a", 1)
    assert (await node.ask("GET", "/v1/topics/a?at_least=2")).json == 1

    async def catch_up() -> None:
        await trio.sleep(2)
        await node.set("a", 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(catch_up)
        assert (await node.ask("GET", "/v1/topics/a?at_least=3")).json == 2
    began = trio.current_time()
    behind = await node.ask("GET", "/v1/topics/a?at_least=4")
    assert (behind.status, behind.code) == (503, "behind")
    assert (behind.json["retry_ms"], behind["retry-after"]) == (1000, "1")
    assert trio.current_time() - began == pytest.approx(node.config.timeout_ms / 1000)


# Writing -------------------------------------------------------------------------------------------------------------


async def test_values_at_the_limit_and_one_over() -> None:
    node = FakeNode(value_bytes_max=10)
    assert (await node.ask("PUT", "/v1/topics/a", "x" * 9)).status == 200
    over = await node.ask("PUT", "/v1/topics/a", "x" * 10)
    assert (over.status, over.code) == (413, "too_large")


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"1 2", "application/json"),
        (b"NaN", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 10_000, "application/json"),
        (b'{"$bytes": 1}', "application/json"),
        (b'"\\ud800"', "application/json"),
        (b"\x01\x01", "application/cbor"),
        (b"\xf7", "application/cbor"),
        (b"\xc0\x01", "application/cbor"),
    ],
)
async def test_bad_values(raw: bytes, kind: str) -> None:
    answer = await FakeNode().ask("PUT", "/v1/topics/a", raw, Content_Type=kind)
    assert (answer.status, answer.code) == (400, "invalid")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/merge-patch+json"]
)
async def test_every_other_body_is_taken_for_json(kind: str) -> None:
    answer = await FakeNode().ask("PUT", "/v1/topics/a", {"a": 1}, Content_Type=kind)
    assert answer.status == 200
    answer = await FakeNode().ask("PUT", "/v1/topics/a", b"a=1", Content_Type=kind)
    assert (answer.status, answer.code) == (400, "invalid")


async def test_content_type_parameters_are_ignored() -> None:
    answer = await FakeNode().ask("PUT", "/v1/topics/a", 1, Content_Type="Application/JSON; charset=utf-8")
    assert answer.status == 200


async def test_delete_of_an_absent_topic_changes_nothing() -> None:
    node = FakeNode()
    opened = (await node.store.head()).revision
    answer = await node.ask("DELETE", "/v1/topics/a")
    assert (answer.status, answer.json["version"], answer.json["position"]["revision"]) == (200, 0, opened)
    await node.ask("PUT", "/v1/topics/a", 1)
    tombstone = (await node.ask("DELETE", "/v1/topics/a")).json["version"]
    again = await node.ask("DELETE", "/v1/topics/a")
    assert (again.status, again.json["version"], again.json["position"]["revision"]) == (200, tombstone, tombstone)


async def test_if_match_on_a_read_compares_strongly() -> None:
    node = FakeNode()
    tag = (await node.ask("PUT", "/v1/topics/a", 1))["etag"]
    assert (await node.ask("GET", "/v1/topics/a", If_Match=tag)).status == 200
    lost = await node.ask("GET", "/v1/topics/a", If_Match=f"W/{tag}")
    assert (lost.status, lost.code) == (412, "conflict")
    assert (await node.ask("GET", "/v1/topics/a", If_None_Match=f"W/{tag}")).status == 304


async def test_if_match_compares_and_sets() -> None:
    node = FakeNode()
    first = (await node.ask("PUT", "/v1/topics/a", 1))["etag"]
    assert (await node.ask("PUT", "/v1/topics/a", 2, If_Match=first)).status == 200
    lost = await node.ask("DELETE", "/v1/topics/a", If_Match=first)
    assert (lost.status, lost.code, lost.json["current"]) == (412, "conflict", 3)


async def test_if_match_of_another_history_loses() -> None:
    node = FakeNode()
    tag = (await node.ask("PUT", "/v1/topics/a", 1))["etag"]
    epoch, _, version = tag.strip('"').split(".")
    for other in (f'"other.{node.position.lineage}.{version}"', f'"{epoch}.other.{version}"'):
        lost = await node.ask("PUT", "/v1/topics/a", 2, If_Match=other)
        assert (lost.status, lost.json["current"]) == (412, 2)


async def test_if_match_star_needs_a_value() -> None:
    node = FakeNode()
    lost = await node.ask("PUT", "/v1/topics/a", 1, If_Match="*")
    assert (lost.status, lost.json["current"]) == (412, 0)
    assert "9007" not in lost.json["message"]
    await node.set("a", 1)
    assert (await node.ask("PUT", "/v1/topics/a", 2, If_Match="*")).status == 200
    gone = await node.delete("a")
    lost = await node.ask("PUT", "/v1/topics/a", 3, If_Match="*")
    assert (lost.status, lost.json["current"]) == (412, gone)


async def test_if_none_match_star_needs_no_value() -> None:
    node = FakeNode()
    assert (await node.ask("PUT", "/v1/topics/a", 1, If_None_Match="*")).status == 200
    lost = await node.ask("PUT", "/v1/topics/a", 2, If_None_Match="*")
    assert (lost.status, lost.json["current"]) == (412, 2)


@pytest.mark.parametrize(
    "headers",
    [
        {"If_Match": 'W/"e.l.1"'},
        {"If_Match": '"e.l.1", "e.l.2"'},
        {"If_Match": '"e.l"'},
        {"If_Match": '"'},
        {"If_Match": ""},
        {"If_None_Match": '"e.l.1"'},
        {"If_Match": "*", "If_None_Match": "*"},
        {"Idempotency_Key": ""},
        {"Idempotency_Key": "x" * 129},
        {"Idempotency_Key": "é"},
    ],
)
async def test_bad_conditions(headers: dict[str, str]) -> None:
    answer = await FakeNode().ask("PUT", "/v1/topics/a", 1, **headers)
    assert (answer.status, answer.code) == (400, "invalid")


@pytest.mark.parametrize("condition", [{}, {"If_None_Match": "*"}])
async def test_a_key_repeats_the_first_success(condition: dict[str, str]) -> None:
    node = FakeNode()
    first = await node.ask("PUT", "/v1/topics/a", 1, Idempotency_Key="k" * 128, **condition)
    await node.store.reopen()
    await node.set("b", 1)
    again = await node.ask("PUT", "/v1/topics/a", 1, Idempotency_Key="k" * 128, **condition)
    assert (again.status, again.json["version"], again.json["repeated"]) == (200, first.json["version"], True)
    assert again["etag"] == first["etag"]
    other = await node.ask("PUT", "/v1/topics/a", 2, Idempotency_Key="k" * 128, **condition)
    assert (other.status, other.code) == (409, "key_reused")


async def test_a_key_repeats_a_conditional_write_though_the_topic_moved_or_is_gone() -> None:
    node = FakeNode()
    await node.set("a", 1)
    for method, body in (("PUT", 2), ("DELETE", None)):
        first = await node.ask(method, "/v1/topics/a", body, If_Match="*", Idempotency_Key=method)
        again = await node.ask(method, "/v1/topics/a", body, If_Match="*", Idempotency_Key=method)
        assert (again.status, again.json["version"]) == (200, first.json["version"])


async def test_store_errors_become_replies() -> None:
    node = FakeNode()
    node.fault = Unavailable("down", retry_ms=1_001)
    for answer in (await node.ask("GET", "/v1/topics/a"), await node.ask("PUT", "/v1/topics/a", 1)):
        assert (answer.status, answer.code, answer["retry-after"]) == (503, "unavailable", "2")
        assert "softstate-position" in answer.headers


# Many at once --------------------------------------------------------------------------------------------------------


async def test_a_batch_is_applied_in_order_each_with_its_own_verdict() -> None:
    node = FakeNode()
    changes = [
        {"topic": "a", "value": 1},
        {"topic": "a", "value": 2, "expect": 2},
        {"topic": "a", "value": 3, "expect": 2},
        {"topic": "/bad", "value": 1},
        {"topic": "b", "value": "x" * 70_000},
        {"topic": "a", "deleted": True, "key": "k"},
    ]
    answer = await node.ask("POST", "/v1/publish", {"changes": changes})
    assert answer.status == 200
    results = answer.json["results"]
    assert [result.get("version") for result in results] == [2, 3, None, None, None, 4]
    assert [result.get("code") for result in results] == [None, None, "conflict", "invalid", "too_large", None]
    assert results[2]["current"] == 3
    assert answer["softstate-position"] == str(node.position)


async def test_a_batch_at_the_limit_and_one_over() -> None:
    node = FakeNode(batch_max=3)
    change = {"topic": "a", "value": 1}
    assert (await node.ask("POST", "/v1/publish", {"changes": [change] * 3})).status == 200
    over = await node.ask("POST", "/v1/publish", {"changes": [change] * 4})
    assert (over.status, over.code) == (413, "too_large")
    assert (await node.ask("POST", "/v1/publish", {"changes": []})).json == {"results": []}


@pytest.mark.parametrize(
    "body",
    [[], {}, {"changes": 1}, {"changes": [{"topic": "a"}]}, {"changes": [{"topic": "a", "value": 1, "key": ""}]}],
)
async def test_bad_batches(body: Any) -> None:
    answer = await FakeNode().ask("POST", "/v1/publish", body)
    assert (answer.status, answer.code) == (400, "invalid")


# Lineage rows that are forgotten --------------------------------------------------------------------------------------


async def old_topic() -> tuple[FakeNode, Answer]:
    """Return a node whose store has forgotten the lineage row of a topic's version, and the topic as it was before."""
    node = FakeNode()
    before_version = await node.set("old", "value")
    before = await node.ask("GET", "/v1/topics/old")
    await node.store.reopen()
    await node.set("gone", 1)
    await node.delete("gone")
    floor = node.store.disk.image.head
    await node.set("new", 1)
    assert await node.store.compact(tombstones=floor, keys=0) == floor
    assert await node.lineage_at(before_version) is None
    return node, before


async def test_a_topic_whose_lineage_row_is_forgotten_is_served_under_the_one_in_force() -> None:
    node, before = await old_topic()
    now = await node.ask("GET", "/v1/topics/old")
    assert (now.status, now.json) == (200, "value")
    assert now["etag"] != before["etag"]
    assert (await node.ask("GET", "/v1/topics/old", If_None_Match=now["etag"])).status == 304


async def test_it_can_be_compared_and_set_by_the_tag_that_it_has_now() -> None:
    node, before = await old_topic()
    refused = await node.ask("PUT", "/v1/topics/old", 1, If_Match=before["etag"])
    assert refused.status == 412, "nothing tells that this tag is of the same history"
    now = await node.ask("GET", "/v1/topics/old")
    assert (await node.ask("PUT", "/v1/topics/old", 2, If_Match=now["etag"])).status == 200
    assert (await node.ask("PUT", "/v1/topics/old", 3, If_Match=now["etag"])).status == 412
    assert (await node.ask("GET", "/v1/topics/old")).json == 2
