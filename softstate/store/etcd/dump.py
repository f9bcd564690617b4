"""Dumping all that a namespace holds, and filling one with what another store dumped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

import structlog

from softstate.errors import Unavailable
from softstate.model import PAGE_BYTES_MAX
from softstate.names import ALL
from softstate.position import REVISION_MAX, Position
from softstate.store.base import Dump, Key, Publisher
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.demand import Demand
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import (
    NESTED_MAX,
    KeyValue,
    Op,
    RangeAnswer,
    delete,
    delete_span,
    get,
    put,
    span,
    value_is,
)
from softstate.store.etcd.name_index import PREFIX_TOPICS_MAX
from softstate.store.etcd.rows import read_keylog, read_publisher, version_in, write_lineage
from softstate.store.etcd.schema import Data, Head, Layout, StoredHead, prefix_end, write_head
from softstate.store.etcd.snapshot import EtcdSnapshot, PageBudget, begin_snapshot, log_op, scan_log, topics_in
from softstate.store.etcd.transaction import REQUEST_BYTES_MAX, EtcdTransaction
from softstate.store.etcd.write import WriteOutcome, Writer
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.dump import check_joined, published_to
from softstate.store.rules.nonce import lineage_nonce

T = TypeVar("T")

CLEAR_KEYS = 1_000
"""How many keys one request removes of a generation that is no longer used."""

log = structlog.get_logger("softstate.store")


def dump_ops(data: Data, after: int, limit: int) -> list[Op]:
    """Read the first records, keys, lineage rows and publishers above a revision."""
    first = PageBudget(limit, PAGE_BYTES_MAX).fetch_size()
    tables = ("keylog", "lineage", "touched")
    rest = [span(*data.between(table, after, REVISION_MAX), limit=limit + 1) for table in tables]
    return [log_op(data, after, first), *rest]


async def fetch_dump(
    snapshot: EtcdSnapshot, after: int, limit: int
) -> tuple[FetchedSnapshot, list[Key], list[Publisher]]:
    """Fetch what `softstate.store.rules.paging.dump_page` asks for. The snapshot was begun with `dump_ops`."""
    log_answer, keylog, lineage, touched = snapshot.answers
    if snapshot.stored.head.topics <= PREFIX_TOPICS_MAX:
        # Looked up by name, a record that is gone is told.
        records = await Demand(snapshot, {}, {}).everything(after, limit, PAGE_BYTES_MAX)
    else:
        records = await scan_log(snapshot, after, PageBudget(limit, PAGE_BYTES_MAX), log_answer.kvs)
    begins, head = len(snapshot.data.table("keylog")), snapshot.position.revision

    async def keys_in(kvs: Sequence[KeyValue]) -> list[Key]:
        found = [(version_in(kv.key, begins), kv.value) for kv in kvs]
        keys = [read_keylog(version, value) for version, value in found if version is not None and version <= head]
        return [key for key in keys if key is not None]

    async def publishers_in(kvs: Sequence[KeyValue]) -> list[Publisher]:
        return await _publishers(snapshot, [kv.key for kv in kvs])

    rows = await _first_whole(snapshot, "lineage", lineage, limit, snapshot.lineage_rows)
    keys = await _first_whole(snapshot, "keylog", keylog, limit, keys_in)
    publishers = await _first_whole(snapshot, "touched", touched, limit, publishers_in)
    if len(publishers) > limit:
        last = publishers[-1].touched
        (same,) = await snapshot.ranges([span(*snapshot.data.between("touched", last - 1, last))])
        publishers = [one for one in publishers if one.touched < last] + await publishers_in(same.kvs)
    return snapshot.fetched(rows=rows, scans={(ALL, after, True): records}), keys, publishers


async def _first_whole(
    snapshot: EtcdSnapshot,
    table: str,
    answer: RangeAnswer,
    limit: int,
    decode: Callable[[Sequence[KeyValue]], Awaitable[list[T]]],
) -> list[T]:
    """Return `limit` rows of a table, and one more if there are more: as many as are whole, and not keys of others."""
    found = await decode(answer.kvs)
    while answer.more and len(found) <= limit:
        begins, ends = answer.kvs[-1].key + b"\0", prefix_end(snapshot.data.table(table))
        (answer,) = await snapshot.ranges([span(begins, ends, limit=limit + 1)])
        found += await decode(answer.kvs)
    return found


async def _publishers(snapshot: EtcdSnapshot, keys: Sequence[bytes]) -> list[Publisher]:
    """Read the publishers that keys of ``touched`` lead to."""
    data = snapshot.data
    names = [key[len(data.at("touched", 0)) + 1 :] for key in keys]
    answers = await snapshot.ranges([get(data.table("publisher") + name) for name in names])
    found: list[Publisher] = []
    for key, name, answer in zip(keys, names, answers, strict=True):
        value = answer.kvs[0].value if answer.kvs else b""
        publisher = read_publisher(name.decode(errors="replace"), value)
        if publisher is not None and data.touched(publisher.touched, publisher.publisher) == key:
            found.append(publisher)
    return found


class Adoption:
    """Fills a generation beside the current one, then puts it in its place; if cut off before, nothing happened."""

    def __init__(self, gateway: Gateway, layout: Layout, writer: Writer, random: Random) -> None:
        self._gateway = gateway
        self._layout = layout
        self._writer = writer
        self._random = random
        self._generation = lineage_nonce(random)
        self._data = layout.data(self._generation)
        self._marker = self._data.root + b"adopting"
        self._last: Dump | None = None

    async def adopt(self, pages: AsyncIterator[Dump], seen: tuple[Position, str], *, replace: bool) -> StoredHead:
        """Take the pages; see `Store.adopt`. Returns the head that was put in place."""
        stored = await self._current(seen, replace=replace)
        await self._clear_others(stored.head.generation)
        await self._write([], [put(self._marker, b"1")])
        async for page in pages:
            check_joined(self._last, page)
            if page.after == 0 and self._last is not None:
                await self._clear(self._data.root, prefix_end(self._data.root))
                await self._write([], [put(self._marker, b"1")])
            await self._take(page)
            self._last = page
        check_joined(self._last, None)
        assert self._last is not None
        stored = await self._finish(self._last, seen, replace=replace)
        try:
            await self._clear_others(self._generation)
        except Unavailable as error:
            log.warning("old generation is left", store=self._gateway.name, because=error.message)
        return stored

    async def _current(self, seen: tuple[Position, str], *, replace: bool) -> StoredHead:
        async with self._gateway.reading() as connection:
            snapshot = await begin_snapshot(self._gateway, connection, self._layout, seen)
            self._check_empty(snapshot, replace=replace)
            return snapshot.stored

    def _check_empty(self, snapshot: EtcdSnapshot, *, replace: bool) -> None:
        if not replace and snapshot.position.revision > snapshot.stored.head.rows:
            raise published_to(self._gateway.name)

    async def _take(self, page: Dump) -> None:
        transaction = EtcdTransaction(self._data, Head("", "", 0, 0, self._generation, ""))
        topics = [record.topic for record in page.records]
        found = await self._ranges([get(self._data.topic(topic)) for topic in topics])
        transaction.topics.update(topics_in(topics, found, REVISION_MAX))
        for record in page.records:
            transaction.place(record)
        for key in page.keys:
            transaction.keep(key)
        ids = [publisher.publisher for publisher in page.publishers]
        found = await self._ranges([get(self._data.publisher(one)) for one in ids])
        for one, publisher, answer in zip(ids, page.publishers, found, strict=True):
            transaction.note(publisher, read_publisher(one, answer.kvs[0].value) if answer.kvs else None)
        for row in page.rows:
            transaction.changes[self._data.at("lineage", row.revision)] = write_lineage(row.revision, row.lineage)
        part: list[Op] = []
        size = 0
        for name, value in transaction.changes.items():
            size += len(name) + len(value or b"") + 64
            if part and (size > REQUEST_BYTES_MAX or len(part) == NESTED_MAX):
                await self._write(self._still_ours, part)
                part, size = [], len(name) + len(value or b"") + 64
            part.append(delete(name) if value is None else put(name, value))
        if part:
            await self._write(self._still_ours, part)

    @property
    def _still_ours(self) -> list[Op]:
        return [value_is(self._marker, b"1")]

    async def _finish(self, page: Dump, seen: tuple[Position, str], *, replace: bool) -> StoredHead:
        tables = [self._data.table(name) for name in ("topic", "lineage", "keylog", "touched")]
        counts = await self._ranges([span(table, prefix_end(table), count_only=True) for table in tables])
        topics, rows, keys, publishers = (counted.count for counted in counts)
        lineage, revision = lineage_nonce(self._random), page.position.revision + 1
        head = Head(
            page.position.epoch, lineage, revision, revision, self._generation, "", page.floor,
            topics=topics, rows=rows + 1, keys=keys, publishers=publishers,
        )  # fmt: skip

        async def attempt(connection: Connection, outcome: WriteOutcome) -> StoredHead | None:
            snapshot = await begin_snapshot(self._gateway, connection, self._layout, seen)
            self._check_empty(snapshot, replace=replace)
            stored = write_head(head, self._random)
            compares = [value_is(self._layout.head, snapshot.stored.raw), *self._still_ours]
            row = put(self._data.at("lineage", revision), write_lineage(revision, lineage))
            ops = [row, delete(self._marker)]
            return stored if await self._writer.send(connection, outcome, compares, stored, ops) else None

        return await self._writer.retry(attempt)

    async def _write(self, compares: Sequence[Op], ops: Sequence[Op]) -> None:
        async with self._gateway.reading() as connection:
            if not await self._gateway.write(connection, compares, ops):
                raise Unavailable(f"another copy is being put into {self._gateway.name}: wait for it, then try again")

    async def _ranges(self, ops: Sequence[Op]) -> list[RangeAnswer]:
        async with self._gateway.reading() as connection:
            found: list[RangeAnswer] = []
            for at in range(0, len(ops), NESTED_MAX):
                answer = await self._gateway.txn(connection, ops[at : at + NESTED_MAX])
                found += [one.response_range for one in answer.responses]
            return found

    async def _clear_others(self, generation: str) -> None:
        kept = self._layout.data(generation).root
        await self._clear(self._layout.generations, kept)
        await self._clear(prefix_end(kept), prefix_end(self._layout.generations))

    async def _clear(self, begins: bytes, ends: bytes) -> None:
        await clear_range(self._gateway, begins, ends)


async def clear_range(gateway: Gateway, begins: bytes, ends: bytes) -> None:
    """Delete the keys from `begins` up to and without `ends`, a few at a time. Raises `Unavailable` if cut off."""
    while True:
        async with gateway.reading() as connection:
            answer = await gateway.txn(connection, [span(begins, ends, limit=CLEAR_KEYS, keys_only=True)])
            kvs = answer.responses[0].response_range.kvs
            if not kvs:
                return
            await gateway.write(connection, [], [delete_span(kvs[0].key, kvs[-1].key + b"\0")])
