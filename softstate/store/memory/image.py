"""The contents of a memory store, and every change of them as an ordinary function."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile

from softstate.model import Record
from softstate.names import covers
from softstate.position import Position
from softstate.store.base import PUBLISHERS_MAX, Applied, Dump, Key, Publisher, Verdict, Write
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.history import Scan, on_history
from softstate.store.rules.judge import TopicState, is_without_effect, judge
from softstate.store.rules.paging import dump_page
from softstate.store.rules.publishers import Notes


@dataclass(slots=True)
class MemoryImage:
    """Everything a disk holds. It is its own `Snapshot`, as long as it is not changed meanwhile."""

    epoch: str
    head: int = 0
    floor: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    """By version, and in version order, since a changed record goes to the end."""
    latest: dict[str, int] = field(default_factory=dict)
    rows: list[Position] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    """By topic and key, and in version order, since none changes."""
    publishers: dict[str, Publisher] = field(default_factory=dict)
    """By id, and in the order of `touched`, since one that changes goes to the end."""

    @property
    def position(self) -> Position:
        """The newest commit; of no lineage at all on a disk that no store was opened on yet."""
        return self.rows[-1].at(self.head) if self.rows else Position(self.epoch, "", self.head)

    def copy(self) -> MemoryImage:
        """Return an image that later changes to this one do not reach."""
        return replace(
            self,
            records=self.records.copy(),
            latest=self.latest.copy(),
            rows=self.rows.copy(),
            keys=self.keys.copy(),
            publishers=self.publishers.copy(),
        )

    def blank(self, epoch: str) -> MemoryImage:
        """Return an empty image of this kind."""
        return replace(self, epoch=epoch, head=0, floor=0, records={}, latest={}, rows=[], keys={}, publishers={})

    @property
    def published(self) -> bool:
        """Whether anything was ever published: lineage rows alone make a head as high as there are rows."""
        return self.head > len(self.rows)

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        if revision > self.head:
            return None
        return next((row.lineage for row in reversed(self.rows) if row.revision <= revision), None)

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`."""
        return [row for row in self.rows if after < row.revision <= upto]

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        return {topic: self.latest[topic] for topic in topics if topic in self.latest}

    def damaged(self, held: Mapping[str, int]) -> Collection[str]:
        """Return the topics whose damaged record is below the version that is held."""
        return {
            topic
            for topic, version in held.items()
            if version > self.latest.get(topic, version) and self.records[self.latest[topic]].unreadable
        }

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions."""
        return map(self.records.__getitem__, versions)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after`, in version order."""
        newest_first = takewhile(lambda record: record.version > after, reversed(self.records.values()))
        for record in reversed(list(newest_first)):
            if covers(prefix, record.topic) and (tombstones or not record.deleted):
                yield record

    def scan_counted(self, scans: Sequence[Scan], cost: ReadCost) -> Iterator[Record]:
        """Yield what several scans find, in one walk through all records above the lowest of their revisions."""
        least, looked = min(after for _, after, _ in scans), 0
        for record in self.records.values():
            if record.version <= least:
                continue
            if looked and not cost.left:
                cost.end_at(looked)
                return
            looked = record.version
            cost.add(1)
            if any(
                record.version > after and covers(prefix, record.topic) and (tombstones or not record.deleted)
                for prefix, after, tombstones in scans
            ):
                yield record

    def open(self, nonce: str) -> Position:
        """Commit a lineage row."""
        self.head += 1
        self.rows.append(Position(self.epoch, nonce, self.head))
        return self.position

    def damage(self, topic: str) -> None:
        """Make the record of a topic unreadable, as a disk that loses bits would. The topic must have one."""
        version = self.latest[topic]
        self.records[version] = Record(topic, version, None, unreadable=True)

    def apply(self, write: Write, keys_max: int, publishers_max: int = PUBLISHERS_MAX) -> tuple[Verdict, Record | None]:
        """Apply one write, unless its verdict forbids it. A group is applied one by one: the image shows each."""
        state = self._state(write.topic)
        number = write.number
        notes = None if number is None else Notes(number.publisher, self.publishers.get(number.publisher))
        verdict = judge(
            write,
            state,
            None if write.key is None else self.keys.get((write.topic, write.key)),
            notes,
            witnessed=write.witness is None or on_history(write.witness, self),
            keys_full=len(self.keys) >= keys_max,
            publishers_full=len(self.publishers) >= publishers_max,
        )
        if verdict is not None:
            return verdict, None
        record = None
        applied = Applied(state.version, changed=False)
        if not is_without_effect(write, state):
            record = self._put(write, state.version)
            applied = Applied(record.version)
        if number is not None and notes is not None:
            notes.note(number, write.digest, applied, self.head)
            self.publishers.pop(number.publisher, None)
            self.publishers[number.publisher] = notes.publisher()
        return applied, record

    def _state(self, topic: str) -> TopicState:
        version = self.latest.get(topic, 0)
        if not version:
            return TopicState()
        record = self.records[version]
        return TopicState(version, not record.deleted, not record.unreadable)

    def _put(self, write: Write, replaced: int) -> Record:
        self.head += 1
        record = Record(write.topic, self.head, write.cbor)
        self.records.pop(replaced, None)
        self.records[self.head] = record
        self.latest[write.topic] = self.head
        if write.key is not None:
            self.keys[write.topic, write.key] = (write.digest, self.head)
        return record

    def compact(self, tombstones: int, keys: int) -> int:
        """Forget tombstones, and keys and publishers, up to the revisions given; return the floor."""
        for record in [r for r in self.records.values() if r.deleted and r.version <= tombstones]:
            del self.records[record.version]
            del self.latest[record.topic]
            self.floor = record.version
        self._forget_rows()
        for name in [name for name, (_, version) in self.keys.items() if version <= keys]:
            del self.keys[name]
        for publisher in [p for p in self.publishers.values() if p.touched <= keys]:
            del self.publishers[publisher.publisher]
        return self.floor

    def _forget_rows(self) -> None:
        """Forget the lineage rows below the floor, but the one in force there."""
        below = sum(row.revision <= self.floor for row in self.rows)
        del self.rows[: max(0, below - 1)]

    def dump(self, after: int, limit: int) -> Dump:
        """Cut a page of a dump."""
        keys = (Key(*name, *used) for name, used in self.keys.items() if used[1] > after)
        publishers = [publisher for publisher in self.publishers.values() if publisher.touched > after]
        return dump_page(after, limit, self, list(islice(keys, limit + 1)), publishers)

    def take(self, page: Dump) -> None:
        """Add a page of another store's dump to what earlier pages have brought."""
        for record in page.records:
            self.records.pop(self.latest.get(record.topic, 0), None)
            self.records[record.version] = record
            self.latest[record.topic] = record.version
        for key in page.keys:
            # Expired and used again since an earlier page: it goes to the end.
            self.keys.pop((key.topic, key.key), None)
            self.keys[key.topic, key.key] = (key.digest, key.version)
        for publisher in page.publishers:
            self.publishers.pop(publisher.publisher, None)
            self.publishers[publisher.publisher] = publisher
        self.rows += page.rows
        self.head, self.floor = page.upto, page.floor
