"""While push is away, a node that offers it holds the polls of a client that has nothing to learn (P-CLI-20)."""

from __future__ import annotations

from typing import Any

import pytest

from softstate.client.machine.events import Abandon, PollAnswered, RequestFailed, SendPoll, Unwanted, Wanted
from softstate.client.machine.knowledge import CLOCK_RATE_MIN
from softstate.client.machine.poll_path import WAIT_S_MAX
from softstate.client.machine.portions import NAMES_MAX
from softstate.errors import Unavailable
from tests.kit.machine_rig import OTHER, POLL, TIMEOUT_S, Rig, set_to

SOON_MS = 100
"""The pause between two polls of a client that waits, as a node that holds polls tells it."""

HELD_MS = POLL.every_ms


def answered(rig: Rig, *changes: Any, revision: int = 10, **fields: Any) -> PollAnswered:
    return rig.polled(*changes, revision=revision, **{"next_ms": SOON_MS, **fields})


def to_next_poll(rig: Rig) -> int | None:
    """Go on to the next poll, unless it is sent already; return what it asks the node to wait."""
    while not rig.machine._poll.in_flight:
        rig.tick_once()
    return rig.poll.message.wait_ms


def holding(*names: str, **options: Any) -> Rig:
    """Return a rig whose poll is held."""
    rig = Rig(*names, push=False, **options).open()
    to_next_poll(rig)
    rig.do(answered(rig))
    assert to_next_poll(rig) == HELD_MS
    return rig


def test_a_client_is_answered_at_once_before_it_waits() -> None:
    rig = Rig("a", push=False).open()
    assert rig.poll.message.wait_ms == 0
    rig.do(answered(rig))
    sent = rig.now
    assert to_next_poll(rig) == HELD_MS
    assert rig.now - sent < 2 * SOON_MS / 1000
    assert rig.poll.timeout_s == rig.machine._core.poll_timeout_s + HELD_MS / 1000


def test_it_waits_again_right_after_each_answer() -> None:
    rig = holding("a")
    for version in range(11, 14):
        rig.advance(3.0)
        rig.do(answered(rig, set_to("a", version), revision=version, held_ms=2_999))
        assert rig.delivered() == [set_to("a", version)]
        sent = rig.now
        assert to_next_poll(rig) == HELD_MS
        assert rig.now - sent < 2 * SOON_MS / 1000


def test_the_age_counts_from_the_end_of_the_hold_and_is_never_of_the_future() -> None:
    rig = holding("a")
    rig.advance(10.0)
    rig.do(answered(rig, held_ms=9_900, lag_ms=50))
    assert rig.age == pytest.approx(10.0 - 9.9 * CLOCK_RATE_MIN + 0.05)
    assert to_next_poll(rig) == HELD_MS
    rig.advance(1.0)
    rig.do(answered(rig, held_ms=5_000))
    assert rig.age == 0.0


def test_the_pages_behind_a_hold_do_not_wait_and_count_from_its_end() -> None:
    rig = holding("a", "p/")
    rig.advance(10.0)
    rig.do(answered(rig, set_to("p/x", 11), revision=11, more=True, cursor="c", held_ms=10_000, next_ms=None))
    assert (rig.poll.message.cursor, rig.poll.message.wait_ms) == ("c", 0)
    rig.advance(1.0)
    rig.do(answered(rig, set_to("p/y", 12), revision=12))
    assert rig.age == pytest.approx(11.0 - 10.0 * CLOCK_RATE_MIN)


def test_a_node_that_does_not_offer_it_is_polled_as_ever() -> None:
    rig = Rig("a", push=False).open()
    rig.do(answered(rig, next_ms=POLL.every_ms))
    sent = rig.now
    assert to_next_poll(rig) == 0
    assert rig.now - sent >= 0.8 * POLL.every_ms / 1000


def test_a_failure_or_another_node_is_asked_to_answer_at_once() -> None:
    rig = holding("a", urls=("ws://127.0.0.1:8700", OTHER))
    rig.do(RequestFailed(rig.poll.request, "cut", Unavailable("cut")))
    assert to_next_poll(rig) == 0
    rig.do(answered(rig))
    assert to_next_poll(rig) == HELD_MS


def test_a_name_that_has_no_age_is_asked_about_at_once_also_while_a_poll_is_held() -> None:
    rig = holding("a")
    held = rig.poll.request
    rig.do(Wanted(("b",)))
    while not rig.all(Abandon):
        rig.tick_once()
    assert to_next_poll(rig) == 0
    assert rig.all(Abandon) == [Abandon(held)]
    rig.do(answered(rig, revision=11))
    assert to_next_poll(rig) == HELD_MS
    rig.do(Unwanted(("b",)))
    assert rig.machine._poll.in_flight


def test_a_set_of_several_requests_is_polled_as_ever() -> None:
    rig = Rig(*(f"t{number}" for number in range(NAMES_MAX + 1)), push=False).open()
    assert rig.poll.message.wait_ms is None


def test_a_client_that_waits_for_its_connection_does_not_have_polls_held() -> None:
    rig = Rig("a").open()
    assert to_next_poll(rig) is None
    rig = Rig("a").live()
    rig.renewing().advance(TIMEOUT_S)
    assert rig.mode == "suspect"
    assert rig.poll.message.wait_ms is None


def test_a_poll_that_is_held_for_too_long_fails() -> None:
    rig = holding("a")
    sent, url = rig.now, rig.poll.url
    while rig.all(SendPoll)[-1].message.wait_ms:
        rig.tick_once()
    assert rig.now >= sent + HELD_MS / 1000 + TIMEOUT_S
    assert (rig.poll.url, rig.poll.message.wait_ms) == (url, 0)


def test_a_wait_has_a_bound() -> None:
    rig = Rig("a").syncing(poll=type(POLL)(3_600_000, 1_000))
    rig.arrive(rig.subscribed())
    assert rig.machine._core.advice.poll_every_s == 3_600
    rig.machine._core.mode = "polling"
    rig.machine._poll._holds = rig.machine._poll.rotation.url
    assert rig.machine._poll._wait_ms(["a"]) == WAIT_S_MAX * 1_000
