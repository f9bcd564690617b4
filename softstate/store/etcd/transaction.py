"""One write to etcd: judged in memory against what was read, then sent as one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from softstate.model import Record
from softstate.store.base import PUBLISHERS_MAX, Key, Publisher, Verdict, Write
from softstate.store.etcd.messages import FOLDED_OPS_MAX, Op, delete, delete_span, put
from softstate.store.etcd.rows import write_keylog, write_lineage, write_publisher, write_record, write_topic, write_use
from softstate.store.etcd.schema import Data, Head
from softstate.store.rules.history import Snapshot
from softstate.store.rules.judge import KeyUse, TopicState, judge_group

PUBLISH_OPS_MAX = 10
"""Operations of one write at most: its record, the one before, the tombstones of both (damage may hide that the one
before is none), topic, key twice, and the publisher with where it was touched before and now."""

PUBLISHES_MAX = FOLDED_OPS_MAX // PUBLISH_OPS_MAX
"""Writes that one transaction holds at most."""

REQUEST_BYTES_MAX = 1024 * 1024
"""The longest transaction that is planned, in bytes: etcd refuses a request above 1.5 MiB, names and framing included.

The numbers that publishers have in flight are known only when they were read: a transaction that they make too long is
cut in two."""

REQUEST_BYTES_LIMIT = 1_400_000
"""The longest transaction that is sent, in bytes."""

USE_BYTES = 40
"""The bytes that a number takes in the row of its publisher, about."""

PUBLISH_BYTES = 900
"""The bytes of a write beside value, topic and key, at most: the prefixes of `PUBLISH_OPS_MAX` names in etcd."""


class TransactionTooLong(Exception):
    """The writes of a group make a transaction that etcd would refuse; half of them may not."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many idempotency keys and publishers are held at most."""

    keys_max: int = 0
    publishers_max: int = PUBLISHERS_MAX


@dataclass(frozen=True, slots=True)
class Known:
    """The rows that a group of writes is judged by; each mapping has those that are there and not damaged.

    But `topics` has damaged ones too, as such.
    """

    topics: Mapping[str, TopicState]
    keys: Mapping[tuple[str, str], KeyUse] = field(default_factory=dict)
    publishers: Mapping[str, Publisher] = field(default_factory=dict)


NO_BOUNDS = Bounds()


class EtcdTransaction:
    """The changes of one write below the namespace. `head` is the head that it leaves, without the token.

    With a `nonce` a lineage row goes before everything else. `topics` has the state of the topics that it writes to,
    before, and then after; `written` and `publishers` have what it has left of them.
    """

    def __init__(self, data: Data, head: Head, *, nonce: str | None = None, bounds: Bounds = NO_BOUNDS) -> None:
        self.data = data
        self.head = head
        self.bounds = bounds
        self.topics: dict[str, TopicState] = {}
        self.written: dict[str, TopicState] = {}
        self.publishers: dict[str, Publisher] = {}
        self.records: list[Record] = []
        self.compares: list[Op] = []
        self.changes: dict[bytes, bytes | None] = {}
        """Values to put, or None to delete; each key once, as etcd demands."""
        self.spans: dict[bytes, bytes] = {}
        """Ranges to delete: the end of each by its begin."""
        self._row: dict[bytes, bytes] = {}
        if nonce is not None:
            since = head.revision + 1
            self.head = msgspec.structs.replace(head, lineage=nonce, since=since, revision=since, rows=head.rows + 1)
            self._row[data.at("lineage", since)] = write_lineage(since, nonce)
        self.before = self.head.revision
        """The revision before the first record."""

    def apply(self, group: Sequence[Write], snapshot: Snapshot, known: Known) -> list[Verdict]:
        """Judge a group, and write down what is applied of it; `snapshot` is as in `judge_group`."""
        head = self.head
        judged = judge_group(
            group,
            snapshot,
            known.topics,
            known.keys,
            known.publishers,
            before=head.revision,
            keys_held=head.keys,
            keys_max=self.bounds.keys_max,
            publishers_held=head.publishers,
            publishers_max=self.bounds.publishers_max,
        )
        self.topics.update(known.topics)
        for record in judged.records:
            self.place(record)
        for key in judged.keys:
            self.keep(key)
        for publisher in judged.publishers:
            self.note(publisher, known.publishers.get(publisher.publisher))
        self.records += judged.records
        self.head = msgspec.structs.replace(
            self.head,
            revision=judged.revision,
            keys=head.keys + len(judged.keys),
            publishers=head.publishers + judged.publishers_added,
        )
        return judged.verdicts

    def place(self, record: Record) -> None:
        """Put a record in the place of its topic's older one."""
        old = self.topics.get(record.topic)
        if old is None:
            self.head = msgspec.structs.replace(self.head, topics=self.head.topics + 1)
        elif old.version:
            self.remove(self.data.at("log", old.version))
            if not old.live:
                self.remove(self.data.at("tomb", old.version))
        state = TopicState(record.version, not record.deleted)
        self.topics[record.topic] = self.written[record.topic] = state
        self.changes[self.data.topic(record.topic)] = write_topic(record.topic, state)
        self.changes[self.data.at("log", record.version)] = write_record(record)
        if record.deleted:
            self.changes[self.data.at("tomb", record.version)] = record.topic.encode()

    def keep(self, key: Key) -> None:
        """Write down the request that an idempotency key stands for."""
        self.changes[self.data.key(key.topic, key.key)] = write_use(key)
        self.changes[self.data.at("keylog", key.version)] = write_keylog(key)

    def note(self, publisher: Publisher, old: Publisher | None) -> None:
        """Write down the numbers of a publisher, in the place of what was known of it."""
        name = publisher.publisher
        if old is not None and old.touched != publisher.touched:
            self.remove(self.data.touched(old.touched, name))
        self.publishers[name] = publisher
        self.changes[self.data.publisher(name)] = write_publisher(publisher)
        self.changes[self.data.touched(publisher.touched, name)] = b""

    def remove(self, key: bytes) -> None:
        """Delete a key, or do not put it after all."""
        if self.changes.pop(key, None) is None:
            self.changes[key] = None

    def ops(self) -> list[Op]:
        """Return the operations of the transaction, the head not among them. Raises `TransactionTooLong`."""
        if sum(len(key) + len(value or b"") for key, value in self.changes.items()) > REQUEST_BYTES_LIMIT:
            raise TransactionTooLong
        ops = [put(key, value) for key, value in self._row.items()]
        ops += [delete_span(begin, end) for begin, end in self.spans.items()]
        return ops + [delete(key) if value is None else put(key, value) for key, value in self.changes.items()]


def size_of(publish: Write) -> int:
    """Return the most bytes that a write adds to a transaction."""
    names = 4 * len(publish.topic.encode()) + 2 * len((publish.key or "").encode()) + 2 * len(publish.digest)
    if publish.number is not None:
        names += 4 * len(publish.number.publisher.encode()) + USE_BYTES
    return len(publish.cbor or b"") + names + PUBLISH_BYTES


def chunks_of(group: Sequence[Write]) -> list[Sequence[Write]]:
    """Cut a group into parts that fit one transaction each; one part, if it is empty."""
    chunks: list[Sequence[Write]] = []
    begin = size = 0
    for at, publish in enumerate(group):
        size += size_of(publish)
        if at > begin and (size > REQUEST_BYTES_MAX or at - begin >= PUBLISHES_MAX):
            chunks.append(group[begin:at])
            begin, size = at, size_of(publish)
    return [*chunks, group[begin:]]
