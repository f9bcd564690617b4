import math

import pytest
from hypothesis import given, strategies as st

from softstate.model import Record
from softstate.names import covers
from softstate.session import GapBuffer
from softstate.session.gap_buffer import GAP_BYTES_MAX, GAP_TOPICS_MAX


def record(topic: str, version: int, size: int = 1) -> Record:
    return Record(topic, version, bytes(size))


def overflowed(gap_buffer: GapBuffer) -> bool:
    return gap_buffer.overflowed


def test_a_gap_buffer_keeps_pushes_of_its_names_and_lets_others_pass() -> None:
    gap_buffer = GapBuffer(["a", "p/"], whole=True)
    assert gap_buffer.takes(record("a", 5))
    assert gap_buffer.takes(record("p/x/y", 6))
    assert not gap_buffer.takes(record("b", 7))
    assert not gap_buffer.takes(record("pa", 8))
    assert gap_buffer.release(0) == [record("a", 5), record("p/x/y", 6)]


def test_what_an_older_name_covers_passes() -> None:
    gap_buffer = GapBuffer(["a/", "p/x", "a/x", "p/"], whole=False)
    gap_buffer.cover(["a/x", "p/"])
    assert not gap_buffer.takes(record("a/x", 5))
    assert not gap_buffer.takes(record("p/x", 6))
    assert gap_buffer.takes(record("p/y", 7))
    assert gap_buffer.release(5) == [record("p/y", 7)]
    assert not gap_buffer.takes(record("a/x", 4))


def test_release_leaves_out_what_the_answer_covers() -> None:
    gap_buffer = GapBuffer(["/"], whole=True)
    for topic, version in [("a", 5), ("b", 6), ("a", 7), ("c", 8)]:
        assert gap_buffer.takes(record(topic, version))
    assert gap_buffer.release(6) == [record("a", 7), record("c", 8)]


def test_after_release_what_the_answer_covers_is_dropped_until_the_hub_is_beyond() -> None:
    gap_buffer = GapBuffer(["/"], whole=True)
    assert not gap_buffer.over(100)
    assert gap_buffer.release(6) == []
    assert gap_buffer.takes(Record("a", 6, None))
    assert not gap_buffer.over(5)
    assert not gap_buffer.takes(record("a", 7))
    assert gap_buffer.over(6)
    assert gap_buffer.release(6) == []


def test_the_last_topic_fits_and_the_next_overflows() -> None:
    gap_buffer = GapBuffer(["/"], whole=True)
    for number in range(GAP_TOPICS_MAX):
        assert gap_buffer.takes(record(f"t{number}", number + 1))
    assert gap_buffer.takes(record("t0", GAP_TOPICS_MAX + 1))
    assert overflowed(gap_buffer) is False
    assert gap_buffer.takes(record("one/more", GAP_TOPICS_MAX + 2))
    assert overflowed(gap_buffer) is True
    assert gap_buffer.takes(record("t0", GAP_TOPICS_MAX + 3))
    with pytest.raises(AssertionError):
        gap_buffer.release(0)


def test_the_last_byte_fits_and_the_next_overflows() -> None:
    gap_buffer = GapBuffer(["/"], whole=True)
    assert gap_buffer.takes(record("a", 1, GAP_BYTES_MAX))
    assert gap_buffer.takes(record("a", 2, GAP_BYTES_MAX - 1))
    assert gap_buffer.takes(record("b", 3, 1))
    assert gap_buffer.takes(Record("c", 4, None))
    assert overflowed(gap_buffer) is False
    assert gap_buffer.takes(record("d", 5, 1))
    assert overflowed(gap_buffer) is True


def test_after_a_restart_there_is_room_again() -> None:
    gap_buffer = GapBuffer(["/"], whole=True, topics_max=1, bytes_max=4)
    gap_buffer.takes(record("a", 1, 4))
    gap_buffer.takes(record("b", 2, 4))
    assert overflowed(gap_buffer) is True
    gap_buffer.restart()
    assert overflowed(gap_buffer) is False
    gap_buffer.takes(record("b", 3, 4))
    assert gap_buffer.release(0) == [record("b", 3, 4)]


def test_names_that_enter_later_are_held_back_from_then_on() -> None:
    """The names of the lease are its own, not a copy: those that enter are in both."""
    lease = {"a": None, "p/": None}
    gap_buffer = GapBuffer(lease, whole=False)
    assert not gap_buffer.takes(record("b", 5))
    lease |= {"b": None, "p/x": None}
    gap_buffer.cover(["b", "p/x"])
    assert gap_buffer.takes(record("b", 6))
    assert not gap_buffer.takes(record("p/x", 7))
    assert not gap_buffer.takes(record("a", 8))
    del lease["p/"]
    assert gap_buffer.takes(record("p/x", 9))
    assert gap_buffer.release(0) == [record("b", 6), record("p/x", 9)]


def test_a_whole_one_follows_the_lease_without_a_copy() -> None:
    lease: dict[str, None] = {}
    gap_buffer = GapBuffer(lease, whole=True)
    assert gap_buffer._names is lease
    lease |= {"b": None, "p/": None}
    gap_buffer.cover(["b", "p/"])
    assert gap_buffer._fresh is None
    assert gap_buffer.takes(record("b", 6))
    assert gap_buffer.takes(record("p/x", 7))
    assert not gap_buffer.takes(record("a", 8))
    assert gap_buffer.release(6) == [record("p/x", 7)]
    assert gap_buffer.takes(record("b", 6))


def after_an_answer() -> tuple[dict[str, None], GapBuffer]:
    """Return a lease of "a", which was answered at 6, and of "b", with the buffer of the subscribe for that."""
    lease: dict[str, None] = {"a": None}
    first = GapBuffer(lease, whole=True)
    first.release(6)
    lease["b"] = None
    second = GapBuffer(lease, whole=False, earlier=first)
    second.cover(["b"])
    return lease, second


def test_what_the_answer_before_covers_is_dropped_until_the_hub_is_beyond() -> None:
    _, second = after_an_answer()
    assert second.takes(record("a", 6))
    assert second.takes(record("b", 6))
    assert not second.takes(record("a", 7))
    assert not second.over(100)
    assert second.release(5) == [record("b", 6)]
    assert second.takes(record("a", 6))
    assert not second.over(5)
    assert second.over(6)


def test_what_is_given_up_leaves_the_answers_before() -> None:
    assert GapBuffer({"a": None}, whole=True).give_up() is None
    lease, second = after_an_answer()
    assert second.takes(record("b", 5))
    del lease["b"]
    second.uncover(["b"])
    assert second.give_up() is second
    assert second.takes(record("a", 6))
    assert not second.takes(record("b", 6))
    assert not second.over(5)
    assert second.over(6)
    assert second.release(0) == []


@given(
    asked=st.lists(
        st.tuples(st.lists(st.sampled_from(["/", "a/", "a/b/", "a/b", "a/c", "d"]), max_size=3), st.integers(1, 9)),
        min_size=1,
        max_size=5,
    ),
    changed=st.lists(st.tuples(st.sampled_from(["a/b", "a/c", "a/b/x", "d", "e"]), st.integers(1, 9)), max_size=8),
    last=st.sampled_from(["asked", "answered", "failed"]),
)
def test_of_several_subscribes_the_first_answer_to_a_name_that_covers_a_topic_decides(
    asked: list[tuple[list[str], int]], changed: list[tuple[str, int]], last: str
) -> None:
    lease: dict[str, None] = {}
    answers: dict[str, float] = {}
    gap_buffer: GapBuffer | None = None
    for number, (names, revision) in enumerate(asked):
        gap_buffer = GapBuffer(lease, whole=not lease, earlier=gap_buffer)
        fresh = [name for name in names if name not in lease]
        lease |= dict.fromkeys(fresh)
        gap_buffer.cover(fresh)
        if number < len(asked) - 1 or last == "answered":
            gap_buffer.release(revision)
            answers |= dict.fromkeys(fresh, revision)
        elif last == "asked":
            answers |= dict.fromkeys(fresh, math.inf)
        else:
            for name in names:
                answers.pop(name, None)
                lease.pop(name, None)
            gap_buffer.uncover(names)
            gap_buffer = gap_buffer.give_up()
    for topic, version in changed:
        first = min([answers[name] for name in lease if covers(name, topic)], default=0)
        assert (gap_buffer is not None and gap_buffer.takes(record(topic, version))) == (version <= first)
    if gap_buffer is not None and last != "asked":
        assert gap_buffer.over(9)
        assert not gap_buffer.over(0)


NAMES = ["/", "a/", "a/b/", "a/b", "a/c", "d"]


@given(
    held=st.lists(st.sampled_from(NAMES), unique=True),
    entered=st.lists(st.sampled_from(NAMES), unique=True),
    topics=st.lists(st.sampled_from(["a/b", "a/c", "a/b/x", "d", "e"]), max_size=8),
)
def test_it_takes_what_names_that_entered_cover_alone(held: list[str], entered: list[str], topics: list[str]) -> None:
    lease = dict.fromkeys(held)
    gap_buffer = GapBuffer(lease, whole=not lease)
    fresh = [name for name in entered if name not in lease]
    lease |= dict.fromkeys(fresh)
    gap_buffer.cover(fresh)
    for number, topic in enumerate(topics, 1):
        covering = [name for name in lease if name == topic or (name[-1] == "/" and f"/{topic}".startswith(f"/{name}"))]
        covering += ["/"] if "/" in lease else []
        assert gap_buffer.takes(record(topic, number)) == (bool(covering) and set(covering) <= set(fresh))
