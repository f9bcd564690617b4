"""Beats in the outbox: behind all that waits, one at a time, no reply and no entry (P-BEAT-4)."""

from __future__ import annotations

import pytest

from tests.kit.fake_socket import CLOSE, frames_in, outbox, text


def test_a_beat_is_written_at_once_if_nothing_waits() -> None:
    box, sock = outbox()
    box.beat(text("beat"))
    assert frames_in(sock.taken) == ["beat"]
    assert (box.idle, box.sent, len(box)) == (True, 0, 0)


def test_a_beat_goes_with_what_was_queued_in_the_same_turn() -> None:
    box, sock = outbox()
    box.notify("a", text("a"))
    box.beat(text("beat"))
    assert sock.writes == [len(sock.taken)]
    assert frames_in(sock.taken) == ["a", "beat"]
    assert box.sent == 1


def test_a_beat_waits_behind_all_that_waits_and_what_comes_later_waits_behind_it() -> None:
    box, sock = outbox(0)
    box.notify("a", text("a"))
    box.beat(text("beat"))
    box.notify("b", text("b"))
    box.notify("a", text("newer"))
    sock.allow()
    assert frames_in(sock.taken) == ["newer", "beat", "b"]


def test_a_newer_beat_does_not_take_the_place_of_one_that_waits() -> None:
    """There it would stand ahead of the push of `b`, which it covers."""
    box, sock = outbox(0)
    box.beat(text("beat"))
    box.notify("b", text("b"))
    box.beat(text("newer"))
    sock.allow()
    assert frames_in(sock.taken) == ["beat", "b"]
    box.beat(text("newest"))
    assert frames_in(sock.taken) == ["beat", "b", "newest"]


@pytest.mark.parametrize("taken", range(1, 9))
def test_a_beat_that_was_begun_is_finished_and_another_may_wait_behind_it(taken: int) -> None:
    box, sock = outbox(taken)
    box.beat(text("beat"))
    box.beat(text("newer"))
    if taken < len(text("beat")):
        box.notify("b", text("b"))
    sock.allow()
    assert frames_in(sock.taken)[:2] == ["beat", "newer"]


def test_what_is_dropped_takes_the_beat_with_it() -> None:
    box, sock = outbox(3)
    box.notify("a", text("a"))
    box.notify("b", text("b"))
    box.beat(text("beat"))
    box.reply(text("polled"))
    box.drop()
    sock.allow()
    assert frames_in(sock.taken) == ["a", "polled"]
    box.beat(text("beat"))
    assert frames_in(sock.taken) == ["a", "polled", "beat"]


def test_a_beat_holds_no_requests_up() -> None:
    box, _ = outbox(0)
    box.beat(text("beat"))
    assert box.congested
    assert box.replies_taken()


def test_a_beat_is_no_entry_that_makes_a_connection_slow() -> None:
    over: list[int] = []
    box, _ = outbox(0, pending_max=2, overdue=lambda: over.append(1))
    box.notify("a", text("a"))
    box.beat(text("beat"))
    box.notify("b", text("b"))
    box.flush()
    assert (len(box), over) == (2, [])
    box.notify("c", text("c"))
    box.flush()
    assert over == [1]


def test_once_pushes_were_lost_no_beat_is_queued() -> None:
    box, sock = outbox(0, pending_max=1, overdue=lambda: None)
    for topic in "abc":
        box.notify(topic, text(topic))
    box.beat(text("beat"))
    sock.allow()
    assert "beat" not in frames_in(sock.taken)


def test_nothing_follows_a_close() -> None:
    box, sock = outbox()
    box.close(CLOSE)
    box.beat(text("beat"))
    box.flush()
    assert sock.taken == CLOSE


def test_a_beat_finds_a_connection_gone() -> None:
    box, sock = outbox()
    sock.broken = True
    box.beat(text("beat"))
    assert box.dead
    box.beat(text("beat"))
    assert len(box) == 0
