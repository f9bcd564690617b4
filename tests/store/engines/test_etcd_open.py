"""Opening a real etcd: to read only, where there is nothing, where nothing can be written; and limits of its writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from softstate.errors import StoreMissing, StoreRefused, Unavailable
from softstate.model import Query
from softstate.names import ALL
from softstate.store import open_store
from softstate.store.base import LAYOUT, Applied, Number, Write
from softstate.store.etcd import transaction
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.inbox import INBOX_MAX
from softstate.store.etcd.messages import NESTED_MAX, Op
from softstate.store.etcd.store import EtcdStore
from softstate.store.limits import CHECK_EVERY_S
from softstate.testing.conformance.stage import put, state
from tests.store.engines.etcd_rig import EtcdBackend, EtcdRig
from tests.store.engines.rig import WAIT_S


async def test_nothing_is_made_without_leave(rig: EtcdRig) -> None:
    for read_only in (False, True):
        with pytest.raises(StoreMissing, match="store create"):
            await EtcdStore.open(rig.url, create=False, read_only=read_only)
    with pytest.raises(StoreMissing, match="store create"):
        await EtcdStore.open(rig.url, read_only=True)
    with pytest.raises(StoreMissing):
        await open_store(rig.url, create=False)
    assert await rig.keys("") == {}
    await (await rig.open()).aclose()
    store = await EtcdStore.open(rig.url, create=False)
    await put(store, "a")
    await rig.wipe()
    with pytest.raises(StoreMissing):
        await store.reopen()
    assert await rig.keys("") == {}, "not even when it is opened again"
    await store.aclose()


async def test_reading_changes_nothing(rig: EtcdRig) -> None:
    writer = await rig.open()
    await writer.publish([Write("a", b"\x01", key="k", number=Number("p", 1, 0))])
    before = await rig.keys("")
    store = await EtcdStore.open(rig.url, read_only=True)
    assert await store.head() == await writer.head()
    assert list(await state(store)) == ["a"]
    info = await store.info()
    assert (info.topics, info.keys, info.publishers, info.layout) == (1, 1, 1, LAYOUT)
    assert (await store.dump(0)).publishers[0].publisher == "p"
    await rig.publish_directly("direct", "1")
    with trio.move_on_after(2 * CHECK_EVERY_S):
        await store.wait(info.topics + 100)

    async def pages() -> AsyncIterator[object]:
        yield await writer.dump(0)

    calls = (
        lambda: store.publish([Write("a", b"\x02")]),
        lambda: store.compact(tombstones=9, keys=9),
        lambda: store.adopt(pages(), replace=True),  # type: ignore[arg-type]
        store.reopen,
        store.destroy,
    )
    for call in calls:
        with pytest.raises(StoreRefused, match="read only"):
            await call()
    await writer.aclose()
    await store.aclose()
    assert await rig.keys("") == before | {"softstate/inbox/direct": b"1"}


async def test_store_that_is_out_of_space_when_it_is_opened(rig: EtcdRig) -> None:
    """It serves reads under the newest lineage; the first change that succeeds brings the row of its own."""
    store = await rig.open()
    version = await put(store, "a")
    before = await store.head()
    await store.aclose()
    await rig.refuse_writes(on=True)
    store = await rig.open()
    assert await store.head() == before
    assert (await state(store))["a"].version == version
    with pytest.raises(Unavailable, match="disarm"):
        await store.publish([Write("a", b"\x02")])
    assert await store.reopen() == before
    assert "disarm" in store.unwritten
    await rig.refuse_writes(on=False)
    committed = await store.publish([Write("a", b"\x03", expect=version)])
    assert store.unwritten == ""
    assert committed.verdicts == [Applied(version + 2)]
    assert [row.revision for row in (await store.feed(before)).lineages] == [version + 1]
    await store.aclose()
    await rig.refuse_writes(on=True)
    with pytest.raises(Unavailable, match="disarm"):
        await EtcdStore.open(f"{rig.url}namespace=empty")


async def test_entries_below_the_reserved_name_go_before_every_write(rig: EtcdRig) -> None:
    """Also before one that needs to read nothing; they are refused as yet, and more than one batch of them is moved."""
    store = await rig.open()
    await put(store, "a")
    for number in range(INBOX_MAX + 3):
        await rig.put(f"softstate/inbox/$softstate/{number}", b"1")
    await rig.put("softstate/inbox/later", b"1")
    version = await put(store, "a", b"\x02")
    inbox = await rig.keys("softstate/inbox/")
    assert list(inbox) == ["softstate/inbox/later"]
    refused = await rig.keys("softstate/refused/$softstate/")
    assert len(refused) == INBOX_MAX + 3
    assert all(b"reserved" in reason for reason in refused.values())
    assert (await store.head()).revision == version
    for write in (store.compact(tombstones=version, keys=version), store.publish([Write("b", b"\x01", key="k")])):
        await rig.put("softstate/inbox/$softstate", b"1")
        await rig.put("softstate/inbox/$softstate/x/y", b"1")
        await write
    with trio.fail_after(WAIT_S):
        while await rig.keys("softstate/inbox/"):
            await store.wait((await store.head()).revision)
    assert "softstate/refused/$softstate" in await rig.keys("softstate/refused/")
    assert sorted(await state(store)) == ["a", "b", "later"]
    await store.aclose()


async def test_lineage_rows_below_the_floor_are_forgotten(rig: EtcdRig) -> None:
    store = await rig.open()
    heads = [await store.reopen() for _ in range(130)]
    await put(store, "a")
    tombstone = await put(store, "a", None)
    later = [await store.reopen() for _ in range(3)]
    floor = await store.compact(tombstones=(await store.head()).revision, keys=0)
    assert floor == tombstone
    rows = [key for key in await rig.keys("softstate/store/") if "/lineage/" in key]
    assert len(rows) == 1 + len(later)
    at = [heads[0].revision, heads[-1].revision, *(row.revision for row in later)]
    assert list(await store.lineage_at(at)) == [None, heads[-1].lineage, *(row.lineage for row in later)]
    again = await rig.open()
    assert (await again.info()).topics == 0
    await again.aclose()
    await store.aclose()


async def test_publishers_with_much_in_flight_share_no_request(rig: EtcdRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows make a transaction longer than etcd takes: it is cut until it fits, in order."""
    store = await rig.open()
    names = [f"p{number}" for number in range(30)]
    for name in names:
        await store.publish([Write(f"{name}/{seq}", b"\x01", number=Number(name, seq, 0)) for seq in range(1, 9)])
    monkeypatch.setattr(transaction, "REQUEST_BYTES_LIMIT", 4_000)
    sizes: list[int] = []
    write = Gateway.write

    async def noted(gateway: Gateway, connection: Connection, compares: Sequence[Op], ops: Sequence[Op]) -> int:
        sizes.append(len(ops))
        return await write(gateway, connection, compares, ops)

    monkeypatch.setattr(Gateway, "write", noted)
    head = await store.head()
    group = [Write(f"last/{name}", b"\x02", digest=bytes(16), number=Number(name, 9, 3)) for name in names]
    committed = await store.publish(group)
    assert committed.verdicts == [Applied(head.revision + 1 + at) for at in range(30)]
    assert len(sizes) > 2
    repeated = (await store.publish(group)).verdicts
    assert repeated == [Applied(head.revision + 1 + at, repeated=True) for at in range(30)]
    await store.aclose()


async def test_a_full_group_of_conditions_is_within_the_limits_of_etcd(rig: EtcdRig) -> None:
    """From memory, whose comparisons etcd counts as operations, and with more of them than it takes."""
    store = await rig.open()
    topics = [f"t/{number}" for number in range(400)]
    versions = dict.fromkeys(topics, 0)
    for count in (1, NESTED_MAX // 2 - 1, NESTED_MAX // 2, NESTED_MAX, 400):
        for _ in range(2):
            group = [Write(topic, b"\x01", expect=versions[topic], key=f"{count}") for topic in topics[:count]]
            group += [Write(topic, b"\x01") for topic in topics[count:]]
            for topic, verdict in zip(topics, (await store.publish(group)).verdicts, strict=True):
                assert isinstance(verdict, Applied)
                versions[topic] = verdict.version
            await store.compact(tombstones=0, keys=max(versions.values()))
    assert {topic: record.version for topic, record in (await state(store)).items()} == versions
    await store.aclose()


async def test_a_rival_that_opens_while_another_is_read(rig: EtcdRig) -> None:
    """Readers that hold a snapshot while lineage rows are compacted away answer from it."""
    store, rival = await rig.open(), await rig.open()
    backend = EtcdBackend(rig, "softstate")
    witness = await put(store, "a")
    head = await store.head()
    await put(rival, "a", None)
    await rival.compact(tombstones=witness + 9, keys=0)
    answers = await store.read([Query(witness=head), Query(prefixes={ALL: 0})])
    assert len(answers) == 2
    assert await backend.snapshot()
    await rival.aclose()
    await store.aclose()
