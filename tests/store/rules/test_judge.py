"""A group is judged as if its writes came one by one: the memory store applies them so, and has to agree."""

from __future__ import annotations

from dataclasses import asdict
from random import Random

import pytest

from softstate.errors import Conflict, KeyReused, Overloaded
from softstate.model import Record
from softstate.position import Position
from softstate.store.base import EXISTS, Applied, Key, Verdict, Write
from softstate.store.memory.store import MemoryImage
from softstate.store.rules.judge import TopicState, judge_group

KEYS_MAX = 12


def image_of(*writes: Write) -> MemoryImage:
    image = MemoryImage("epoch")
    image.open("lineage")
    for write in writes:
        image.apply(write, KEYS_MAX)
    return image


def topics_of(image: MemoryImage) -> dict[str, TopicState]:
    return {record.topic: TopicState(version, live=not record.deleted) for version, record in image.records.items()}


def shown(verdict: Verdict) -> object:
    return asdict(verdict) if isinstance(verdict, Applied) else (type(verdict), verdict.message, verdict.current)


def drawn(random: Random, head: int) -> Write:
    return Write(
        f"t/{random.randrange(6)}",
        random.choice([None, b"\x01", b"\x02"]),
        expect=random.choice([None, None, 0, EXISTS, random.randrange(40)]),
        witness=random.choice(
            [None, None, Position("epoch", random.choice(["lineage", "other"]), random.randint(1, head))]
        ),
        key=random.choice([None, f"k{random.randrange(9)}"]),
        digest=bytes([random.randrange(2)]),
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_group_comes_to_the_same_as_its_writes_one_by_one(seed: int) -> None:
    random = Random(seed)
    image = image_of()
    for _ in range(6):
        group = [drawn(random, image.head) for _ in range(random.randrange(12))]
        judged = judge_group(
            group,
            image.copy(),
            topics_of(image),
            dict(image.keys),
            before=image.head,
            keys_held=len(image.keys),
            keys_max=KEYS_MAX,
        )
        held = len(image.keys)
        outcomes = [image.apply(write, KEYS_MAX) for write in group]
        assert [shown(verdict) for verdict in judged.verdicts] == [shown(verdict) for verdict, _ in outcomes]
        assert judged.records == [record for _, record in outcomes if record is not None]
        assert judged.keys == [Key(*name, *use) for name, use in list(image.keys.items())[held:]]
        assert judged.revision == image.head


def test_each_verdict_and_its_reason() -> None:
    image = image_of(Write("a", b"\x01"), Write("gone", b"\x01"), Write("gone", None))
    group = [
        Write("a", b"\x02", expect=2, key="k", digest=b"d"),
        Write("a", b"\x02", expect=2, key="k", digest=b"d"),
        Write("a", b"\x03", key="k", digest=b"other"),
        Write("a", b"\x03", expect=2),
        Write("a", b"\x03", witness=Position("epoch", "other", 2)),
        Write("gone", b"\x03", expect=0),
        Write("new", b"\x03", key="l"),
    ]
    judged = judge_group(group, image, topics_of(image), {}, before=10, keys_held=0, keys_max=1)
    kinds = [Applied, Applied, KeyReused, Conflict, Conflict, Applied, Overloaded]
    assert [type(verdict) for verdict in judged.verdicts] == kinds
    assert judged.verdicts[:2] == [Applied(11), Applied(11, repeated=True)]
    assert judged.records == [Record("a", 11, b"\x02"), Record("gone", 12, b"\x03")]
    assert judged.keys == [Key("a", "k", b"d", 11)]


def test_nothing_applied_leaves_the_revision() -> None:
    judged = judge_group([Write("a", None, expect=7)], image_of(), {}, {}, before=10, keys_held=0, keys_max=1)
    assert (judged.revision, judged.records, judged.keys) == (10, [], [])


@pytest.mark.parametrize(
    ("expect", "cbor", "state", "wins"),
    [
        (EXISTS, b"\x01", TopicState(3, live=True), True),
        (EXISTS, b"\x01", TopicState(3), False),
        (EXISTS, b"\x01", TopicState(), False),
        (EXISTS, b"\x01", TopicState(3, live=True, readable=False), True),
        (0, b"\x01", TopicState(3, live=True, readable=False), False),
        (3, b"\x01", TopicState(3, live=True, readable=False), False),
        (None, b"\x01", TopicState(3, live=True, readable=False), True),
        (None, None, TopicState(3, readable=False), True),
        (3, b"\x01", TopicState(3), True),
        (3, None, TopicState(3), False),
        (EXISTS, None, TopicState(3), False),
        (3, None, TopicState(3, live=True), True),
    ],
)
def test_conditions_on_absent_deleted_and_damaged_topics(
    expect: int | None, cbor: bytes | None, state: TopicState, *, wins: bool
) -> None:
    group = [Write("a", cbor, expect)]
    judged = judge_group(group, image_of(), {"a": state}, {}, before=10, keys_held=0, keys_max=1)
    (verdict,) = judged.verdicts
    if wins:
        assert verdict == Applied(11)
    else:
        assert isinstance(verdict, Conflict)
        assert verdict.current == (state.version if state.readable else None)


def test_deleting_nothing_changes_nothing() -> None:
    group = [Write("a", None), Write("b", None, 0), Write("a", b"\x01", 0)]
    judged = judge_group(group, image_of(), {"b": TopicState(7)}, {}, before=10, keys_held=0, keys_max=1)
    assert judged.verdicts == [Applied(0, changed=False), Applied(7, changed=False), Applied(11)]
    assert judged.records == [Record("a", 11, b"\x01")]
