"""The audience of some changes: which leases are owed which of them, grouped so that each connection gets one write.

Leases that are owed the same changes are owed the same bytes: joined once, and one call and one write for each
connection instead of one for each delivery. First, changes that reach the same groups of the lease table are put
together, so that many changes under one prefix cost its subscribers no more than one. Then each lease gets the list of
what reaches it, and leases with equal lists share a batch. With a bit mask for each lease in place of a list, 512
changes to a subscriber each took 56 ms: as many steps as changes for each of the masks.

What the work of a turn costs is an estimate, in microseconds of the machine that the prices were measured on
(CPython 3.11), so that the same commit is cut in the same way in each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeAlias

from softstate.lease import Lease, LeaseTable
from softstate.lease.table import Group
from softstate.model import Record
from softstate.wire import Codec
from softstate.wire.push import EncodedChange, PushBatch

TURN_US = 4_000
"""Work of one turn of the hub, in microseconds."""

WRITE_US = 5
"""The cost of a write to one connection."""

WRITE_BYTES_PER_US = 4_096
"""Bytes that a write copies in a microsecond."""

LEASES_PER_US = 8
"""Leases that a group is read for in a microsecond."""

TEXT_US = 10
"""The cost of encoding a change as JSON, beside its value: 5 to 7 us."""

TEXT_BYTES_MAX = 4_096
"""Bytes of a value that count, at a microsecond each, which is what nested values cost at worst: 0.85 us. A value holds
no more items than this (`softstate.wire.value.VALUE_ITEMS_MAX`), and long texts cost a hundredth of it."""

BINARY_US = 5
"""The cost of encoding a change as CBOR: 3 to 5 us, and 12 with a value of 64 KiB."""

VALUE_BYTES_MAX = 1024 * 1024
"""Bytes of values that are joined at most: what is framed for one portion stays in memory until it was pushed."""

Delivery: TypeAlias = tuple[PushBatch, int, Sequence[Lease]]
"""A batch, what it costs to write it to one connection, and the leases that it is owed to; some may be over."""


class Audience:
    """Changes of different topics, in order, and the leases of one table that cover them.

    `turn_us` is the budget of a turn, in microseconds of estimated work.
    """

    def __init__(self, table: LeaseTable, turn_us: int) -> None:
        self._table = table
        self._turn_us = turn_us
        self._changes: list[EncodedChange] = []
        # By the identities of the groups: these, and the numbers of the changes that reach them.
        self._reached: dict[tuple[int, ...], tuple[list[Group], list[int]]] = {}
        self._leases = 0
        self._value_bytes = 0

    def add(self, record: Record) -> None:
        """Add a change, unless no lease covers it."""
        groups = self._table.reached(record.topic)
        if not groups:
            return
        key = tuple(map(id, groups))
        found = self._reached.get(key)
        if found is None:
            found = self._reached[key] = groups, []
            self._leases += sum(map(len, groups))
        found[1].append(len(self._changes))
        self._changes.append(EncodedChange(record))
        self._value_bytes += len(record.cbor or b"")

    @property
    def full(self) -> bool:
        """Whether it takes the whole budget of a turn already."""
        return self._leases > self._turn_us * LEASES_PER_US or self._value_bytes > VALUE_BYTES_MAX

    def encode(self) -> Iterator[None]:
        """Encode all changes for all codecs of the audience, if that takes long; yield at the end of each turn.

        Else they are encoded when the first connection needs it.
        """
        if self._value_bytes + len(self._changes) * TEXT_US <= self._turn_us:
            return
        groups = chain.from_iterable(groups for groups, _ in self._reached.values())
        codecs = dict.fromkeys(lease.sink.codec for lease in chain.from_iterable(groups) if lease.sink is not None)
        left_us = self._turn_us
        for codec in codecs:
            for change in self._changes:
                takes_us = _encode_us(codec, change.record)
                if left_us < takes_us:
                    yield
                    left_us = self._turn_us
                change.frame(codec)
                left_us -= takes_us

    def deliveries(self) -> tuple[Sequence[Delivery], int]:
        """Return what is owed to whom as of now, and what finding it has cost in microseconds."""
        reached = list(self._reached.values())
        cost_us = self._leases // LEASES_PER_US
        if len(reached) == 1:
            groups, numbers = reached[0]
            return [self._delivery(numbers, list(self._table.merge(groups)))], cost_us
        owed: dict[Lease, list[int]] = {}
        for at, (groups, _) in enumerate(reached):
            for lease in self._table.merge(groups):
                lists = owed.get(lease)
                if lists is None:
                    owed[lease] = [at]
                else:
                    lists.append(at)
        sharing: dict[tuple[int, ...], list[Lease]] = {}
        for lease, lists in owed.items():
            sharing.setdefault(tuple(lists), []).append(lease)
        return [
            self._delivery(sorted(chain.from_iterable(reached[at][1] for at in lists)), leases)
            for lists, leases in sharing.items()
        ], cost_us

    def _delivery(self, numbers: Sequence[int], leases: Sequence[Lease]) -> Delivery:
        batch = PushBatch([self._changes[number] for number in numbers])
        size = sum([len(change.record.cbor or b"") for change in batch.changes])
        return batch, WRITE_US + size // WRITE_BYTES_PER_US, leases


def _encode_us(codec: Codec, record: Record) -> int:
    return TEXT_US + min(len(record.cbor or b""), TEXT_BYTES_MAX) if codec.text else BINARY_US
