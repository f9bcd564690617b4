"""Other programs that publish with one etcd put, and the stores of several nodes that take it from there."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.model import Record
from softstate.position import Position
from softstate.store.base import Write
from softstate.store.etcd.inbox import INBOX_MAX, REFUSED_BYTES_MAX
from softstate.store.etcd.schema import Layout
from softstate.store.etcd.store import EtcdStore
from softstate.testing.conformance.stage import put, state
from softstate.wire import encode_value
from tests.store.engines.etcd_rig import EtcdBackend
from tests.store.engines.rig import WAIT_S


class Follower:
    """Follows a store as a node's follower does, and keeps every record."""

    def __init__(self, store: EtcdStore, position: Position) -> None:
        self.store = store
        self.position = position
        self.records: list[Record] = []

    async def until(self, count: int) -> list[Record]:
        """Follow until so many records have come."""
        with trio.fail_after(WAIT_S):
            while len(self.records) < count:
                await self.step()
        return self.records

    async def step(self) -> None:
        await self.store.wait(self.position.revision)
        feed = await self.store.feed(self.position)
        self.records += feed.records
        self.position = feed.upto

    async def forever(self) -> None:
        while True:
            await self.step()


async def follow(store: EtcdStore) -> Follower:
    return Follower(store, await store.head())


async def test_put_publishes_and_an_empty_value_deletes(backend: EtcdBackend) -> None:
    follower = await follow(await backend.open())
    inbox = f"{backend.namespace}/inbox"
    await trio.to_thread.run_sync(backend.rig.ctl, "put", f"{inbox}/orders/42", '{"state":"paid"}')
    (paid,) = await follower.until(1)
    assert (paid.topic, paid.cbor) == ("orders/42", encode_value({"state": "paid"}))
    await trio.to_thread.run_sync(backend.rig.ctl, "put", f"{inbox}/orders/42", "")
    (_, gone) = await follower.until(2)
    assert (gone.topic, gone.version, gone.deleted) == ("orders/42", paid.version + 1, True)
    assert await backend.rig.keys(inbox) == {}
    assert (await follower.store.info()).tombstones == 1
    await follower.store.aclose()


async def test_put_is_taken_when_no_watch_tells_of_it(backend: EtcdBackend) -> None:
    """One that was there before the store was opened, and one whose event was lost with the stream."""
    await backend.rig.put(f"{backend.namespace}/inbox/early", b"1")
    follower = await follow(await backend.open())
    assert [record.topic for record in await follower.until(1)] == ["early"]
    await follower.store._watch.aclose()
    await backend.rig.put(f"{backend.namespace}/inbox/late", b"2")
    assert [record.topic for record in await follower.until(2)] == ["early", "late"]
    await follower.store.aclose()


async def test_put_within_a_transaction_of_the_programs_own(backend: EtcdBackend) -> None:
    follower = await follow(await backend.open())

    def code(text: str) -> str:
        return b64encode(text.encode()).decode()

    row = {"request_put": {"key": code(f"app/{backend.namespace}/42"), "value": code("paid")}}
    news = {"request_put": {"key": code(f"{backend.namespace}/inbox/orders/42"), "value": code('"paid"')}}
    await trio.to_thread.run_sync(backend.rig.call, "/v3/kv/txn", {"success": [row, news]})
    (record,) = await follower.until(1)
    assert record.cbor == encode_value("paid")
    await follower.store.aclose()


REFUSED = {
    "not-json": (b"{", "not JSON"),
    "too-large": (b'"' + bytes([120]) * 70_000 + b'"', "bytes"),
    "much-too-large": (b'"' + bytes([120]) * 900_000 + b'"', "bytes"),
    "too-many-items": (b"[0" + b",0" * 4_096 + b"]", "4096"),
    "not-a-value": (b"1e999", "value"),
    "a//b": (b"1", "segment"),
    "/a": (b"1", "begin"),
    "c\x01": (b"1", "control"),
    "n" * 256: (b"1", "256"),
}


async def test_an_entry_that_cannot_be_published_is_put_aside_and_blocks_no_other(backend: EtcdBackend) -> None:
    store = await backend.open()
    follower = await follow(store)
    for topic, (value, _) in REFUSED.items():
        await backend.rig.put(f"{backend.namespace}/inbox/{topic}", value)
    await backend.rig.put(f"{backend.namespace}/inbox/good", b"true")
    assert [record.topic for record in await follower.until(1)] == ["good"]
    aside = await backend.rig.keys(f"{backend.namespace}/refused/")
    assert sorted(aside) == sorted(f"{backend.namespace}/refused/{topic}" for topic in REFUSED)
    for topic, (value, because) in REFUSED.items():
        reason, _, kept = aside[f"{backend.namespace}/refused/{topic}"].partition(b"\n")
        assert because in reason.decode(), topic
        assert kept == value[:REFUSED_BYTES_MAX]
    assert await backend.rig.keys(f"{backend.namespace}/inbox/") == {}
    assert list(await state(store)) == ["good"]
    await store.aclose()


@pytest.mark.parametrize("length", [1_025, 200_000, 400_000, 560_000, 705_000, 1_500_000])
async def test_an_entry_with_a_long_key_is_put_aside_and_blocks_no_other(backend: EtcdBackend, length: int) -> None:
    store = await backend.open()
    follower = await follow(store)
    value = b"1" * min(600_000, 1_550_000 - length)
    await backend.rig.put(f"{backend.namespace}/inbox/ä{'k' * length}", value)
    await backend.rig.put(f"{backend.namespace}/inbox/good", b"true")
    assert [record.topic for record in await follower.until(1)] == ["good"]
    ((name, entry),) = (await backend.rig.keys(f"{backend.namespace}/refused/")).items()
    assert name.startswith(f"{backend.namespace}/refused/ä{'k' * 198}...")
    assert len(name) < 300
    reason, _, kept = entry.partition(b"\n")
    assert f"this one has {length + 2}" in reason.decode()
    assert kept == value[:REFUSED_BYTES_MAX]
    assert await backend.rig.keys(f"{backend.namespace}/inbox/") == {}
    assert list(await state(store)) == ["good"]
    await store.aclose()


async def test_entries_with_long_keys_are_told_apart(backend: EtcdBackend) -> None:
    store = await backend.open()
    follower = await follow(store)
    names = [f"{'k' * length}{end}" for length in (2_000, 250_000) for end in "abc"]
    for name in names:
        await backend.rig.put(f"{backend.namespace}/inbox/{name}", name[-1:].encode())
    await backend.rig.put(f"{backend.namespace}/inbox/good", b"true")
    await follower.until(1)
    aside = await backend.rig.keys(f"{backend.namespace}/refused/")
    assert sorted(entry[-1:] for entry in aside.values()) == sorted(name[-1:].encode() for name in names)
    await store.aclose()


async def test_a_long_key_that_is_put_again_meanwhile_is_not_lost(
    backend: EtcdBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value is changed between reading the entry and deleting it: the one that is kept is the newest."""
    store = await backend.open()
    name = f"{backend.namespace}/inbox/{'k' * 400_000}"
    await backend.rig.put(name, b"1")
    write, again = store._gateway.write, [b"2"]

    async def changed_before(*arguments: Any) -> int:
        if again:
            await backend.rig.put(name, again.pop())
        return await write(*arguments)

    monkeypatch.setattr(store._gateway, "write", changed_before)
    await store._empty_inbox()
    ((_, entry),) = (await backend.rig.keys(f"{backend.namespace}/refused/")).items()
    assert entry.endswith(b"\n2")
    assert await backend.rig.keys(f"{backend.namespace}/inbox/") == {}
    await store.aclose()


@pytest.mark.parametrize("length", [2_000, 560_000, 705_000])
async def test_a_long_reserved_name_blocks_no_publish(backend: EtcdBackend, length: int) -> None:
    store = await backend.open()
    await backend.rig.put(f"{backend.namespace}/inbox/$softstate/{'k' * length}", b"1")
    await put(store, "a")
    assert list(await state(store)) == ["a"]
    assert await backend.rig.keys(f"{backend.namespace}/inbox/") == {}
    await store.aclose()


async def test_a_change_that_is_too_long_makes_the_store_unavailable(backend: EtcdBackend) -> None:
    """Keys of others, among those that compaction deletes."""
    store = await backend.open()
    await put(store, "a")
    head = await store.head()
    data = Layout(backend.namespace).data(store._seen[1])
    for number in range(4):
        await backend.rig.put(data.touched(1, f"{number}{'x' * 400_000}").decode(), b"")
    with pytest.raises(Unavailable, match="too long: delete them"):
        await store.compact(tombstones=9, keys=9)
    await put(store, "a")
    assert (await store.head()).lineage == head.lineage, "the connection was kept"
    await store.aclose()


async def test_topic_that_is_not_text_is_put_aside(backend: EtcdBackend) -> None:
    store = await backend.open()
    follower = await follow(store)
    key = b64encode(f"{backend.namespace}/inbox/".encode() + b"\xff\xfe").decode()
    await trio.to_thread.run_sync(backend.rig.call, "/v3/kv/put", {"key": key, "value": "MQ=="})
    await backend.rig.put(f"{backend.namespace}/inbox/good", b"1")
    await follower.until(1)
    found = await trio.to_thread.run_sync(
        backend.rig.call,
        "/v3/kv/range",
        {"key": b64encode(f"{backend.namespace}/refused/".encode() + b"\xff\xfe").decode()},
    )
    assert found["count"] == "1"
    await store.aclose()


async def test_several_nodes_take_each_entry_once(backend: EtcdBackend) -> None:
    """Three stores follow, while a program puts more than one batch, and a node publishes too."""
    followers = [await follow(await backend.open()) for _ in range(3)]
    for follower in followers:
        follower.position = await follower.store.head()
    count = 3 * INBOX_MAX

    def put_all() -> None:
        for number in range(count):
            message = {"key": key_of(number), "value": b64encode(json.dumps(number).encode()).decode()}
            backend.rig.call("/v3/kv/put", message)

    def key_of(number: int) -> str:
        return b64encode(f"{backend.namespace}/inbox/t/{number}".encode()).decode()

    async with trio.open_nursery() as nursery:
        for follower in followers:
            nursery.start_soon(follower.until, count + 20)
        nursery.start_soon(trio.to_thread.run_sync, put_all)
        for number in range(20):
            await put(followers[0].store, f"own/{number}")
    for follower in followers:
        values = {record.topic: record.cbor for record in follower.records if record.topic.startswith("t/")}
        assert values == {f"t/{number}": encode_value(number) for number in range(count)}
        versions = [record.version for record in follower.records]
        assert versions == sorted(set(versions))
        assert len(versions) == count + 20, "no entry was published twice"
        await follower.store.aclose()


async def test_entries_are_published_in_the_order_of_their_puts(backend: EtcdBackend) -> None:
    names = ["z", "m", "a", "q"]
    for name in names:
        await backend.rig.put(f"{backend.namespace}/inbox/{name}", b"1")
    await backend.rig.put(f"{backend.namespace}/inbox/z", b"2")
    store = await backend.open()
    follower = await follow(store)
    assert [record.topic for record in await follower.until(4)] == ["m", "a", "q", "z"]
    await store.aclose()


async def test_compare_and_set_sees_what_was_put(backend: EtcdBackend) -> None:
    store = await backend.open()
    follower = await follow(store)
    version = await put(store, "a")
    await backend.rig.put(f"{backend.namespace}/inbox/a", b"2")
    await follower.until(2)
    committed: Any = await store.publish([Write("a", b"\x03", expect=version), Write("b", b"\x01")])
    assert committed.verdicts[0].current == version + 1
    assert [record.topic for record in committed.records] == ["b"]
    await store.aclose()


async def test_waiting_ends_with_what_this_store_has_seen_itself(backend: EtcdBackend) -> None:
    """Own commits, and heads that another task has read, wake `wait` before the watch says anything."""
    store, other = await backend.open(), await backend.open()
    for writer in (store, other):
        after = (await store.head()).revision
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.wait, after)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await put(writer, "a")
            await store.head()
            with trio.fail_after(WAIT_S):
                await store.wait(after)
    await store.aclose()
    await other.aclose()
