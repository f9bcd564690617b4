"""A real etcd that is down, frozen, full, cut off, or a cluster that loses members."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from softstate.errors import StoreRefused, Unavailable
from softstate.model import Durability, Query
from softstate.names import ALL
from softstate.store.base import Applied, Store, Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.messages import Op, TxnAnswer
from softstate.store.etcd.store import EtcdStore
from softstate.store.limits import CALL_S, CHECK_EVERY_S
from softstate.testing.conformance.stage import expect, put, read_page, state
from tests.store.engines.etcd_rig import EtcdRig, need_etcd
from tests.store.engines.rig import WAIT_S, folder_for, free_port


async def until_warned(store: EtcdStore) -> None:
    """Wait as a node's follower does, until the store has a warning."""
    with trio.fail_after(WAIT_S):
        while not store.warnings:
            store._probe_at = store._check_at = 0.0
            with trio.move_on_after(CHECK_EVERY_S):
                await store.wait((await store.head()).revision)


async def test_server_that_is_down(rig: EtcdRig) -> None:
    store = await rig.open()
    await put(store, "a")
    head = await store.head()
    await rig.kill()
    for call in (store.head, store.info, lambda: store.publish([Write("a", b"\x02")]), store.reopen):
        with pytest.raises(Unavailable, match="cannot be reached"):
            await call()
    with trio.fail_after(CALL_S):
        await store.wait(head.revision)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await rig.open()
    await rig.start()
    assert await store.head() == head
    await put(store, "a")
    await store.aclose()


async def test_frozen_server_is_unavailable_in_time(rig: EtcdRig) -> None:
    store = await rig.open()
    await put(store, "a")
    head = await store.head()
    rig.freeze()
    began = time.monotonic()
    async with trio.open_nursery() as nursery:

        async def fails(call: object) -> None:
            with pytest.raises(Unavailable, match="within"):
                await call()  # type: ignore[operator]

        for call in (store.head, lambda: store.publish([Write("a", b"\x02")]), lambda: store.read([Query()])):
            nursery.start_soon(fails, call)
        nursery.start_soon(store.wait, head.revision)
    assert time.monotonic() - began < 2 * CALL_S
    rig.thaw()
    with trio.fail_after(WAIT_S):
        while True:
            try:
                await store.publish([Write("b", b"\x01")])
                break
            except Unavailable:
                await trio.lowlevel.checkpoint()
    assert "b" in await state(store)
    await store.aclose()


async def test_unknown_outcome_then_the_same_key(rig: EtcdRig) -> None:
    """The server is killed while publishes are on their way; each is sent again until answered, and applied once."""
    store = await rig.open()
    follower = await rig.open()
    head = await follower.head()
    versions: dict[int, int] = {}
    unknown = 0

    async def publish(number: int) -> None:
        nonlocal unknown
        while True:
            try:
                request = Write(f"t/{number % 7}", b"\x01", key=str(number), digest=b"d")
                (verdict,) = (await store.publish([request])).verdicts
            except Unavailable:
                unknown += 1
                await trio.lowlevel.checkpoint()
            else:
                versions[number] = expect(Applied, verdict, "a keyed publish").version
                return

    async def kill() -> None:
        for _ in range(3):
            with trio.fail_after(WAIT_S):
                await until_more(follower, (await follower.head()).revision + 5)
            await rig.kill()
            await rig.start()

    async def until_more(store: Store, revision: int) -> None:
        while (await store.head()).revision < revision:
            await store.wait(revision - 1)

    stop = False

    async def publish_all() -> None:
        number = 0
        while not stop:
            await publish(number)
            number += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish_all)
        await kill()
        stop = True
    rows = (await follower.feed(head)).lineages
    final = await follower.head()
    assert sorted(versions.values()) == sorted(set(versions.values()))
    assert final.revision - head.revision == len(versions) + len(rows), "every change was applied once"
    assert unknown
    await store.aclose()
    await follower.aclose()


async def test_full_server(rig: EtcdRig) -> None:
    """With the alarm NOSPACE publishes fail with advice, reads go on, and all recovers when it is disarmed."""
    store = await rig.open()
    await put(store, "a")
    await rig.refuse_writes(on=True)
    with pytest.raises(Unavailable, match="disarm"):
        await store.publish([Write("a", b"\x02")])
    assert (await state(store))["a"].cbor == b"\x01"
    await until_warned(store)
    assert "NOSPACE" in store.warnings[0]
    await rig.refuse_writes(on=False)
    await put(store, "a", b"\x03")
    await store.aclose()


async def test_direct_publish_waits_out_a_full_server(rig: EtcdRig) -> None:
    store = await rig.open()
    head = await store.head()
    await rig.publish_directly("a", "1")
    await rig.refuse_writes(on=True)
    with trio.move_on_after(2 * CHECK_EVERY_S):
        await store.wait(head.revision)
    assert (await store.head()).revision == head.revision
    await rig.refuse_writes(on=False)
    with trio.fail_after(WAIT_S):
        while (await store.head()).revision == head.revision:
            await store.wait(head.revision)
    assert (await state(store))["a"].cbor == b"\x01"
    await store.aclose()


async def test_quota_that_is_nearly_used_up(tmp_path: Path) -> None:
    need_etcd()
    rig = EtcdRig(tmp_path, flags=["--quota-backend-bytes=8000000"])
    try:
        await rig.start()
        store = await rig.open()
        assert not store.warnings
        # Beyond FULL_SHARE of the quota, and far enough below it for pages that a slow disk makes etcd leave free.
        for number in range(11):
            await store.publish([Write(f"t/{number}/{part}", bytes(60_000)) for part in range(10)])
        await until_warned(store)
        assert "quota" in store.warnings[0]
        assert "auto-compaction" in store.warnings[0]
        await store.aclose()
    finally:
        await rig.kill()


async def test_member_that_does_not_sync_is_weak(tmp_path: Path) -> None:
    need_etcd()
    rig = EtcdRig(tmp_path, flags=["--unsafe-no-fsync"])
    try:
        await rig.start()
        store = await rig.open()
        assert store.durability is Durability.WEAK
        assert "--unsafe-no-fsync" in store.warnings[0]
        await store.aclose()
    finally:
        await rig.kill()


async def test_ordinary_member_is_durable(rig: EtcdRig) -> None:
    store = await rig.open()
    assert (store.durability, list(store.warnings)) == (Durability.DURABLE, [])
    await store.aclose()


async def test_a_snapshot_that_etcd_compacts_away_is_begun_again(rig: EtcdRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of several steps whose snapshot is compacted between two of them."""
    store = await rig.open()
    topics = [f"t/{number}" for number in range(300)]
    await store.publish([Write(topic, bytes([number % 24])) for number, topic in enumerate(topics)])
    txn, calls = store._gateway.txn, 0

    async def compacts_after_the_first(connection: Connection, ops: Sequence[Op]) -> TxnAnswer:
        nonlocal calls
        answer = await txn(connection, ops)
        calls += 1
        if calls == 1:
            await rig.put("elsewhere", b"1")
            found = await trio.to_thread.run_sync(rig.call, "/v3/kv/range", {"key": "eA=="})
            compaction = {"revision": found["header"]["revision"], "physical": True}
            await trio.to_thread.run_sync(rig.call, "/v3/kv/compaction", compaction)
        return answer

    monkeypatch.setattr(store._gateway, "txn", compacts_after_the_first)
    page = await read_page(store, Query(topics=dict.fromkeys(topics, 0)))
    assert len(page.records) == len(topics)
    assert calls > 4
    await store.aclose()


async def test_next_endpoint_serves_when_one_is_gone(rig: EtcdRig) -> None:
    unused = free_port()
    store = await EtcdStore.open(f"etcd://127.0.0.1:{unused},{rig.address}/")
    await put(store, "a")
    assert list(await state(store)) == ["a"]
    await store.aclose()


async def test_cluster_that_loses_a_member(tmp_path: Path) -> None:
    """Three members; the one in use is killed: publishes and reads go on at another, with nothing lost."""
    need_etcd()
    names = ["rig", "two", "three"]
    peers = {name: free_port() for name in names}
    cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in peers.items())
    rigs = [
        EtcdRig(folder_for(tmp_path, name), flags=[f"--name={name}", f"--initial-cluster={cluster}"], peer_port=port)
        for name, port in peers.items()
    ]
    try:
        async with trio.open_nursery() as nursery:
            for rig in rigs:
                nursery.start_soon(rig.start)
        store = await EtcdStore.open(f"etcd://{','.join(rig.address for rig in rigs)}/")
        first = await put(store, "a")
        before = await store.head()
        await rigs[0].kill()
        with trio.fail_after(WAIT_S):
            while True:
                try:
                    second = await put(store, "b")
                    break
                except Unavailable:
                    await trio.lowlevel.checkpoint()
        assert {topic: record.version for topic, record in (await state(store)).items()} == {"a": first, "b": second}
        assert [row.revision for row in (await store.feed(before)).lineages] == [first + 1]
        await rigs[1].kill()
        with pytest.raises(Unavailable):
            await store.read([Query(prefixes={ALL: 0})])
        await store.aclose()
    finally:
        for rig in rigs:
            await rig.kill()


async def test_keys_of_others_are_refused_and_left_alone(rig: EtcdRig) -> None:
    await rig.put("softstate/settings", b"theirs")
    with pytest.raises(StoreRefused, match="namespace"):
        await rig.open()
    assert await rig.keys("softstate/") == {"softstate/settings": b"theirs"}
    await rig.put("other/head", b"theirs")
    with pytest.raises(StoreRefused, match="not written by softstate"):
        await EtcdStore.open(f"{rig.url}namespace=other")
    await rig.put("newer/head", b'{"application":"softstate","layout":3,"other":1}')
    with pytest.raises(StoreRefused, match="layout version 3"):
        await EtcdStore.open(f"{rig.url}namespace=newer")


async def test_neighbours_are_left_alone(rig: EtcdRig) -> None:
    for key in ("softstat", "softstate", "softstate.x/head", "softstate0", "zz"):
        await rig.put(key, b"theirs")
    store = await rig.open()
    await put(store, "a")
    await put(store, "a", None)
    await store.compact(tombstones=9, keys=9)
    await store.destroy()
    assert len(await rig.keys("")) == 5


async def test_closed_store_says_so(rig: EtcdRig) -> None:
    store = await rig.open()
    head = await store.head()

    async def waits() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await store.wait(head.revision)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await store.aclose()
    for call in (store.head, store.reopen, lambda: store.publish([Write("a", b"\x01")])):
        with pytest.raises(trio.ClosedResourceError):
            await call()
    await store.aclose()
