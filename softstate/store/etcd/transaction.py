"""The changes of one write: applied in memory to what was read, then sent to etcd as one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from softstate.model import Record
from softstate.store.base import Applied, Verdict, Write
from softstate.store.etcd.messages import FOLDED_OPS_MAX, Op, delete, put
from softstate.store.etcd.schema import Data, Head, Standing, write_keylog, write_record, write_standing, write_use
from softstate.store.rules.judge import Standing as JudgedStanding, judge
from softstate.store.rules.paging import Snapshot, on_history

PUBLISH_OPS_MAX = 7
"""How many operations one publish may need: its record, the one before, each one's tombstone, topic, and key twice."""

PUBLISHES_MAX = FOLDED_OPS_MAX // PUBLISH_OPS_MAX
"""How many publishes one transaction holds at most."""

REQUEST_BYTES_MAX = 1024 * 1024
"""How much one transaction brings at most: etcd refuses a request above 1.5 MiB, names and framing included."""

PUBLISH_BYTES = 640
"""How much a publish brings at most beside value, topic and key: what `PUBLISH_OPS_MAX` names in etcd begin with."""


class Batch:
    """What one write changes below the namespace. `head` is what it leaves, less the token.

    With a `nonce` a lineage row goes before everything else. `used` tells what the idempotency keys stand for that the
    publishes bring, `standings` where their topics stand.
    """

    def __init__(self, data: Data, head: Head, *, nonce: str | None = None, keys_max: int = 0) -> None:
        self.data = data
        self.head = head
        self.keys_max = keys_max
        self.standings: dict[str, Standing] = {}
        self.used: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.records: list[Record] = []
        self.compares: list[Op] = []
        self.changes: dict[bytes, bytes | None] = {}
        """What is put, or deleted (None), each key once, as etcd wants it."""
        self._row: dict[bytes, bytes] = {}
        if nonce is not None:
            self.head = msgspec.structs.replace(
                head, lineage=nonce, since=head.revision + 1, revision=head.revision + 1
            )
            self._row[data.at("lineage", self.head.since)] = nonce.encode()
        self.before = self.head.revision
        """The revision before the first record."""

    def know(self, standings: Mapping[str, Standing], used: Mapping[tuple[str, str], tuple[bytes, int]]) -> None:
        """Take over what was read for the publishes to come."""
        self.standings.update(standings)
        self.used.update(used)

    def apply(self, publish: Write, snapshot: Snapshot) -> Verdict:
        """Judge one publish, and apply it if nothing speaks against it. `snapshot` knows the witness's revision."""
        old = self.standings.get(publish.topic, Standing())
        verdict = judge(
            publish,
            JudgedStanding(
                version=old.version,
                live=old.live,
                used=None if publish.key is None else self.used.get((publish.topic, publish.key)),
                witnessed=publish.witness is None or on_history(publish.witness, snapshot),
                keys_full=self.head.keys >= self.keys_max,
            ),
        )
        if verdict is not None:
            return verdict
        version = self.head.revision + 1
        record = Record(publish.topic, version, publish.cbor)
        self.head = msgspec.structs.replace(
            self.head, revision=version, keys=self.head.keys + (publish.key is not None)
        )
        self.place(record)
        self.records.append(record)
        if publish.key is not None:
            self.keep(publish.topic, publish.key, publish.digest, version)
        return Applied(version)

    def place(self, record: Record) -> None:
        """Put a record in the place of its topic's older one."""
        old = self.standings.get(record.topic)
        if old is not None:
            self.remove(self.data.at("log", old.version))
            if not old.live:
                self.remove(self.data.at("tomb", old.version))
        standing = self.standings[record.topic] = Standing(record.version, not record.deleted)
        self.changes[self.data.topic(record.topic)] = write_standing(standing)
        self.changes[self.data.at("log", record.version)] = write_record(record)
        if record.deleted:
            self.changes[self.data.at("tomb", record.version)] = record.topic.encode()

    def keep(self, topic: str, key: str, digest: bytes, version: int) -> None:
        """Put down what an idempotency key stands for."""
        self.used[topic, key] = digest, version
        self.changes[self.data.key(topic, key)] = write_use(version, digest)
        self.changes[self.data.at("keylog", version)] = write_keylog(topic, key, digest)

    def remove(self, key: bytes) -> None:
        """Delete a key, or do not put it in the first place."""
        if self.changes.pop(key, None) is None:
            self.changes[key] = None

    def ops(self) -> list[Op]:
        """Return the operations of the transaction, the head not among them."""
        puts = [put(key, value) for key, value in self._row.items()]
        return puts + [delete(key) if value is None else put(key, value) for key, value in self.changes.items()]


def size_of(publish: Write) -> int:
    """Return how much a publish brings to a transaction at most, in bytes."""
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
