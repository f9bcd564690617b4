"""The demo's bookkeeping: it must notice every promise that is broken."""

from __future__ import annotations

import math

import pytest

from softstate.cli.commands.demo.ledger import Ledger, Subscriber, spread_text
from softstate.model import Change


@pytest.fixture
def ledger() -> Ledger:
    return Ledger([Subscriber(), Subscriber()], bound_s=1.0)


def test_a_lost_acknowledgement_is_counted(ledger: Ledger) -> None:
    ledger.acknowledge("a", 3, now=1.0)
    ledger.acknowledge("a", 5, now=2.0)
    ledger.acknowledge("b", 6, now=3.0)
    assert ledger.lost({"a": 5, "b": 6}) == 0
    assert ledger.lost({"a": 4, "b": 6}) == 1
    assert ledger.lost({"a": 5}) == 1


def test_going_back_is_counted(ledger: Ledger) -> None:
    subscriber = ledger.subscribers[0]
    for version in (3, 5, 5, 4):
        ledger.applied(subscriber, Change("a", version, 1), now=1.0)
    assert subscriber.went_back == 1


def test_an_age_is_too_young_if_something_older_is_not_known(ledger: Ledger) -> None:
    subscriber = ledger.subscribers[0]
    ledger.acknowledge("a", 3, now=10.0)
    ledger.sample(subscriber, math.inf, now=20.0)
    ledger.sample(subscriber, 10.5, now=20.0)
    assert (ledger.samples, ledger.too_young) == (1, 0)
    ledger.sample(subscriber, 9.5, now=20.0)
    assert ledger.too_young == 1
    ledger.applied(subscriber, Change("a", 3, 1), now=20.0)
    ledger.sample(subscriber, 0.0, now=20.0)
    assert ledger.too_young == 1
    assert ledger.worst_age_s() == 10.5


def test_recovery_is_timed_from_the_kill_and_the_restart(ledger: Ledger) -> None:
    first, second = ledger.subscribers
    ledger.mode_changed(first, "live", now=2.0)
    ledger.kill(now=10.0, revision=3)
    ledger.applied(first, Change("a", 3, 1), now=11.0)
    ledger.applied(first, Change("a", 4, 1), now=12.0)
    ledger.restarted_s = 20.0
    ledger.mode_changed(first, "live", now=21.5)
    assert ledger.fresh_after_s() == [2.0, math.inf]
    assert ledger.live_after_s() == [1.5, math.inf]
    ledger.applied(second, Change("a", 4, 1), now=14.0)
    assert spread_text(ledger.fresh_after_s()) == "p50 3.00 s, max 4.00 s"


def test_who_differs_from_the_store_is_behind(ledger: Ledger) -> None:
    ledger.applied(ledger.subscribers[0], Change("a", 3, 1), now=1.0)
    assert ledger.behind({"a": 3}) == 1
