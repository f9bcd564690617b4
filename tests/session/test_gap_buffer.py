import pytest

from softstate.model import Record
from softstate.session import Hold
from softstate.session.gap_buffer import HELD_BYTES_MAX, HELD_MAX, split


def record(topic: str, version: int, size: int = 1) -> Record:
    return Record(topic, version, bytes(size))


def overflowed(hold: Hold) -> bool:
    return hold.overflowed


def test_a_hold_keeps_pushes_of_its_names_and_lets_others_pass() -> None:
    hold = Hold(["a", "p/"], [])
    assert hold.takes(record("a", 5))
    assert hold.takes(record("p/x/y", 6))
    assert not hold.takes(record("b", 7))
    assert not hold.takes(record("pa", 8))
    assert hold.release(0) == [record("a", 5), record("p/x/y", 6)]


def test_what_an_older_name_covers_passes() -> None:
    hold = Hold(["a/x", "p/"], ["a/", "p/x"])
    assert not hold.takes(record("a/x", 5))
    assert not hold.takes(record("p/x", 6))
    assert hold.takes(record("p/y", 7))
    assert hold.release(5) == [record("p/y", 7)]
    assert not hold.takes(record("a/x", 4))


def test_release_leaves_out_what_the_answer_covers() -> None:
    hold = Hold(["/"], [])
    for topic, version in [("a", 5), ("b", 6), ("a", 7), ("c", 8)]:
        assert hold.takes(record(topic, version))
    assert hold.release(6) == [record("a", 7), record("c", 8)]


def test_after_release_what_the_answer_covers_is_dropped_until_the_hub_is_beyond() -> None:
    hold = Hold(["/"], [])
    assert not hold.over(100)
    assert hold.release(6) == []
    assert hold.takes(Record("a", 6, None))
    assert not hold.over(5)
    assert not hold.takes(record("a", 7))
    assert hold.over(6)
    assert hold.release(6) == []


def test_the_last_topic_fits_and_the_next_overflows() -> None:
    hold = Hold(["/"], [])
    for number in range(HELD_MAX):
        assert hold.takes(record(f"t{number}", number + 1))
    assert hold.takes(record("t0", HELD_MAX + 1))
    assert overflowed(hold) is False
    assert hold.takes(record("one/more", HELD_MAX + 2))
    assert overflowed(hold) is True
    assert hold.takes(record("t0", HELD_MAX + 3))
    with pytest.raises(AssertionError):
        hold.release(0)


def test_the_last_byte_fits_and_the_next_overflows() -> None:
    hold = Hold(["/"], [])
    assert hold.takes(record("a", 1, HELD_BYTES_MAX))
    assert hold.takes(record("a", 2, HELD_BYTES_MAX - 1))
    assert hold.takes(record("b", 3, 1))
    assert hold.takes(Record("c", 4, None))
    assert overflowed(hold) is False
    assert hold.takes(record("d", 5, 1))
    assert overflowed(hold) is True


def test_after_a_restart_there_is_room_again() -> None:
    hold = Hold(["/"], [], held_max=1, held_bytes_max=4)
    hold.takes(record("a", 1, 4))
    hold.takes(record("b", 2, 4))
    assert overflowed(hold) is True
    hold.restart()
    assert overflowed(hold) is False
    hold.takes(record("b", 3, 4))
    assert hold.release(0) == [record("b", 3, 4)]


def test_names_are_split_in_order() -> None:
    assert split(["p/", "b", "/", "a"]) == (["b", "a"], ["p/", "/"])
