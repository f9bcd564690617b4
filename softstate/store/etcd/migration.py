"""Migrating a namespace from the layout of November 2026, which had no checksums.

First the head is replaced by one of the new layout: from then on every node of November refuses the store, and no write
of one can be committed, since each compares the head. Then the rows are copied, in the order of their versions, each
batch only if the head is still that one; a node that opens a store which was left in the middle goes on behind the
newest row that is there. At last the head says that the copy is complete. The old rows are deleted afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import msgspec
import structlog
import trio

from softstate.errors import RequestError
from softstate.model import Record
from softstate.names import check_topic
from softstate.position import REVISION_MAX
from softstate.store.base import LAYOUT, Key
from softstate.store.etcd.errors import NOT_JSON
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import (
    FOLDED_OPS_MAX,
    TXN_OPS_MAX,
    KeyValue,
    Op,
    RangeAnswer,
    folded,
    get,
    put,
    span,
    span_last,
    value_is,
)
from softstate.store.etcd.rows import version_in, write_keylog, write_lineage, write_record, write_topic, write_use
from softstate.store.etcd.schema import (
    Data,
    Head,
    Layout,
    StoredHead,
    damaged,
    layout_of,
    prefix_end,
    read_head,
    write_head,
)
from softstate.store.etcd.transaction import REQUEST_BYTES_MAX
from softstate.store.remote.encoding import recovered
from softstate.store.rules.judge import TopicState
from softstate.store.rules.nonce import lineage_nonce

NOVEMBER = 1
"""The layout that is migrated."""

ROWS_MAX = 256
"""How many rows one call reads at most: etcd limits an answer by number, never by size."""

LOST = b"lost in layout 1"
"""The value of a topic's row whose record was gone before: it has no checksum."""

log = structlog.get_logger("softstate.store")


class NovemberHead(msgspec.Struct, frozen=True):
    """The head of layout 1."""

    epoch: str
    lineage: str
    since: int
    revision: int
    generation: str
    floor: int = 0

    @property
    def sound(self) -> bool:
        """Whether it can be the head of a store; it has no checksum that would tell."""
        names = self.epoch, self.lineage, self.generation
        return all(map(str.isalnum, names)) and 0 < self.since <= self.revision <= REVISION_MAX >= self.floor >= 0


class Migration:
    """Copies one namespace into the layout of today."""

    def __init__(self, gateway: Gateway, layout: Layout, random: Random) -> None:
        self._gateway = gateway
        self._layout = layout
        self._random = random

    @staticmethod
    def wants(raw: bytes) -> bool:
        """Tell whether a head is of layout 1, or says that a migration is not complete."""
        layout = layout_of(raw)
        return layout == NOVEMBER or (layout == LAYOUT and bool(read_head(raw, "").head.migrating))

    async def run(self, raw: bytes) -> None:
        """Migrate, or go on with it; return when the head has changed, by this node or another that does the same.

        Raises `StoreRefused` when the head or a lineage row is damaged, `Unavailable` if cut off.
        """
        stored = await self._begin(raw) if layout_of(raw) == NOVEMBER else read_head(raw, self._gateway.name)
        if stored is None:
            return
        log.info("migrating the store", store=self._gateway.name, layout=LAYOUT)
        old = Data(self._layout.november + stored.head.migrating.encode() + b"/")
        new = self._layout.data(stored.head.generation)
        tables = {"lineage": self._lineage, "log": _record_ops, "keylog": _key_ops}
        for table, ops_of in tables.items():
            if not await self._copy(stored, old, new, table, ops_of):
                return
        if await self._mark_lost(stored, old, new):
            await self._finish(stored, new)

    async def _begin(self, raw: bytes) -> StoredHead | None:
        try:
            old = msgspec.json.decode(raw, type=NovemberHead)
        except NOT_JSON:
            old = None
        if old is None or not old.sound:
            raise damaged(self._gateway.name, "its key 'head' is not whole")
        head = Head(
            old.epoch, old.lineage, old.since, old.revision, lineage_nonce(self._random), "", old.floor,
            migrating=old.generation,
        )  # fmt: skip
        stored = write_head(head, self._random)
        return stored if await self._write(raw, [put(self._layout.head, stored.raw)]) else None

    async def _copy(
        self, stored: StoredHead, old: Data, new: Data, table: str, ops_of: Callable[[Data, int, bytes], list[Op]]
    ) -> bool:
        """Copy the rows of a table behind the newest that is there already; tell whether the head is still the same."""
        (last,) = await self._ranges([span_last(new.table(table), prefix_end(new.table(table)))])
        after = version_in(last.kvs[0].key, len(new.table(table))) or 0 if last.kvs else 0
        begins, ends = old.between(table, after, stored.head.revision)
        ops: list[Op] = []
        size = 0
        while True:
            rows, following = await self._rows(begins, ends)
            for kv in rows:
                version = version_in(kv.key, len(old.table(table)))
                more = [] if version is None else ops_of(new, version, kv.value)
                if ops and (size + 2 * len(kv.value) > REQUEST_BYTES_MAX or len(ops) + len(more) > FOLDED_OPS_MAX):
                    if not await self._write(stored.raw, ops):
                        return False
                    ops, size = [], 0
                ops += more
                size += 2 * len(kv.value) + 512
            if following is None:
                return not ops or await self._write(stored.raw, ops)
            begins = following

    async def _rows(self, begins: bytes, ends: bytes) -> tuple[Sequence[KeyValue], bytes | None]:
        """Read the first rows of a range; return them, and where to go on if there are more."""
        (found,) = await self._ranges([span(begins, ends, limit=ROWS_MAX)])
        return found.kvs, found.kvs[-1].key + b"\0" if found.more else None

    def _lineage(self, new: Data, version: int, value: bytes) -> list[Op]:
        try:
            return [put(new.at("lineage", version), write_lineage(version, value.decode()))]
        except UnicodeDecodeError:
            raise damaged(self._gateway.name, f"its lineage row at {version} is not text") from None

    async def _mark_lost(self, stored: StoredHead, old: Data, new: Data) -> bool:
        """Make the topics whose record was gone unreadable, so that no client takes them for deleted."""
        tables = old.table("topic"), new.table("topic")
        counts = await self._ranges([span(table, prefix_end(table), count_only=True) for table in tables])
        if counts[0].count == counts[1].count:
            return True
        begins: bytes | None = tables[0]
        while begins is not None:
            rows, begins = await self._rows(begins, prefix_end(tables[0]))
            names = [tables[1] + kv.key[len(tables[0]) :] for kv in rows]
            for at in range(0, len(names), TXN_OPS_MAX):
                part = names[at : at + TXN_OPS_MAX]
                found = await self._ranges([get(name) for name in part])
                lost = [put(name, LOST) for name, answer in zip(part, found, strict=True) if not answer.kvs]
                if lost and not await self._write(stored.raw, lost):
                    return False
        return True

    async def _finish(self, stored: StoredHead, new: Data) -> None:
        tables = [new.table(name) for name in ("lineage", "topic", "keylog")]
        counts = await self._ranges([span(table, prefix_end(table), count_only=True) for table in tables])
        rows, topics, keys = (answer.count for answer in counts)
        head = msgspec.structs.replace(stored.head, migrating="", rows=rows, topics=topics, keys=keys)
        if await self._write(stored.raw, [put(self._layout.head, write_head(head, self._random).raw)]):
            log.info("store was migrated", store=self._gateway.name, layout=LAYOUT, topics=topics)

    async def _ranges(self, ops: Sequence[Op]) -> list[RangeAnswer]:
        async with self._gateway.reading() as connection:
            return [one.response_range for one in (await self._gateway.txn(connection, ops)).responses]

    async def _write(self, raw: bytes, ops: Sequence[Op]) -> bool:
        """Write if the head is still `raw`; tell whether it was. Writing a batch twice does no harm."""
        await trio.lowlevel.checkpoint()
        async with self._gateway.reading() as connection:
            compare = value_is(self._layout.head, raw)
            return await self._gateway.write(connection, [compare], folded(ops[0], ops[1:])) > 0


def _record_ops(new: Data, version: int, value: bytes) -> list[Op]:
    """Return the rows of a record. One of no topic is left behind: no one can ask for it."""
    record = read_november(version, value)
    if record is None:
        return []
    state = TopicState(version, live=not record.deleted)
    ops = [
        put(new.at("log", version), write_record(record)),
        put(new.topic(record.topic), write_topic(record.topic, state)),
    ]
    return [*ops, put(new.at("tomb", version), record.topic.encode())] if record.deleted else ops


def read_november(version: int, value: bytes) -> Record | None:
    """Decode a record of layout 1: topic, NUL, value. One that no node could serve is unreadable."""
    name, _, stored = value.partition(b"\0")
    try:
        topic = check_topic(name.decode())
    except (UnicodeDecodeError, RequestError):
        return None
    if not stored:
        return Record(topic, version, None)
    cbor = recovered(stored)
    return Record(topic, version, cbor, unreadable=cbor is None)


def _key_ops(new: Data, version: int, value: bytes) -> list[Op]:
    try:
        topic, name, digest = msgspec.json.decode(value, type=tuple[str, str, bytes])
    except NOT_JSON:
        return []
    key = Key(topic, name, digest, version)
    return [put(new.key(topic, name), write_use(key)), put(new.at("keylog", version), write_keylog(key))]
