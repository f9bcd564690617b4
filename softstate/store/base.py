"""The contract of a store, which every engine is held to.

A store keeps, durably, the newest record of every topic, the lineage rows, the publishers, the idempotency keys and
the floor. It knows nothing of leases or clients, reads no clock and draws no jitter: its caller decides when.

The contract, beyond each method's docstring:

- Revisions are assigned in commit order, one for each applied change and one for each lineage row. A reader that
  sees revision r sees everything at or below r.
- Every answer is one snapshot, and carries the position of that snapshot.
- The store remembers the highest position it has seen. If that position is no longer on the history it finds
  (a backup was restored under it), every method raises `StoreRewound` until `reopen`.
- Every row carries a checksum (`softstate.store.rules.checksum`). A topic's row that does not match it, or is of the
  wrong type, is an `unreadable` record wherever it appears, and no method raises because of it. A row whose name is
  not a topic is left out: no one can ask for it. A row whose version is not from 1 to the head is unreadable at
  version 1, and left out of what is asked for from a revision above 0. A damaged row of a publisher or a key counts as
  absent. A damaged row of anything else is `StoreRefused` when the store is opened, `Unavailable` later.
- Every write transaction compares the layout number that the store holds with `layout`, and fails as `Unavailable`,
  with nothing written, if another release has migrated the store meanwhile.
- A store that can be read but not written when it is opened (a full disk) opens under the newest lineage row found.
  `publish` is then `Unavailable` until the row of this opening is committed, before its first change.
- Methods may be called from several tasks at once. If cancelled, a publish may or may not be applied; nothing else
  has an effect to be in doubt about.

`softstate.testing.check_store` checks all this against any implementation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from softstate.errors import RequestError, StoreRefused
from softstate.model import PAGE_RECORDS_MAX, Durability, Page, Query, Record
from softstate.position import Position

__all__ = [
    "EXISTS",
    "KEYS_MAX",
    "LASTING",
    "LAYOUT",
    "PAGE_RECORDS_MAX",
    "PUBLISHERS_MAX",
    "Applied",
    "Committed",
    "Dump",
    "Feed",
    "Key",
    "Number",
    "Page",
    "Publisher",
    "Query",
    "Store",
    "StoreInfo",
    "Use",
    "Verdict",
    "Write",
]

KEYS_MAX = 1_000_000
"""Default for how many idempotency keys a store holds; beyond it, keyed publishes are `Overloaded`."""


PUBLISHERS_MAX = 100_000
"""Default for how many publishers a store remembers; beyond it, publishes of unknown ones are `Overloaded`."""

EXISTS = -1
"""As `Write.expect`: the topic must exist, at any version."""

LAYOUT = 2
"""The layout of the rows that this release writes, in every engine. November's was 1."""

LASTING = frozenset({Durability.DURABLE, Durability.REPLICATED})
"""The durabilities with which an acknowledged publish survives the crash of one machine."""


@dataclass(frozen=True, slots=True)
class Number:
    """The number of a publish: `seq` counts what one `publisher` has sent, from 1.

    Every number up to `settled` is settled at the publisher: acknowledged, refused or given up. It is below `seq`.
    """

    publisher: str
    seq: int
    settled: int


@dataclass(frozen=True, slots=True)
class Write:
    """One change to apply.

    `cbor` is the value in CBOR (`softstate.wire.encode_value`), None to delete. `expect` makes it a compare-and-set:
    the topic must be at that version, 0 meaning that it must not exist (no record, or a tombstone), `EXISTS` that it
    must. `witness`, when set, must be on the history, else the change loses as a conflict would: a version alone may
    be reused by a rewound store. `number` and `key` make it safe to repeat: a request with the same `digest` under the
    same number, or the same key of the topic, gets the first success.
    """

    topic: str
    cbor: bytes | None
    expect: int | None = None
    witness: Position | None = None
    key: str | None = None
    digest: bytes = b""
    number: Number | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A publish was applied at `version`; `repeated` when an earlier request with the same number or key did it.

    Not `changed`: it deletes a topic that had no value, so there was nothing to do, and no revision was taken;
    `version` is that of the tombstone, 0 if none is kept.
    """

    version: int
    repeated: bool = False
    changed: bool = True


Verdict: TypeAlias = Applied | RequestError
"""The outcome of one write: `Applied`, or `Conflict`, `KeyReused` or `Overloaded`."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The outcome of a group of writes.

    `verdicts` are in the order of the group. `records` are the applied writes, in revision order: their versions are
    exactly `before` + 1, `before` + 2, …, `position.revision`. If nothing was applied, `records` is empty and
    `position` is simply the head. An engine that had to make several transactions of the group, between which others
    have committed, leaves out the records before the last of those: the feed brings them. All are of one lineage.
    """

    verdicts: Sequence[Verdict]
    before: int
    records: Sequence[Record]
    position: Position


@dataclass(frozen=True, slots=True)
class Feed:
    """The commits after some revision: `records` in commit order, superseded ones left out.

    `lineages` are the lineage rows passed, each as the position that it begins. `upto` is how far this page
    reaches: every change at or below it, and above the revision asked for, is here or superseded by one that is here
    or will come. `more`: the store has moved on beyond `upto` already.
    """

    records: Sequence[Record]
    lineages: Sequence[Position]
    upto: Position
    more: bool = False


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The contents of a store, counted: live topics, tombstones, idempotency keys, publishers.

    `size_bytes` are on disk, 0 if it has none; `layout` is the number of the layout that the rows have. `notes` are
    sentences on this engine that its operator should know.
    """

    topics: int
    tombstones: int
    keys: int
    size_bytes: int
    publishers: int = 0
    layout: int = LAYOUT
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key: on `topic`, `key` stands for the request with `digest`, which was applied at `version`."""

    topic: str
    key: str
    digest: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Use:
    """A number that a publisher used: the digest of its request, the `version` and `changed` of its `Applied`."""

    digest: bytes
    version: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Publisher:
    """Everything a store remembers of one publisher: its `uses` by number, all above `settled`.

    `settled` is the highest that it has told. `touched` is the head right after its last publish that was applied.
    """

    publisher: str
    settled: int
    touched: int
    uses: Mapping[int, Use]


@dataclass(frozen=True, slots=True)
class Dump:
    """A page of everything that a store holds, in revision order, for another store to adopt.

    `records` (tombstones included), `keys`, `publishers` (by `touched`) and `rows` (lineage rows) are what the store
    holds above revision `after`, which was asked for, up to `upto`. `position` and `floor` are those of the snapshot
    that the page comes from. `more`: `upto` is not the head.
    """

    after: int
    position: Position
    floor: int
    rows: Sequence[Position]
    records: Sequence[Record]
    keys: Sequence[Key]
    upto: int
    more: bool
    publishers: Sequence[Publisher] = ()


class Store(ABC):
    """The newest value and version of every topic, kept durably. See the module docstring for the contract."""

    name: str
    """The name in logs and in `softstate status`, such as ``sqlite:softstate.db``. Holds no secret."""

    durability: Durability
    """The crashes that an acknowledged commit survives. May change at run time, when the engine is set up otherwise."""

    keys_max: int
    """How many idempotency keys are held at most."""

    publishers_max: int = PUBLISHERS_MAX
    """How many publishers are remembered at most."""

    layout: int = LAYOUT
    """The layout of the rows that this engine reads and writes."""

    warnings: Sequence[str] = ()
    """Reasons not to rely on an acknowledged commit, each a sentence with what to do; none if `durable`.

    Changes with `durability`.
    """

    cautions: Sequence[str] = ()
    """Conditions that lose nothing and do not pass by themselves, each a sentence with what to do. May change."""

    unwritten: str = ""
    """Why the last opening could not commit its lineage row, with what to do, while that is due. Empty if it is not."""

    wakes_for_own: bool = True
    """Whether `wait` ends for commits of this process, too. A node takes those from `publish` and sets it to False.

    An engine may wake it all the same: to leave that out saves a lone publish 0.1 ms of CPU.
    """

    def gauges(self) -> Mapping[str, int]:
        """Return what metrics show of this engine beside `info`, by name. Costs no call to the engine."""
        return {}

    @abstractmethod
    async def publish(self, group: Sequence[Write]) -> Committed:
        """Apply a group in one transaction, in order, each with its own revision and verdict; return once durable.

        An earlier change of the group is visible to the compare-and-set of a later one. A group larger than a
        transaction of the engine may be is applied in several, in order. Raises `Unavailable` (outcome unknown for
        every member), `StoreReplaced` or `StoreRewound` (nothing was applied).
        """

    @abstractmethod
    async def read(self, group: Sequence[Query]) -> Sequence[Page | RequestError]:
        """Answer a group of queries from one snapshot, begun after the call. Each gets a page, or `Rewound`.

        Where the group costs more than one call may (`Query.limit_cost`), only its first queries are answered, one at
        least, if only with a page that has `more`; the caller asks again for the others.

        `Rewound` (with the position) is the answer when `witness` is not on the history, a version held is above what
        the store holds, or a since-revision is above its head. A group that asks for more than the engine may be kept
        busy with at once is answered from several snapshots. Raises `Unavailable`, `StoreReplaced` or `StoreRewound`
        for the group as a whole. `softstate.store.rules.paging.answer` has the rules of paging.
        """

    @abstractmethod
    async def head(self) -> Position:
        """Return the position of the newest commit, read after the call. Raises as `read` does."""

    @abstractmethod
    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        """Return the lineage in force at each revision; None when it is above the head or before the first row."""

    @abstractmethod
    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """Return the commits after `after`. Raises `StoreRewound` when `after` is not on the history.

        Raises `Unavailable` and `StoreReplaced` as `read` does. Works below the floor too: a tombstone that has been
        forgotten can only be missed by a reader that was away for longer than tombstones are kept, and that reader's
        `after` is then below the floor, which raises `Compacted`.
        """

    @abstractmethod
    async def wait(self, after: int) -> None:
        """Return when there may be commits above revision `after`, of any node, or when the store is in trouble.

        Those of this process do not count unless `wakes_for_own`. May return early, never late by more than the
        engine's watch interval. Cancellation has no effect.
        """

    @abstractmethod
    async def compact(self, *, tombstones: int, keys: int) -> int:
        """Forget tombstones at or below revision `tombstones`, keys made at or below `keys`; return the floor.

        Publishers that were `touched` at or below `keys` are forgotten too, and lineage rows below the floor but the
        one in force there. The floor moves only to the version of the newest tombstone removed, and never back.
        """

    @abstractmethod
    async def reopen(self) -> Position:
        """Close, open again, commit a new lineage row, and return its position. Clears `StoreRewound`.

        Raises `Unavailable` when the store still cannot be used, `StoreRefused` when it never will be.
        """

    @abstractmethod
    async def info(self) -> StoreInfo:
        """Count the contents. Costs a scan on some engines: for operators and metrics, not for hot paths."""

    @abstractmethod
    async def dump(self, after: int, limit: int = PAGE_RECORDS_MAX) -> Dump:
        """Return all that is held above revision `after`, `limit` records (and about `PAGE_BYTES_MAX`) at most.

        Pages from 0 to one without `more` add up to the store as it stands at that last page's position, however much
        is committed in between, unless the floor moves beyond the cursor: what changes moves to a later page.
        `softstate.store.rules.dump.pages` sees to that. Raises as `read` does.
        """

    @abstractmethod
    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        """Become a copy of what another store dumped, with its epoch, versions, lineages, keys and floor.

        Then commit a lineage row, and return its position: a client of the other store continues here, one that has
        seen more than was copied is reset. Without `replace` raises `StoreRefused` if anything was ever published
        here; with it, everything that is here is lost. Others see all of it or nothing, and if cancelled or cut off
        nothing has happened, or the store cannot be opened until it is repeated. Raises `Unavailable`, also when the
        pages do not join (`softstate.store.rules.dump.check_joined`), and what the pages raise.
        """

    async def audit(self) -> Sequence[str]:
        """Look at everything that is held; return what is wrong, each a sentence with what to do. For operators.

        An engine that can look deeper than its records does so. Raises as `dump` does.
        """
        found: list[str] = []
        after, more = 0, True
        while more:
            page = await self.dump(after)
            found += [
                f"the record of {record.topic!r} is unreadable: publish it without expect, or restore a backup"
                for record in page.records
                if record.unreadable
            ]
            after, more = page.upto, page.more
        return found

    async def destroy(self) -> None:
        """Delete everything that this store holds, and its namespace; the store is closed then.

        Any other node that has it open finds it rewound or unavailable. Raises `StoreRefused`, and leaves all as it
        was, if the engine offers no way to do it; `Unavailable` when it cannot be done now, and perhaps is done in
        part.
        """
        raise StoreRefused(f"{self.name} cannot be deleted from here: use the engine's own tools")

    @abstractmethod
    async def aclose(self) -> None:
        """Release everything. Waits for a commit in flight. Idempotent."""
