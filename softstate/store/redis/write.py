"""A group of publishes, as the library is asked to apply it, and its answer, as verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from softstate.model import Record
from softstate.store.base import Applied, Committed, Publisher, Use, Verdict, Write
from softstate.store.redis.schema import StoreState
from softstate.store.remote.encoding import to_stored
from softstate.store.rules.judge import TopicState, is_without_effect, judge
from softstate.store.rules.publishers import Notes


def encode_publishes(group: Sequence[Write], keys_max: int, publishers_max: int) -> list[bytes | str | int]:
    """Return the arguments of the function ``write`` behind the first."""
    arguments: list[bytes | str | int] = [keys_max, publishers_max]
    for publish in group:
        arguments += (
            publish.topic,
            to_stored(publish.cbor),
            "" if publish.expect is None else publish.expect,
            "" if publish.key is None else key_name(publish.topic, publish.key),
            publish.digest,
            "" if publish.witness is None else str(publish.witness),
        )
        number = publish.number
        arguments += ("", "", "") if number is None else (number.publisher, number.seq, number.settled)
    return arguments


def key_name(topic: str, key: str) -> str:
    """Return the name of an idempotency key: no topic holds a NUL."""
    return f"{topic}\0{key}"


def committed_of(group: Sequence[Write], state: StoreState, found: Sequence[Any]) -> Committed:
    """Return the outcome of a group from the library's answer."""
    before, answers = found
    verdicts: list[Verdict] = []
    records: list[Record] = []
    for publish, answer in zip(group, answers, strict=True):
        if isinstance(answer, int):
            verdicts.append(Applied(answer))
            records.append(Record(publish.topic, answer, publish.cbor))
        else:
            verdicts.append(_verdict(publish, answer))
    return Committed(verdicts, before, records, state.position)


def _verdict(write: Write, answer: Sequence[Any]) -> Verdict:
    """Judge a write that the library did not apply: it says only that there is a reason, and `judge` which."""
    version, live, readable, digest, made_at, witnessed, full, settled, used_digest, used_version, changed, crowded = (
        answer
    )
    used = None if digest is None else (digest, made_at)
    topic = TopicState(version, bool(live), bool(readable))
    notes = None
    if write.number is not None:
        uses = {} if used_digest is None else {write.number.seq: Use(used_digest, used_version, bool(changed))}
        known = None if settled is None else Publisher(write.number.publisher, settled, 0, uses)
        notes = Notes(write.number.publisher, known)
    verdict = judge(
        write, topic, used, notes, witnessed=bool(witnessed), keys_full=bool(full), publishers_full=bool(crowded)
    )
    if verdict is None and is_without_effect(write, topic):
        return Applied(version, changed=False)
    assert verdict is not None, f"the library refused what must be applied: {write.topic!r}"
    return verdict
