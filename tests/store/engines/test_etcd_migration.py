"""A store that November's softstate wrote, carried over to the layout of today, also if cut off at any place."""

from __future__ import annotations

import itertools
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from softstate.errors import StoreRefused, Unavailable
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import LAYOUT, Applied, Write
from softstate.store.etcd import migration
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import Op
from softstate.store.etcd.store import EtcdStore
from softstate.testing.conformance.stage import put, read_page
from softstate.wire import encode_value
from tests.store.engines.etcd_rig import EtcdBackend, EtcdRig
from tests.store.engines.rig import WAIT_S

NOVEMBER = Path(__file__).parent / "november" / "etcd.json"
"""All that a namespace held, written by the code of 502e1a6, then damaged at six topics, as each is named."""

HEAD = Position("a3a08b5b3ba8f3914fcb85bafbfea8e9", "a7c73696068f6bb0", 33)
EARLIER = Position(HEAD.epoch, "eafb444814437d5a", 14)
FLOOR = 15
VALUES = [None, True, -7, 1.5, "ä", b"\x00\xff", [1, [2]], {"k": {"l": None}}]
BAD = ("ffff", "tag", "short", "deep")
WANTED: Mapping[str, Record] = {
    record.topic: record
    for record in (
        *(Record(f"orders/{n}", n + 2, encode_value({"state": "new", "n": n})) for n in range(12) if n != 3),
        *(Record(f"values/{n}", n + 17, encode_value(value)) for n, value in enumerate(VALUES)),
        Record("gone/late", 26, None),
        Record("orders/3", 27, encode_value({"state": "paid"})),
        *(
            Record(f"bad/{name}", 28 + n, None, unreadable=True)
            for n, name in enumerate(("ffff", "tag", "short", "deep"))
        ),
        Record("bad/text", 33, None, unreadable=True),
    )
}
_numbers = itertools.count()


@pytest.fixture
async def backend(backend: EtcdBackend) -> EtcdBackend:
    """A namespace as November left it."""
    await backend.restore({f"{backend.namespace}/{key}": value for key, value in november().items()})
    return backend


def november() -> dict[str, bytes]:
    return {key.removeprefix("softstate/"): b64decode(value) for key, value in json.loads(NOVEMBER.read_text()).items()}


async def contents(store: EtcdStore) -> dict[str, Record]:
    """Read everything, tombstones too, as a client would that knows all up to the floor."""
    page = await read_page(store, Query(prefixes={ALL: FLOOR}, topics=dict.fromkeys(WANTED, 0)))
    return {record.topic: record for record in page.records}


async def check(store: EtcdStore) -> None:
    """Check that nothing was lost."""
    found = await contents(store)
    assert {topic: found[topic] for topic in WANTED} == WANTED
    (lost,) = (await read_page(store, Query(topics={"bad/lost": 0}))).records
    assert lost.unreadable, "its record was gone in November"
    live = await read_page(store, Query(prefixes={ALL: 0}))
    assert {record.topic for record in live.records} >= {
        topic for topic, record in WANTED.items() if not record.deleted
    }
    assert "bad/lost" in {record.topic for record in live.records}
    assert list(await store.lineage_at([EARLIER.revision, HEAD.revision])) == [EARLIER.lineage, HEAD.lineage]
    answers = await store.read([Query(witness=EARLIER), Query(witness=HEAD)])
    assert [type(answer) for answer in answers] == [Page, Page], "clients of November continue"
    info = await store.info()
    assert (info.layout, info.topics, info.tombstones, info.keys) == (LAYOUT, 26, 1, 9)
    again = Write("values/4", encode_value("ä"), key="key4", digest=bytes([4]) * 16)
    assert (await store.publish([again])).verdicts == [Applied(21, repeated=True)]


async def test_november_is_carried_over(backend: EtcdBackend) -> None:
    store = await backend.open()
    await check(store)
    assert (await store.feed(HEAD)).lineages[0].revision == HEAD.revision + 1
    keys = await backend.rig.keys(f"{backend.namespace}/")
    assert not [key for key in keys if key.startswith(f"{backend.namespace}/data/")]
    assert keys[f"{backend.namespace}/refused/c\x01"] == b"no control characters\n1"
    head = await store.head()
    with trio.fail_after(WAIT_S):
        while (await store.head()).revision == head.revision:
            await store.wait(head.revision)
    waiting = (await contents(store))["waiting"]
    assert waiting.cbor == encode_value({"from": "november"}), "what waited in the inbox is published"
    healed = await put(store, "bad/ffff")
    assert (await contents(store))["bad/ffff"] == Record("bad/ffff", healed, b"\x01")
    assert await store.compact(tombstones=healed, keys=healed) == 26
    assert (await store.info()).keys == 0
    await store.aclose()
    again = await backend.open()
    assert (await read_page(again, Query(topics={"values/4": 0}))).records == [WANTED["values/4"]]
    await again.aclose()


async def test_nodes_that_open_at_once(backend: EtcdBackend) -> None:
    stores: list[EtcdStore] = []

    async def opens() -> None:
        stores.append(await backend.open())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(opens)
    for store in stores:
        await check(store)
        await store.aclose()


class CutOff:
    """Makes the write of a number fail, before or after it reaches etcd, and all that follow."""

    def __init__(self, patch: pytest.MonkeyPatch, *, before: bool) -> None:
        self.fails_at: int | None = None
        self.writes = 0
        self._before = before
        self._write = Gateway.write
        cut = self

        async def write(gateway: Gateway, connection: Connection, compares: Sequence[Op], ops: Sequence[Op]) -> int:
            return await cut.write(gateway, connection, compares, ops)

        patch.setattr(Gateway, "write", write)
        patch.setattr(migration, "REQUEST_BYTES_MAX", 1500)

    async def write(self, gateway: Gateway, connection: Connection, compares: Sequence[Op], ops: Sequence[Op]) -> int:
        self.writes += 1
        down = self.fails_at is not None and self.writes >= self.fails_at
        if down and (self._before or self.writes > (self.fails_at or 0)):
            raise Unavailable("cut off")
        done = await self._write(gateway, connection, compares, ops)
        if down:
            raise Unavailable("cut off")
        return done


@pytest.mark.parametrize("before", [True, False])
async def test_migration_that_is_cut_off_at_any_write(
    server: EtcdRig, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """The next opening goes on, and nothing is missing; what November sees meanwhile is of no use to it."""
    cut = CutOff(monkeypatch, before=before)
    for fails_at in itertools.count(1):
        backend = EtcdBackend(server, f"cut-{next(_numbers)}")
        await backend.restore({f"{backend.namespace}/{key}": value for key, value in november().items()})
        cut.writes, cut.fails_at = 0, fails_at
        try:
            store = await backend.open()
        except Unavailable:
            cut.fails_at = None
            with pytest.raises(StoreRefused, match="softstate serve"):
                await open_for_reading(backend)
            store = await backend.open()
        cut.fails_at = None
        await check(store)
        await store.aclose()
        if cut.writes < fails_at:
            break
    assert fails_at > 8, "batches are small here"


async def open_for_reading(backend: EtcdBackend) -> EtcdStore:
    return await EtcdStore.open(f"{backend.rig.url}namespace={backend.namespace}", read_only=True)


async def test_reading_does_not_migrate(backend: EtcdBackend) -> None:
    before = await backend.snapshot()
    with pytest.raises(StoreRefused, match=r"layout version 1.*softstate serve.*stop every older node"):
        await open_for_reading(backend)
    assert await backend.snapshot() == before


async def test_a_forgotten_node_of_november_fails(backend: EtcdBackend) -> None:
    """Its writes compare the head that it has read, and when it reads again, it refuses a head of layout 2.

    Its code told the layout by these fields, and compared nothing else.
    """
    old = (await backend.snapshot())[f"{backend.namespace}/head"]
    store = await backend.open()
    new: dict[str, Any] = json.loads((await backend.snapshot())[f"{backend.namespace}/head"])
    assert set(json.loads(old)) <= set(new)
    assert (new["application"], new["layout"]) == ("softstate", LAYOUT)
    key = b64encode(f"{backend.namespace}/head".encode()).decode()
    answer = await trio.to_thread.run_sync(
        backend.rig.call,
        "/v3/kv/txn",
        {
            "compare": [{"key": key, "target": "VALUE", "value": b64encode(old).decode()}],
            "success": [{"request_put": {"key": key, "value": b64encode(old).decode()}}],
        },
    )
    assert not answer.get("succeeded")
    await check(store)
    await store.aclose()


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "x"},
        {"revision": -1},
        {"revision": 2**60},
        {"since": 0},
        {"since": 2**52},
        {"floor": -1},
        {"generation": "../.."},
        {"lineage": ""},
    ],
    ids=str,
)
async def test_damaged_head_of_november(backend: EtcdBackend, change: dict[str, Any]) -> None:
    head = json.loads(november()["head"]) | change
    await backend.rig.put(f"{backend.namespace}/head", json.dumps(head).encode())
    with pytest.raises(StoreRefused, match=r"damaged.*restore"):
        await backend.open()
