"""Tombstones over HTTP, deletions without effect, and the condition that a topic exists."""

import pytest
import trio
import trio.testing

from softstate.model import Page, Query, Record
from tests.kit.fake_node import FakeNode


async def test_a_deleted_topic_is_not_found_with_the_version_of_its_tombstone() -> None:
    node = FakeNode()
    await node.set("a", 1)
    version = await node.delete("a")
    tag = f'"{node.position.epoch}.{node.position.lineage}.{version}+json"'
    await node.set("b", 1)
    for method in ("GET", "HEAD"):
        answer = await node.ask(method, "/v1/topics/a")
        assert (answer.status, answer["etag"]) == (404, tag)
    answer = await node.ask("GET", "/v1/topics/a")
    assert (answer.code, answer.json["version"]) == ("not_found", version)
    assert f"deleted at version {version}" in answer.json["message"]
    answer = await node.ask("GET", "/v1/topics/a", Accept="application/cbor")
    assert answer.cbor["version"] == version
    # A tag that a client has seen of a topic without value is no reason for 304.
    assert (await node.ask("GET", "/v1/topics/a", If_None_Match=tag)).status == 404
    assert (await node.ask("GET", "/v1/topics/a", If_None_Match="*")).status == 404


async def test_a_topic_of_which_nothing_is_known_has_no_version() -> None:
    node = FakeNode()
    await node.set("a", 1)
    await node.delete("a")
    await node.store.compact(tombstones=node.position.revision, keys=0)
    for topic in ("a", "never"):
        answer = await node.ask("GET", f"/v1/topics/{topic}")
        assert answer.status == 404
        assert "etag" not in answer.headers
        assert "version" not in answer.json


async def test_a_deletion_that_a_client_has_seen_is_waited_for_to_end(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode()
    await node.set("a", 1)
    await node.delete("a")
    tag = (await node.ask("GET", "/v1/topics/a"))["etag"]

    async def set_later() -> None:
        await trio.sleep(1)
        await node.set("a", 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_later)
        answer = await node.ask("GET", "/v1/topics/a?wait_ms=5000", If_None_Match=tag)
    assert (answer.status, answer.json) == (200, 2)
    # A client that has seen the value only is told of the deletion at once.
    old = (await node.ask("GET", "/v1/topics/a"))["etag"]
    await node.delete("a")
    began = trio.current_time()
    answer = await node.ask("GET", "/v1/topics/a?wait_ms=5000", If_None_Match=old)
    assert (answer.status, trio.current_time()) == (404, began)


async def test_deleting_nothing_makes_no_version() -> None:
    node = FakeNode()
    await node.set("a", 1)
    before = node.position
    answer = await node.ask("DELETE", "/v1/topics/never")
    assert (answer.status, answer.json["version"]) == (200, 0)
    assert "etag" not in answer.headers
    assert await node.store.head() == before
    tombstone = (await node.ask("DELETE", "/v1/topics/a")).json["version"]
    head = await node.store.head()
    again = await node.ask("DELETE", "/v1/topics/a")
    assert (again.status, again.json["version"]) == (200, tombstone)
    assert again["etag"].endswith(f'.{tombstone}+json"')
    assert (await node.ask("DELETE", "/v1/topics/a?expect=0")).status == 200
    assert (await node.ask("DELETE", "/v1/topics/a", If_None_Match="*")).status == 200
    for headers in ({"If_Match": again["etag"]}, {"If_Match": "*"}):
        assert (await node.ask("DELETE", "/v1/topics/a", **headers)).status == 412
        assert (await node.ask("DELETE", "/v1/topics/never", **headers)).status == 412
    assert (await node.ask("DELETE", f"/v1/topics/a?expect={tombstone}")).status == 412
    assert await node.store.head() == head


async def test_a_batch_deletes_nothing_without_a_version() -> None:
    node = FakeNode()
    before = await node.store.head()
    body = {"changes": [{"topic": "never", "deleted": True}, {"topic": "never", "deleted": True, "expect": 0}]}
    results = (await node.ask("POST", "/v1/publish", body)).json["results"]
    assert [(result.get("code", ""), result.get("version", 0)) for result in results] == [("", 0), ("", 0)]
    assert await node.store.head() == before


async def test_any_number_of_writers_may_ask_that_a_topic_exists() -> None:
    node = FakeNode()
    await node.set("a", 0)
    statuses = []

    async def write(number: int) -> None:
        statuses.append((await node.ask("PUT", "/v1/topics/a", number, If_Match="*")).status)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(write, number)
    assert statuses == [200] * 40
    absent = await node.ask("PUT", "/v1/topics/never", 1, If_Match="*")
    assert (absent.status, absent.code) == (412, "conflict")
    await node.delete("a")
    assert (await node.ask("PUT", "/v1/topics/a", 1, If_Match="*")).status == 412
    both = await node.ask("PUT", "/v1/topics/a", 1, If_Match="*", If_None_Match="*")
    assert (both.status, both.code) == (400, "invalid")


@pytest.mark.parametrize("accept", ["application/json", "application/cbor"])
@pytest.mark.parametrize(
    "record",
    [Record("a", 1, None, unreadable=True), Record("a", 1, b"\xff\xff"), Record("a", 1, b"\x01\x02")],
    ids=repr,
)
async def test_a_damaged_record_is_an_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch, record: Record, accept: str
) -> None:
    node = FakeNode()
    await node.set("b", 1)
    damaged = Page(node.position, 0, [record])
    read = node.read

    async def reading(query: Query) -> Page:
        return damaged if "a" in query.topics else await read(query)

    monkeypatch.setattr(node, "read", reading)
    answer = await node.ask("GET", "/v1/topics/a", Accept=accept)
    assert answer.status == 500
    assert b"unreadable" in answer.body
    assert b"the stored record of 'a' is damaged" in answer.body
    assert (await node.ask("GET", "/v1/topics/b")).json == 1
