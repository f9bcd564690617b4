"""The age and the mode that a client tells in renewals and polls (P-REN-13)."""

from __future__ import annotations

import math

import pytest

from softstate.client.machine.events import SendPoll, Unwanted
from softstate.client.machine.knowledge import CLOCK_RATE_MIN
from softstate.wire.messages import AGE_MS_NEVER, Renew
from tests.kit.machine_rig import Rig


def next_renewal(rig: Rig) -> Renew:
    sent = len(rig.sent(Renew))
    while len(rig.sent(Renew)) == sent:
        rig.tick_once()
    return rig.sent(Renew)[-1]


def test_an_age_is_told_rounded_up() -> None:
    rig = Rig("a", "b/").live()
    before = rig.now - rig.age * CLOCK_RATE_MIN
    renew = next_renewal(rig)
    assert renew.mode == "live"
    assert renew.age_ms == math.ceil((rig.now - before) / CLOCK_RATE_MIN * 1000)


def test_a_poll_tells_the_age_of_all_names_and_the_mode() -> None:
    rig = Rig("a", push=False).open()
    assert (rig.poll.message.age_ms, rig.poll.message.mode) == (AGE_MS_NEVER, "polling")
    rig.do(rig.polled())
    answered = rig.now
    while not rig.machine._poll.in_flight:
        rig.tick_once()
    assert rig.poll.message.age_ms == math.ceil((rig.now - answered) / CLOCK_RATE_MIN * 1000)


def test_a_client_that_never_knew_tells_the_longest_age() -> None:
    rig = Rig("a").open()
    rig.advance(10)
    polls = [action.message for action in rig.all(SendPoll)]
    assert polls
    assert {poll.age_ms for poll in polls} == {AGE_MS_NEVER}


def test_a_client_without_names_tells_no_age() -> None:
    rig = Rig("a").live()
    rig.do(Unwanted(["a"]))
    renew = next_renewal(rig)
    assert (renew.count, renew.age_ms, renew.mode) == (0, None, "live")


@pytest.mark.parametrize("days", [6.9, 7.1, 1_000])
def test_no_age_is_longer_than_the_longest(days: float) -> None:
    rig = Rig("a", push=False).open()
    rig.do(rig.polled())
    now = rig.now + days * 86_400
    told = rig.machine._knowledge.told_age_ms(now)
    assert told == min(math.ceil(days * 86_400_000 / CLOCK_RATE_MIN), AGE_MS_NEVER)
