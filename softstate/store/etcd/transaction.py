"""One write to etcd: judged in memory against what was read, then sent as one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from softstate.model import Record
from softstate.store.base import Key, Verdict, Write
from softstate.store.etcd.messages import FOLDED_OPS_MAX, Op, delete, put
from softstate.store.etcd.schema import Data, Head, write_keylog, write_record, write_topic, write_use
from softstate.store.rules.history import Snapshot
from softstate.store.rules.judge import KeyUse, TopicState, judge_group

PUBLISH_OPS_MAX = 6
"""Operations of one write at most: its record, the one before, the tombstone of one of them, topic, and key twice."""

PUBLISHES_MAX = FOLDED_OPS_MAX // PUBLISH_OPS_MAX
"""How many writes one transaction holds at most."""

REQUEST_BYTES_MAX = 1024 * 1024
"""The longest transaction, in bytes: etcd refuses a request above 1.5 MiB, names and framing included."""

PUBLISH_BYTES = 640
"""The bytes of a write beside value, topic and key, at most: the prefixes of `PUBLISH_OPS_MAX` names in etcd."""


class EtcdTransaction:
    """The changes of one write below the namespace. `head` is the head that it leaves, without the token.

    With a `nonce` a lineage row goes before everything else. `topics` has the state of the topics that it writes to,
    before, and then after.
    """

    def __init__(self, data: Data, head: Head, *, nonce: str | None = None, keys_max: int = 0) -> None:
        self.data = data
        self.head = head
        self.keys_max = keys_max
        self.topics: dict[str, TopicState] = {}
        self.records: list[Record] = []
        self.compares: list[Op] = []
        self.changes: dict[bytes, bytes | None] = {}
        """Values to put, or None to delete; each key once, as etcd demands."""
        self._row: dict[bytes, bytes] = {}
        if nonce is not None:
            self.head = msgspec.structs.replace(
                head, lineage=nonce, since=head.revision + 1, revision=head.revision + 1
            )
            self._row[data.at("lineage", self.head.since)] = nonce.encode()
        self.before = self.head.revision
        """The revision before the first record."""

    def apply(
        self,
        group: Sequence[Write],
        snapshot: Snapshot,
        topics: Mapping[str, TopicState],
        used: Mapping[tuple[str, str], KeyUse],
    ) -> list[Verdict]:
        """Judge a group, and write down what is applied of it; the arguments are those of `judge_group`."""
        head = self.head
        judged = judge_group(
            group, snapshot, topics, used, before=head.revision, keys_held=head.keys, keys_max=self.keys_max
        )
        self.topics.update(topics)
        for record in judged.records:
            self.place(record)
        for key in judged.keys:
            self.keep(key)
        self.records += judged.records
        self.head = msgspec.structs.replace(head, revision=judged.revision, keys=head.keys + len(judged.keys))
        return judged.verdicts

    def place(self, record: Record) -> None:
        """Put a record in the place of its topic's older one."""
        old = self.topics.get(record.topic)
        if old is not None:
            self.remove(self.data.at("log", old.version))
            if not old.live:
                self.remove(self.data.at("tomb", old.version))
        state = self.topics[record.topic] = TopicState(record.version, not record.deleted)
        self.changes[self.data.topic(record.topic)] = write_topic(state)
        self.changes[self.data.at("log", record.version)] = write_record(record)
        if record.deleted:
            self.changes[self.data.at("tomb", record.version)] = record.topic.encode()

    def keep(self, key: Key) -> None:
        """Write down the request that an idempotency key stands for."""
        self.changes[self.data.key(key.topic, key.key)] = write_use(key)
        self.changes[self.data.at("keylog", key.version)] = write_keylog(key)

    def remove(self, key: bytes) -> None:
        """Delete a key, or do not put it after all."""
        if self.changes.pop(key, None) is None:
            self.changes[key] = None

    def ops(self) -> list[Op]:
        """Return the operations of the transaction, the head not among them."""
        puts = [put(key, value) for key, value in self._row.items()]
        return puts + [delete(key) if value is None else put(key, value) for key, value in self.changes.items()]


def size_of(publish: Write) -> int:
    """Return the most bytes that a write adds to a transaction."""
    names = 4 * len(publish.topic.encode()) + 2 * len((publish.key or "").encode()) + 2 * len(publish.digest)
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
