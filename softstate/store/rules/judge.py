"""Judging writes: idempotency and compare-and-set, alone or as a group in order, the same in every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from softstate.errors import Conflict, KeyReused, Overloaded
from softstate.model import Record
from softstate.store.base import EXISTS, PUBLISHERS_MAX, Applied, Key, Publisher, Verdict, Write
from softstate.store.rules.history import Snapshot, on_history
from softstate.store.rules.publishers import Notes

KEYS_RETRY_MS = 5_000
"""The `retry_ms` of `Overloaded` when no idempotency key can be added: keys go as they age, a few every second."""

PUBLISHERS_RETRY_MS = 5_000
"""The `retry_ms` of `Overloaded` when no publisher can be added: they go as they age, as keys do."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic's version, 0 when there is no record; `live` tells a value from a tombstone.

    Not `readable`: its row is damaged. An engine finds out for deletions and compare-and-sets; others replace the row.
    """

    version: int = 0
    live: bool = False
    readable: bool = True


NO_RECORD = TopicState()
NO_PUBLISHERS: Mapping[str, Publisher] = MappingProxyType({})

KeyUse: TypeAlias = tuple[bytes, int]
"""A request that an idempotency key stands for already: its digest, and the version that it was applied at."""


@dataclass(frozen=True, slots=True)
class JudgedGroup:
    """The verdicts on a group of writes, in its order, and what is to be stored.

    `records` are the writes that were applied, in revision order; a topic written twice is there twice. `keys` are the
    idempotency keys that they make, `publishers` the publishers that have changed, each as a whole; `publishers_added`
    of them are new. `revision` is that of the last record.
    """

    verdicts: list[Verdict]
    records: list[Record]
    keys: list[Key]
    revision: int
    publishers: Sequence[Publisher] = ()
    publishers_added: int = 0


def judge_group(
    group: Sequence[Write],
    snapshot: Snapshot,
    topics: Mapping[str, TopicState],
    used: Mapping[tuple[str, str], KeyUse],
    publishers: Mapping[str, Publisher] = NO_PUBLISHERS,
    *,
    before: int,
    keys_held: int,
    keys_max: int,
    publishers_held: int = 0,
    publishers_max: int = PUBLISHERS_MAX,
) -> JudgedGroup:
    """Judge a group of writes in order; an earlier one is visible to the compare-and-set and the key of a later one.

    `topics` has the topics of the group that have a record, `used` the keys of the group that stand for a request, as
    (topic, key), `publishers` those of the group that the store remembers; `snapshot` knows the lineages at the
    witnesses' revisions. The first write that is applied gets revision `before` + 1, the next `before` + 2, ….
    """
    verdicts: list[Verdict] = []
    records: list[Record] = []
    keys: list[Key] = []
    changed: dict[str, TopicState] = {}
    made: dict[tuple[str, str], KeyUse] = {}
    notes: dict[str, Notes] = {}
    added = 0
    revision = before
    for write in group:
        topic, number = write.topic, write.number
        name = None if write.key is None else (topic, write.key)
        of_publisher = None
        if number is not None:
            of_publisher = notes.get(number.publisher)
            if of_publisher is None:
                of_publisher = Notes(number.publisher, publishers.get(number.publisher))
                notes[number.publisher] = of_publisher
        state = changed.get(topic) or topics.get(topic, NO_RECORD)
        verdict = judge(
            write,
            state,
            None if name is None else made.get(name) or used.get(name),
            of_publisher,
            witnessed=write.witness is None or on_history(write.witness, snapshot),
            keys_full=keys_held + len(made) >= keys_max,
            publishers_full=publishers_held + added >= publishers_max,
        )
        if verdict is None:
            applied = Applied(state.version, changed=False)
            if not is_without_effect(write, state):
                revision += 1
                changed[topic] = TopicState(revision, write.cbor is not None)
                records.append(Record(topic, revision, write.cbor))
                applied = Applied(revision)
                if name is not None:
                    made[name] = write.digest, revision
                    keys.append(Key(*name, write.digest, revision))
            if number is not None and of_publisher is not None:
                added += not of_publisher.known
                of_publisher.note(number, write.digest, applied, revision)
            verdict = applied
        verdicts.append(verdict)
    noted = [of_publisher.publisher() for of_publisher in notes.values() if of_publisher.noted]
    return JudgedGroup(verdicts, records, keys, revision, noted, added)


def judge(
    write: Write,
    topic: TopicState,
    used: KeyUse | None,
    publisher: Notes | None = None,
    *,
    witnessed: bool,
    keys_full: bool,
    publishers_full: bool = False,
) -> Verdict | None:
    """Return the verdict on a write that must not be applied, or None when it must be.

    `topic` and `used` are the state of its topic and the use of its key, at its place in the group, `publisher` has
    the numbers that its publisher used; `witnessed` tells whether its witness, if any, is on the history. Number and
    key are looked up first: a repeated request gets the first success even if its `expect` would lose now, because it
    was this very request that moved the version. A deletion without effect is to be applied too
    (`is_without_effect`); a number remembers it, a key does not.
    """
    if publisher is not None and write.number is not None:
        repeated = publisher.verdict(write.number, write.digest)
        if repeated is not None:
            return repeated
    if used is not None:
        digest, version = used
        if digest == write.digest:
            return Applied(version, repeated=True)
        return KeyReused(
            f"idempotency key {write.key!r} was used on {write.topic!r} for another request: choose a new key"
        )
    if not witnessed:
        return Conflict(
            f"{write.topic!r} was read before the store was rewound: read it again, then decide", current=topic.version
        )
    if write.expect is not None and not _is_expected(write.expect, topic, deletes=write.cbor is None):
        return _conflict(write, topic)
    if write.key is not None and keys_full:
        return Overloaded(
            "too many idempotency keys are held: nothing was published; retry, or publish without one",
            retry_ms=KEYS_RETRY_MS,
        )
    if publisher is not None and not publisher.known and publishers_full:  # P-PUB-10
        return Overloaded(
            "too many publishers are remembered: nothing was published; retry later, or raise publishers_max",
            retry_ms=PUBLISHERS_RETRY_MS,
        )
    return None


def is_without_effect(write: Write, topic: TopicState) -> bool:
    """Tell whether a write deletes a topic that has no value: it takes no revision and makes no tombstone."""
    return write.cbor is None and not topic.live and topic.readable


def is_verified(write: Write) -> bool:
    """Tell whether the verdict on a write depends on its topic's row being readable, so that it must be verified."""
    return write.cbor is None or write.expect is not None


def _is_expected(expect: int, topic: TopicState, *, deletes: bool) -> bool:
    """Tell whether a compare-and-set wins (P-PUB-3).

    A tombstone counts as absent, and, for a value to come, as being at its version. A damaged row counts as existing,
    at a version that no one knows.
    """
    if not topic.readable:
        return expect == EXISTS
    if expect == EXISTS:
        return topic.live
    if expect == 0:
        return not topic.live
    return expect == topic.version and (topic.live or not deletes)


def _conflict(write: Write, topic: TopicState) -> Conflict:
    if not topic.readable:
        return Conflict(
            f"the stored record of {write.topic!r} is damaged, so its version is not known: publish without expect"
            " to replace it, or restore a backup"
        )
    if write.expect == EXISTS:
        return Conflict(f"{write.topic!r} does not exist: publish without that condition", current=topic.version)
    return Conflict(
        f"{write.topic!r} is at version {topic.version}, not {write.expect}: read it, then decide again"
        if topic.version != write.expect
        else f"{write.topic!r} was deleted already, at version {topic.version}",
        current=topic.version,
    )
