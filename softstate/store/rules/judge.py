"""Judging writes: idempotency and compare-and-set, alone or as a group in order, the same in every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from softstate.errors import Conflict, KeyReused, Overloaded
from softstate.model import Record
from softstate.store.base import Applied, Key, Verdict, Write
from softstate.store.rules.history import Snapshot, on_history

KEYS_RETRY_MS = 5_000
"""The `retry_ms` of `Overloaded` when no idempotency key can be added: keys go as they age, a few every second."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic's version, 0 when there is no record; `live` tells a value from a tombstone."""

    version: int = 0
    live: bool = False


NO_RECORD = TopicState()

KeyUse: TypeAlias = tuple[bytes, int]
"""A request that an idempotency key stands for already: its digest, and the version that it was applied at."""


@dataclass(frozen=True, slots=True)
class JudgedGroup:
    """The verdicts on a group of writes, in its order, and what is to be stored.

    `records` are the writes that were applied, in revision order; a topic written twice is there twice. `keys` are the
    idempotency keys that they make. `revision` is that of the last record.
    """

    verdicts: list[Verdict]
    records: list[Record]
    keys: list[Key]
    revision: int


def judge_group(
    group: Sequence[Write],
    snapshot: Snapshot,
    topics: Mapping[str, TopicState],
    used: Mapping[tuple[str, str], KeyUse],
    *,
    before: int,
    keys_held: int,
    keys_max: int,
) -> JudgedGroup:
    """Judge a group of writes in order; an earlier one is visible to the compare-and-set and the key of a later one.

    `topics` has the topics of the group that have a record, `used` the keys of the group that stand for a request, as
    (topic, key); `snapshot` knows the lineages at the witnesses' revisions. The first write that is applied gets
    revision `before` + 1, the next `before` + 2, ….
    """
    verdicts: list[Verdict] = []
    records: list[Record] = []
    keys: list[Key] = []
    changed: dict[str, TopicState] = {}
    made: dict[tuple[str, str], KeyUse] = {}
    revision = before
    for write in group:
        topic = write.topic
        name = None if write.key is None else (topic, write.key)
        verdict = judge(
            write,
            changed.get(topic) or topics.get(topic, NO_RECORD),
            None if name is None else made.get(name) or used.get(name),
            witnessed=write.witness is None or on_history(write.witness, snapshot),
            keys_full=keys_held + len(made) >= keys_max,
        )
        if verdict is None:
            revision += 1
            changed[topic] = TopicState(revision, write.cbor is not None)
            if name is not None:
                made[name] = write.digest, revision
                keys.append(Key(*name, write.digest, revision))
            records.append(Record(topic, revision, write.cbor))
            verdict = Applied(revision)
        verdicts.append(verdict)
    return JudgedGroup(verdicts, records, keys, revision)


def judge(write: Write, topic: TopicState, used: KeyUse | None, *, witnessed: bool, keys_full: bool) -> Verdict | None:
    """Return the verdict on a write that must not be applied, or None when it must be.

    `topic` and `used` are the state of its topic and the use of its key, at its place in the group; `witnessed` tells
    whether its witness, if any, is on the history. The key is looked up first: a repeated request gets the first
    success even if its `expect` would lose now, because it was this very request that moved the version.
    """
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
    if write.expect is not None and not _is_expected(write.expect, topic):
        return Conflict(
            f"{write.topic!r} is at version {topic.version}, not {write.expect}: read it, then decide again",
            current=topic.version,
        )
    if write.key is not None and keys_full:
        return Overloaded("too many idempotency keys are held: retry, or publish without one", retry_ms=KEYS_RETRY_MS)
    return None


def _is_expected(expect: int, topic: TopicState) -> bool:
    """Tell whether a compare-and-set wins (P-PUB-3). A tombstone counts as absent, and as being at its version."""
    return expect == topic.version or (expect == 0 and not topic.live)
