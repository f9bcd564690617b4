from __future__ import annotations

import math

import pytest

from softstate.model import Record
from softstate.server.fanout.outbox import WRITE_BYTES
from softstate.wire import CBOR
from softstate.wire.push import EncodedChange, PushBatch
from tests.kit.fake_socket import CLOSE, frames_in, outbox, text

# Order and integrity -----------------------------------------------------------------------------------------------


def test_a_turn_is_one_write() -> None:
    box, sock = outbox()
    box.reply(text("welcome"))
    for number in range(20):
        box.notify(f"t{number}", text(f"t{number}"))
    assert sock.writes == []
    box.flush()
    assert sock.writes == [len(sock.taken)]
    assert frames_in(sock.taken) == ["welcome", *(f"t{number}" for number in range(20))]
    assert (box.sent, len(box), box.congested) == (20, 0, False)
    box.flush()
    assert len(sock.writes) == 1


@pytest.mark.parametrize("pending_max", [1, 1_000])
def test_a_batch_is_pushed_in_one_write_and_what_is_not_taken_waits(pending_max: int) -> None:
    changes = [EncodedChange(Record(f"t{number}", number, b"\x01")) for number in range(5)]
    batch = PushBatch(changes)
    data = batch.frames(CBOR)
    for free_bytes in range(len(data) + 1):
        over: list[int] = []
        box, sock = outbox(free_bytes, pending_max=pending_max, overdue=lambda over=over: over.append(1))
        assert box.idle
        box.push(data, batch, CBOR)
        assert sock.writes == [free_bytes]
        assert (box.idle, box.congested) == (free_bytes == len(data), free_bytes < len(data))
        begun = sum(free_bytes > len(data) // 5 * number for number in range(5))
        if 5 - begun > pending_max:
            assert over == [1]
            box.drop()
        sock.allow()
        assert sock.taken == (data[: len(data) // 5 * begun] if over else data)
        assert (box.idle, box.sent) == (True, begun if over else 5)


def test_a_batch_beyond_one_write_goes_out_in_several() -> None:
    batch = PushBatch(
        [EncodedChange(Record(f"t{number}", number, b"\x59\xff\xff" + bytes(65_535))) for number in range(4)]
    )
    box, sock = outbox()
    box.push(batch.frames(CBOR), batch, CBOR)
    assert sock.taken == batch.frames(CBOR)
    assert max(sock.writes) <= WRITE_BYTES
    assert (box.idle, box.sent) == (True, 4)


def test_a_batch_for_a_peer_that_has_gone_ends_the_outbox() -> None:
    batch = PushBatch([EncodedChange(Record("t", 1, b"\x01"))])
    box, sock = outbox()
    sock.snap()
    box.push(batch.frames(CBOR), batch, CBOR)
    assert (box.dead, box.idle) == (True, False)


def test_an_outbox_is_idle_when_nothing_waits_and_it_may_be_written_to() -> None:
    box, sock = outbox(free_bytes=0)
    seen = [("new", box.idle)]
    box.reply(text("r"))
    seen.append(("a reply waits", box.idle))
    box.flush()
    seen.append(("congested", box.idle))
    sock.allow()
    seen.append(("drained", box.idle))
    box.first(text("f"))
    seen.append(("a position waits", box.idle))
    box.flush()
    seen.append(("written", box.idle))
    box.notify("t", text("t"))
    seen.append(("a push waits", box.idle))
    box.drop()
    box.flush()
    seen.append(("dropped", box.idle))
    box.close(CLOSE)
    box.flush()
    seen.append(("closing", box.idle))
    assert [what for what, idle in seen if idle] == ["new", "drained", "written", "dropped"]


def test_one_write_is_offered_no_more_than_its_limit_unless_a_single_frame_is_larger() -> None:
    box, sock = outbox()
    box.notify("a", text("a", WRITE_BYTES // 2))
    box.notify("b", text("b", WRITE_BYTES // 2))
    box.notify("c", text("c", WRITE_BYTES * 2))
    box.flush()
    assert frames_in(sock.taken) == ["a", "b", "c"]
    assert [size // WRITE_BYTES for size in sock.writes] == [0, 0, 2]


@pytest.mark.parametrize("step", [1, 3, 1_000])
def test_no_byte_boundary_tears_a_frame_or_loses_a_place(step: int) -> None:
    whole = sum(map(len, (text("first"), text("a1"), text("reply"), text("b1"))))
    for free_bytes in range(whole + 1):
        box, sock = outbox(free_bytes)
        box.notify("a", text("a1"))
        box.reply(text("reply"))
        box.notify("b", text("b1"))
        box.first(text("first"))
        box.flush()
        assert len(sock.taken) == free_bytes
        assert box.congested == (free_bytes < whole)
        box.notify("a", text("a2"))
        box.notify("b", text("b2"))
        box.flush()
        while box.congested:
            sock.allow(step)
        begun_a, begun_b = free_bytes > len(text("first")), free_bytes > whole - len(text("b1"))
        assert frames_in(sock.taken) == [
            "first", *(["a1"] if begun_a else ["a2"]), "reply", *(["b1"] if begun_b else ["b2"]),
            *(["a2"] if begun_a else []), *(["b2"] if begun_b else []),
        ]  # fmt: skip
        assert (len(box), box.sent) == (0, 2 + begun_a + begun_b)


def test_a_frame_queued_first_replaces_an_older_one_and_waits_only_for_a_half_written_one() -> None:
    box, sock = outbox(5)
    box.notify("a", text("begun"))
    box.notify("b", text("waiting"))
    box.flush()
    box.first(text("older"))
    box.first(text("newer"))
    assert len(box) == 3
    sock.allow()
    assert len(box) == 0
    assert frames_in(sock.taken) == ["begun", "newer", "waiting"]


def test_a_frame_queued_first_may_be_written_in_two_parts() -> None:
    box, sock = outbox(3)
    box.first(text("front"))
    box.flush()
    box.first(text("next"))
    sock.allow()
    assert len(box) == 0
    assert frames_in(sock.taken) == ["front", "next"]


def test_nothing_goes_ahead_of_the_anchor() -> None:
    box, sock = outbox(2)
    box.notify("a", text("begun"))
    box.anchor = box.reply(text("welcome"))
    box.notify("b", text("b"))
    box.flush()
    box.first(text("position"))
    box.notify("b", text("b2"))
    assert (len(box), box.sent) == (4, 2)
    sock.allow()
    assert len(box) == 0
    assert frames_in(sock.taken) == ["begun", "welcome", "position", "b2"]
    box.first(text("later"))
    box.flush()
    assert frames_in(sock.taken)[-1] == "later"


def test_a_frame_queued_first_replaces_an_older_one_behind_the_anchor() -> None:
    box, sock = outbox(0)
    box.anchor = box.reply(text("welcome"))
    box.notify("b", text("b"))
    box.flush()
    for position in ("5", "9", "7 of another history"):
        box.first(text(position))
        assert (len(box), box.sent) == (3, 1)
    sock.allow(len(text("welcome")))
    box.first(text("11"))
    assert (len(box), box.replies_taken()) == (2, False)
    sock.allow()
    assert (len(box), box.replies_taken()) == (0, True)
    assert frames_in(sock.taken) == ["welcome", "11", "b"]


def test_a_frame_queued_first_behind_the_anchor_counts_among_what_waits() -> None:
    over: list[int] = []
    box, _ = outbox(0, pending_max=1, overdue=lambda: over.append(1))
    box.anchor = box.reply(text("welcome"))
    box.flush()
    assert over == []
    box.first(text("position"))
    box.flush()
    assert over == [1]


# Dropping and bounds -----------------------------------------------------------------------------------------------


def test_dropping_keeps_a_half_written_frame_and_replies_that_need_no_lease() -> None:
    box, sock = outbox(4)
    box.notify("a", text("a"))
    box.notify("b", text("begun"))
    box.notify("c", text("c"))
    box.reply(text("renewed"), droppable=True)
    box.reply(text("published"))
    box.flush()
    assert (box.sent, len(box)) == (3, 5 - 1)
    box.drop()
    assert (box.sent, len(box)) == (2, 2)
    box.drop()
    assert (box.sent, len(box)) == (2, 2)
    sock.allow()
    assert len(box) == 0
    assert frames_in(sock.taken) == ["a", "begun", "published"]


def test_dropping_takes_the_replies_dropped_from_those_that_hold_up_the_reader() -> None:
    box, _ = outbox(0)
    box.reply(text("renewed"), droppable=True)
    box.flush()
    assert not box.replies_taken()
    box.drop()
    assert box.replies_taken()


def test_a_burst_beyond_the_bounds_is_nothing_to_a_healthy_connection() -> None:
    box, sock = outbox(pending_max=10, pending_bytes_max=100)
    for number in range(1_000):
        box.notify(f"t{number}", text(f"t{number}"))
        box.reply(text(f"r{number}"))
        assert len(box) <= 10
    box.flush()
    assert len(frames_in(sock.taken)) == 2_000
    assert not box.congested


@pytest.mark.parametrize("entries", [3, 4])
def test_more_entries_than_the_bound_are_overdue_once_and_drop(entries: int) -> None:
    calls: list[int] = []
    box, sock = outbox(0, pending_max=3, overdue=lambda: calls.append(1))
    for number in range(entries):
        box.notify(f"t{number}", text(f"t{number}"))
    assert calls == []
    box.notify("t0", text("newer"))
    box.flush()
    box.flush()
    assert len(calls) == (entries > 3)
    box.drop()
    box.notify("again", text("again"))
    box.flush()
    sock.allow()
    assert len(box) == 0
    assert frames_in(sock.taken) == ["again"]
    assert box.sent == 1


def test_bytes_are_bounded_also_when_pushes_are_replaced_by_larger_ones() -> None:
    calls: list[int] = []
    box, _ = outbox(0, pending_bytes_max=500, overdue=lambda: calls.append(1))
    for topic in "abcde":
        box.notify(topic, text(topic, 98))
    box.flush()
    assert calls == []
    box.notify("c", text("c", 99))
    assert len(box) == 5
    box.flush()
    assert calls == [1]


def test_replies_count_as_pending_but_are_never_refused() -> None:
    calls: list[int] = []
    box, sock = outbox(0, pending_max=2, overdue=lambda: calls.append(1))
    for number in range(4):
        box.reply(text(f"r{number}"))
        box.flush()
    assert calls == [1, 1]
    sock.allow()
    assert len(box) == 0
    assert frames_in(sock.taken) == ["r0", "r1", "r2", "r3"]


def test_an_owner_without_a_lease_is_pushed_to_again_when_it_has_one() -> None:
    """Nothing is dropped if replies alone are overdue; pushes queued later must not vanish because of that."""
    box, sock = outbox(0, pending_max=2, overdue=lambda: None)
    for number in range(3):
        box.reply(text(f"r{number}"))
    box.flush()
    sock.allow(12)
    box.notify("topic", text("pushed"))
    box.flush()
    sock.allow()
    assert len(box) == 0
    assert frames_in(sock.taken) == ["r0", "r1", "r2", "pushed"]
    assert box.sent == 1


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_congested_for_too_long_is_overdue_again_and_again() -> None:
    calls: list[float] = []
    clock = Clock()

    def overdue() -> None:
        calls.append(clock.now - 1_000)
        box.drop()
        box.reply(text(f"revoked{len(calls)}"))
        box.flush()

    box, sock = outbox(3, congested_s_max=10, now=clock, overdue=overdue)
    box.notify("a", text("begun"))
    box.notify("b", text("dropped"))
    box.flush()
    for after, due in ((9.99, 10), (10, 20), (19.99, 20), (20, 30), (24, 30)):
        clock.now = 1_000 + after
        box.check(clock.now)
        assert box.overdue_at == 1_000 + due
    assert calls == [10, 20]
    sock.allow()
    assert len(box) == 0
    assert box.overdue_at == math.inf
    clock.now += 100
    box.check(clock.now)
    assert calls == [10, 20]
    assert frames_in(sock.taken) == ["begun", "revoked1", "revoked2"]


def test_congested_twice_for_half_as_long_is_not_overdue() -> None:
    clock = Clock()
    box, sock = outbox(0, congested_s_max=10, now=clock)
    for _ in range(3):
        box.notify("a", text("a"))
        box.flush()
        assert box.overdue_at == clock.now + 10
        clock.now += 7
        box.check(clock.now)
        sock.allow(len(text("a")))
        assert not box.congested
    assert frames_in(sock.taken) == ["a"] * 3


def test_ended_while_congested_is_not_overdue() -> None:
    clock = Clock()
    box, sock = outbox(0, congested_s_max=10, now=clock)
    box.notify("a", text("a"))
    box.flush()
    box.end()
    clock.now += 11
    box.check(clock.now)
    assert (box.dead, box.congested, sock.taken) == (True, False, bytearray())


# The end of a connection -------------------------------------------------------------------------------------------


def test_a_broken_socket_takes_nothing_more_and_its_owner_is_told() -> None:
    box, sock = outbox(1)
    box.notify("a", text("a"))
    box.reply(text("b"))
    box.flush()
    assert not box.replies_taken()
    sock.snap()
    assert (box.dead, box.congested, len(box)) == (True, False, 0)
    assert box.replies_taken()
    assert sock.wanted, "a socket that is gone counts as writable: the owner looks, and finds the outbox dead"
    box.notify("a", text("a"))
    box.reply(text("b"))
    box.first(text("c"))
    box.close(CLOSE)
    box.flush()
    assert (len(box), box.idle) == (0, False)


def test_a_socket_that_breaks_at_a_push_is_noticed_at_once() -> None:
    box, sock = outbox()
    sock.snap()
    assert not sock.wanted
    box.notify("a", text("a"))
    box.flush()
    assert box.dead
    assert sock.wanted


def test_nothing_follows_a_close_frame() -> None:
    box, sock = outbox(0)
    box.notify("a", text("a"))
    box.close(CLOSE)
    box.notify("b", text("b"))
    box.first(text("position"))
    box.reply(text("reply"))
    box.close(text("another"))
    box.flush()
    sock.allow()
    assert frames_in(bytes(sock.taken)) == ["a", ""]
    box.notify("b", text("b"))
    box.flush()
    assert frames_in(bytes(sock.taken)) == ["a", ""]
    assert not box.idle


def test_ending_loses_what_waits_and_writes_nothing_more() -> None:
    box, sock = outbox(1)
    box.notify("a", text("a"))
    box.flush()
    box.end()
    sock.free_bytes = math.inf
    box.writable()
    box.reply(text("b"))
    box.flush()
    assert (box.dead, len(box), bytes(sock.taken)) == (True, 0, text("a")[:1])


# The socket --------------------------------------------------------------------------------------------------------


def test_the_socket_is_asked_to_tell_while_it_takes_nothing_and_only_then() -> None:
    box, sock = outbox(2)
    told = []
    box.reply(text("bye"))
    told.append(sock.wanted)
    box.flush()
    told.append(sock.wanted)
    sock.allow(1)
    told.append(sock.wanted)
    sock.allow()
    told.append(sock.wanted)
    assert told == [False, True, True, False]


def test_a_half_written_reply_still_holds_up_the_reader() -> None:
    box, sock = outbox(2)
    box.reply(text("polled", 50))
    box.notify("a", text("a"))
    box.flush()
    sock.allow(10)
    assert not box.replies_taken()
    sock.allow(42)
    assert box.replies_taken()
    assert box.congested


def test_containers_are_made_only_for_what_waits() -> None:
    """Most connections owe nothing most of the time: an outbox shares its empty containers with all others."""
    one, other = outbox()[0], outbox()[0]
    for _ in range(2):
        assert one._pending is other._pending
        assert one._droppable is other._droppable
        one.notify("a", text("a"))
        one.reply(text("b"), droppable=True)
        assert len(other) == 0
        one.flush()
