"""Numbers of publishers: the first success is repeated, a settled number never comes back, and memory is bounded."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, strategies as st

from softstate.errors import Conflict, KeyReused, Overloaded
from softstate.store.base import Applied, Number, Publisher, Use, Verdict, Write
from softstate.store.memory.store import MemoryImage
from softstate.store.rules.judge import TopicState, judge_group
from softstate.store.rules.publishers import DIGEST_BYTES, Notes, pack, unpack

KEYS_MAX = 10
ONE, OTHER = b"1" * DIGEST_BYTES, b"2" * DIGEST_BYTES


def image() -> MemoryImage:
    found = MemoryImage("epoch")
    found.open("lineage")
    return found


def numbered(seq: int, settled: int = 0, *, publisher: str = "p", digest: bytes = ONE, **fields: object) -> Write:
    return Write("a", b"\x01", digest=digest, number=Number(publisher, seq, settled), **fields)  # type: ignore[arg-type]


def verdict(store: MemoryImage, write: Write, publishers_max: int = 9) -> Verdict:
    return store.apply(write, KEYS_MAX, publishers_max)[0]


def test_a_repeated_number_gets_the_first_success() -> None:
    store = image()
    assert verdict(store, numbered(1, expect=0)) == Applied(2)
    assert verdict(store, Write("a", b"\x02")) == Applied(3)
    assert verdict(store, numbered(1, expect=0)) == Applied(2, repeated=True)
    assert isinstance(verdict(store, numbered(1, digest=OTHER)), KeyReused)
    assert verdict(store, numbered(1, publisher="q")) == Applied(4)


def test_a_settled_number_is_never_applied_again() -> None:
    store = image()
    assert verdict(store, numbered(1)) == Applied(2)
    assert verdict(store, numbered(3, settled=2)) == Applied(3)
    for seq in (1, 2):
        assert isinstance(verdict(store, numbered(seq)), KeyReused)
    assert store.publishers["p"] == Publisher("p", 2, 3, {3: Use(ONE, 3, changed=True)})
    # An older `settled`, in a copy that was under way for long, takes nothing back.
    assert verdict(store, numbered(4, settled=1)) == Applied(4)
    assert store.publishers["p"].settled == 2


def test_a_conflict_is_judged_again() -> None:
    store = image()
    assert isinstance(verdict(store, numbered(1, expect=7)), Conflict)
    assert store.publishers == {}
    assert verdict(store, Write("a", b"\x01")) == Applied(2)
    assert verdict(store, numbered(1, expect=2)) == Applied(3)


def test_a_deletion_without_effect_is_remembered() -> None:
    store = image()
    deletion = Write("a", None, digest=ONE, number=Number("p", 1, 0))
    assert verdict(store, deletion) == Applied(0, changed=False)
    assert verdict(store, Write("a", b"\x01")) == Applied(2)
    assert verdict(store, deletion) == Applied(0, repeated=True, changed=False)
    assert not store.records[2].deleted


def test_only_unknown_publishers_are_refused_when_all_places_are_taken() -> None:
    store = image()
    for name in "pq":
        assert isinstance(verdict(store, numbered(1, publisher=name), publishers_max=2), Applied)
    refused = verdict(store, numbered(1, publisher="r"), publishers_max=2)
    assert isinstance(refused, Overloaded)
    assert "nothing was published" in refused.message
    assert isinstance(verdict(store, numbered(2, 1, publisher="p"), publishers_max=2), Applied)
    assert isinstance(verdict(store, Write("a", b"\x01", key="k"), publishers_max=2), Applied)


def test_a_silent_publisher_is_forgotten_by_compaction() -> None:
    store = image()
    verdict(store, numbered(1, publisher="silent"))
    touched = verdict(store, numbered(1))
    assert isinstance(touched, Applied)
    store.compact(tombstones=0, keys=touched.version - 1)
    assert list(store.publishers) == ["p"]


def test_what_is_held_is_bounded_by_what_is_in_flight() -> None:
    store = image()
    for seq in range(1, 200):
        verdict(store, numbered(seq, settled=max(0, seq - 5)))
        assert len(store.publishers["p"].uses) <= 5


@pytest.mark.parametrize("seed", range(20))
def test_a_group_comes_to_the_same_as_its_writes_one_by_one(seed: int) -> None:
    random = Random(seed)
    store = image()
    for _ in range(8):
        group = []
        for _ in range(random.randrange(10)):
            settled = random.randrange(6)
            number = Number(random.choice("pqr"), settled + random.randint(1, 4), settled)
            group.append(
                Write(
                    random.choice("ab"),
                    random.choice([None, b"\x01"]),
                    random.choice([None, None, 0, -1]),
                    None,
                    random.choice([None, None, "k"]),
                    random.choice([ONE, OTHER]),
                    random.choice([None, number]),
                )
            )
        states = {r.topic: TopicState(v, live=not r.deleted) for v, r in store.records.items()}
        judged = judge_group(
            group, store.copy(), states, dict(store.keys), dict(store.publishers),
            before=store.head, keys_held=len(store.keys), keys_max=KEYS_MAX,
            publishers_held=len(store.publishers), publishers_max=2,
        )  # fmt: skip
        before = len(store.publishers)
        alone = [verdict(store, write, publishers_max=2) for write in group]
        assert [str(one) for one in judged.verdicts] == [str(one) for one in alone]
        assert judged.revision == store.head
        assert judged.publishers_added == len(store.publishers) - before
        for publisher in judged.publishers:
            assert store.publishers[publisher.publisher] == publisher


USES = st.builds(Use, st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), st.integers(0, 2**53), st.booleans())


@given(st.dictionaries(st.integers(1, 2**53), USES))
def test_uses_survive_packing(uses: dict[int, Use]) -> None:
    assert unpack(pack(uses)) == uses


def test_a_cut_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no whole number"):
        unpack(pack({1: Use(ONE, 1, changed=True)})[:-1])


def test_notes_of_nothing_store_nothing() -> None:
    notes = Notes("p", None)
    assert not notes.known
    assert not notes.noted
