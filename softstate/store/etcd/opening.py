"""Opening a namespace: finding out what is there, creating or migrating it, and committing a lineage row."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import structlog

from softstate.errors import StoreMissing, StoreRefused, Unavailable
from softstate.store.base import LAYOUT
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.dump import clear_range
from softstate.store.etcd.errors import SnapshotGone
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import get, span, unchanged, value_is
from softstate.store.etcd.migration import Migration
from softstate.store.etcd.schema import Data, Head, Layout, StoredHead, prefix_end, read_head, write_head
from softstate.store.etcd.snapshot import check_lineages, lineage_rows
from softstate.store.etcd.transaction import EtcdTransaction
from softstate.store.etcd.write import WriteOutcome, Writer
from softstate.store.rules.nonce import epoch_nonce, lineage_nonce

log = structlog.get_logger("softstate.store")


@dataclass(frozen=True, slots=True)
class Survey:
    """The contents of a namespace: its head, if there is one, and whether it has other keys, and keys of layout 1.

    `at` is etcd's revision of the snapshot.
    """

    raw: bytes | None
    others: bool
    november: bool
    at: int


class Opening:
    """Opens one namespace."""

    def __init__(self, gateway: Gateway, layout: Layout, writer: Writer, random: Random) -> None:
        self._gateway = gateway
        self._layout = layout
        self._writer = writer
        self._random = random

    async def look(self) -> StoredHead:
        """Return the head of the store that is there, and change nothing. Raises as `commit` does."""
        while True:
            try:
                async with self._gateway.reading() as connection:
                    survey = await self._survey(connection)
                    return await self._checked(connection, survey)
            except SnapshotGone:
                continue

    async def commit(self, *, create: bool) -> StoredHead:
        """Commit a lineage row. Creates the store if there is none and `create`; migrates one of November.

        Raises `StoreMissing`, `StoreRefused` or `Unavailable`. The next opening goes on with a migration that was cut
        off.
        """
        while True:
            async with self._gateway.reading() as connection:
                survey = await self._survey(connection)
            if survey.raw is None or not Migration.wants(survey.raw):
                break
            await Migration(self._gateway, self._layout, self._random).run(survey.raw)
        lineage = lineage_nonce(self._random)

        async def attempt(connection: Connection, outcome: WriteOutcome) -> StoredHead | None:
            found = await self._survey(connection)
            if found.raw is None:
                self._may_create(found, create=create)
                empty = Head(epoch_nonce(self._random), "", 0, 0, lineage_nonce(self._random), "")
                transaction = EtcdTransaction(self._layout.data(empty.generation), empty, nonce=lineage)
                compare = unchanged(self._layout.head, 0)
            else:
                base = await self._checked(connection, found)
                transaction = EtcdTransaction(self._layout.data(base.head.generation), base.head, nonce=lineage)
                compare = value_is(self._layout.head, base.raw)
            stored = write_head(transaction.head, self._random)
            sent = await self._writer.send(connection, outcome, [compare], stored, transaction.ops())
            return stored if sent else None

        stored = await self._writer.retry(attempt)
        if survey.november:
            await self._clear_november()
        return stored

    async def _survey(self, connection: Connection) -> Survey:
        layout = self._layout
        inbox_end, end = prefix_end(layout.inbox), prefix_end(layout.root)
        november = span(layout.november, prefix_end(layout.november), limit=1, keys_only=True)
        others = [
            span(begins, ends, limit=1, keys_only=True)
            for begins, ends in ((layout.root, layout.inbox), (inbox_end, end))
        ]
        answer = await self._gateway.txn(connection, [get(layout.head), november, *others])
        head, old, *rest = (one.response_range for one in answer.responses)
        raw = head.kvs[0].value if head.kvs else None
        return Survey(raw, any(found.kvs for found in rest), bool(old.kvs), answer.header.revision)

    def _may_create(self, survey: Survey, *, create: bool) -> None:
        if survey.others:
            raise StoreRefused(
                f"{self._gateway.name} holds keys below {self._layout.namespace}/ but no head: they are not softstate's"
                " and were left untouched, or a store there is damaged: choose another ?namespace=, or delete those"
                " keys and put a backup back (`softstate store restore`)"
            )
        if not create:
            raise StoreMissing(
                f"{self._gateway.name} holds no store, and none was to be made: create one with"
                " `softstate store create URL`, or correct the URL"
            )

    async def _checked(self, connection: Connection, survey: Survey) -> StoredHead:
        """Return the head if it and every lineage row are whole."""
        name = self._gateway.name
        if survey.raw is None:
            self._may_create(survey, create=False)
            raise AssertionError("unreachable: it raises")
        stored = read_head(survey.raw, name)
        if stored.head.migrating:
            raise StoreRefused(
                f"{name} is being migrated to layout {LAYOUT}: wait, or start a node on it (softstate serve), which"
                " goes on with it"
            )
        data, head = self._layout.data(stored.head.generation), stored.head
        tables = [span(table, prefix_end(table), **options) for table, options in _checked_tables(data)]
        pinned = [{"request_range": op["request_range"] | {"revision": survey.at}} for op in tables]
        answer = await self._gateway.txn(connection, pinned)
        lineages, topics, records = (one.response_range for one in answer.responses)
        check_lineages(lineage_rows(data, head.position, lineages.kvs), head, name)
        if not topics.count == records.count == head.topics:
            log.warning(
                "rows were lost, or put there by others",
                store=name, written=head.topics, topics=topics.count, records=records.count,
                advice="publish the topics again, or restore a backup",
            )  # fmt: skip
        return stored

    async def _clear_november(self) -> None:
        begins, ends = self._layout.november, prefix_end(self._layout.november)
        try:
            await clear_range(self._gateway, begins, ends)
        except Unavailable as error:
            log.warning("rows of layout 1 are left", store=self._gateway.name, because=error.message)


def _checked_tables(data: Data) -> list[tuple[bytes, dict[str, bool]]]:
    count = {"count_only": True}
    return [(data.table("lineage"), {}), (data.table("topic"), count), (data.table("log"), count)]
