"""Dumping all that a namespace holds, and filling one with what another store dumped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random

import structlog

from softstate.errors import Unavailable
from softstate.model import PAGE_BYTES_MAX
from softstate.names import ALL
from softstate.position import REVISION_MAX, Position
from softstate.store.base import Dump, Key
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import NESTED_MAX, Op, RangeAnswer, delete, delete_span, get, put, span, value_is
from softstate.store.etcd.schema import Data, Head, Layout, StoredHead, prefix_end, read_keylog, write_head
from softstate.store.etcd.snapshot import EtcdSnapshot, PageBudget, begin_snapshot, log_op, rows_in, scan_log, topics_in
from softstate.store.etcd.transaction import REQUEST_BYTES_MAX, EtcdTransaction
from softstate.store.etcd.write import WriteOutcome, Writer
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.dump import check_joined, published_to
from softstate.store.rules.nonce import lineage_nonce

CLEAR_KEYS = 1_000
"""How many keys one request removes of a generation that is no longer used."""

log = structlog.get_logger("softstate.store")


def dump_ops(data: Data, after: int, limit: int) -> list[Op]:
    """Read the first records, keys and lineage rows above a revision."""
    first = PageBudget(limit, PAGE_BYTES_MAX).fetch_size()
    rest = [span(*data.between(table, after, REVISION_MAX), limit=limit + 1) for table in ("keylog", "lineage")]
    return [log_op(data, after, first), *rest]


async def fetch_dump(snapshot: EtcdSnapshot, after: int, limit: int) -> tuple[FetchedSnapshot, list[Key]]:
    """Fetch what `softstate.store.rules.paging.dump_page` asks for. The snapshot was begun with `dump_ops`."""
    log_answer, keylog, lineage = snapshot.answers
    budget = PageBudget(limit, PAGE_BYTES_MAX)
    records = await scan_log(snapshot, ALL, after, tombstones=True, budget=budget, kvs=log_answer.kvs)
    fetched = snapshot.fetched(rows=rows_in(lineage, snapshot.position.epoch), scans={(ALL, after, True): records})
    return fetched, [read_keylog(kv.key, kv.value) for kv in keylog.kvs]


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
            snapshot = await begin_snapshot(self._gateway, connection, self._layout, seen, ops=_rows_counted)
            self._check_empty(snapshot, replace=replace)
            return snapshot.stored

    def _check_empty(self, snapshot: EtcdSnapshot, *, replace: bool) -> None:
        if not replace and snapshot.position.revision > snapshot.answers[0].count:
            raise published_to(self._gateway.name)

    async def _take(self, page: Dump) -> None:
        transaction = EtcdTransaction(self._data, Head("", "", 0, 0, self._generation, ""))
        topics = [record.topic for record in page.records]
        found = await self._ranges([get(self._data.topic(topic)) for topic in topics])
        transaction.topics.update(topics_in(topics, found))
        for record in page.records:
            transaction.place(record)
        for key in page.keys:
            transaction.keep(key)
        for row in page.rows:
            transaction.changes[self._data.at("lineage", row.revision)] = row.lineage.encode()
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
        (counted,) = await self._ranges(
            [span(self._data.table("key"), prefix_end(self._data.table("key")), count_only=True)]
        )
        lineage, revision = lineage_nonce(self._random), page.position.revision + 1
        head = Head(page.position.epoch, lineage, revision, revision, self._generation, "", page.floor, counted.count)

        async def attempt(connection: Connection, outcome: WriteOutcome) -> StoredHead | None:
            snapshot = await begin_snapshot(self._gateway, connection, self._layout, seen, ops=_rows_counted)
            self._check_empty(snapshot, replace=replace)
            stored = write_head(head, self._random)
            compares = [value_is(self._layout.head, snapshot.stored.raw), *self._still_ours]
            ops = [put(self._data.at("lineage", revision), lineage.encode()), delete(self._marker)]
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
        while True:
            (answer,) = await self._ranges([span(begins, ends, limit=CLEAR_KEYS, keys_only=True)])
            if not answer.kvs:
                return
            await self._write([], [delete_span(answer.kvs[0].key, answer.kvs[-1].key + b"\0")])


def _rows_counted(data: Data) -> list[Op]:
    return [span(data.table("lineage"), prefix_end(data.table("lineage")), count_only=True)]
