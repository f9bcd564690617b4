"""Limits of rates, of an identity and of a prefix: at the bound, and what a refusal says."""

from __future__ import annotations

import pytest

from softstate.auth.limits import PAGE_COST, PAGES_OWED_MAX, NamespaceLimit, RateLimits
from softstate.auth.tickets import TICKET_S
from softstate.errors import Overloaded

U1, U2 = ("issuer", "u1"), ("issuer", "u2")


def refused(limits: RateLimits, *args: object) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        limits.check_publish(*args)  # type: ignore[arg-type]
    return caught.value


def test_nothing_is_limited_unless_it_is_asked_for() -> None:
    limits = RateLimits()
    assert (limits.of_polls, limits.of_publishes) == (False, False)
    for _ in range(1_000):
        limits.check_publish(U1, "a", 10**9, 0.0)
        limits.check_poll(U1, 0.0)


def test_publishes_of_an_identity_at_the_bound() -> None:
    limits = RateLimits(publishes_per_s=4)
    for _ in range(4):
        limits.check_publish(U1, "a", 1, 0.0)
    error = refused(limits, U1, "b", 1, 0.0)
    assert (error.why, error.retry_ms) == ("publishes_per_s", 250)
    assert "publishes_per_s" in error.message
    limits.check_publish(U2, "a", 1, 0.0)
    limits.check_publish(None, "a", 1, 0.0)
    refused(limits, U1, "b", 1, 0.249)
    limits.check_publish(U1, "b", 1, 0.25)
    refused(limits, U1, "b", 1, 0.25)


def test_bytes_of_an_identity_and_a_value_larger_than_a_second_of_them() -> None:
    limits = RateLimits(publish_bytes_per_s=1_000)
    limits.check_publish(U1, "a", 600, 0.0)
    error = refused(limits, U1, "a", 600, 0.0)
    assert (error.why, error.retry_ms) == ("publish_bytes_per_s", 200)
    limits.check_publish(U1, "a", 400, 0.0)
    assert refused(limits, U1, "a", 5_000, 0.0).retry_ms == 1_000
    limits.check_publish(U1, "a", 5_000, 1.0)
    assert refused(limits, U1, "a", 0, 1.0).retry_ms == 4_000


def test_what_is_refused_by_one_limit_is_counted_by_none() -> None:
    limits = RateLimits(publishes_per_s=10, publish_bytes_per_s=100)
    limits.limit((NamespaceLimit("x/", publishes_per_s=1),))
    limits.check_publish(U1, "x/a", 1, 0.0)
    for _ in range(50):
        refused(limits, U1, "x/a", 50, 0.0)
    for _ in range(9):
        limits.check_publish(U1, "y", 11, 0.0)
    assert refused(limits, U1, "y", 0, 0.0).why == "publishes_per_s"


def test_a_prefix_is_limited_for_all_publishers_together_and_named() -> None:
    limits = RateLimits()
    limits.limit((NamespaceLimit("a/b/", publishes_per_s=2), NamespaceLimit("a/", publish_bytes_per_s=100)))
    limits.check_publish(U1, "a/b/1", 10, 0.0)
    limits.check_publish(None, "a/b/2", 10, 0.0)
    error = refused(limits, U2, "a/b/3", 10, 0.0)
    assert (error.why, error.retry_ms) == ("publishes_per_s", 500)
    assert "'a/b/'" in error.message
    limits.check_publish(U2, "a/c", 80, 0.0)
    error = refused(limits, U2, "a/c", 50, 0.0)
    assert (error.why, error.retry_ms) == ("publish_bytes_per_s", 500)
    assert "'a/'" in error.message
    limits.check_publish(U2, "b/c", 10**6, 0.0)


def test_the_longest_wait_is_told() -> None:
    limits = RateLimits(publishes_per_s=2)
    limits.limit((NamespaceLimit("/", publishes_per_s=0.5),))
    limits.check_publish(U1, "a", 1, 0.0)
    limits.check_publish(U1, "$x/a", 1, 0.0)
    assert refused(limits, U1, "a", 1, 0.0).retry_ms == 2_000
    assert refused(limits, U1, "$x/a", 1, 0.0).retry_ms == 500, "`/` does not stand for reserved topics"


def test_limits_that_stay_as_they_are_go_on_counting() -> None:
    limits = RateLimits()
    slow = NamespaceLimit("a/", publishes_per_s=1)
    limits.limit((slow, NamespaceLimit("b/", publishes_per_s=1)))
    for topic in ("a/1", "b/1"):
        limits.check_publish(U1, topic, 1, 0.0)
    limits.limit((NamespaceLimit("b/", publishes_per_s=2), NamespaceLimit("a/", publishes_per_s=1)))
    refused(limits, U1, "a/1", 1, 0.0)
    limits.check_publish(U1, "b/1", 1, 0.0)
    limits.limit(())
    assert not limits.of_publishes


def test_polls_of_an_identity_at_the_bound() -> None:
    limits = RateLimits(polls_per_s=2)
    for _ in range(2):
        limits.check_poll(U1, 0.0)
    with pytest.raises(Overloaded) as caught:
        limits.check_poll(U1, 0.0)
    assert (caught.value.why, caught.value.retry_ms) == ("polls_per_s", 500)
    limits.check_poll(U2, 0.0)
    limits.check_poll(None, 0.0)
    limits.check_poll(U1, 0.5)


def test_a_large_answer_comes_to_its_end_and_is_paid_for_afterwards() -> None:
    limits = RateLimits(polls_per_s=1)
    limits.check_poll(U1, 0.0)
    for _ in range(int(PAGES_OWED_MAX / PAGE_COST)):
        limits.check_poll(U1, 0.0, page=True)
    with pytest.raises(Overloaded):
        limits.check_poll(U1, 0.0, page=True)
    with pytest.raises(Overloaded) as caught:
        limits.check_poll(U1, 0.0)
    assert caught.value.retry_ms == 1_000 * (1 + PAGES_OWED_MAX)


def test_an_identity_may_ask_for_so_many_tickets_at_once_and_then_in_the_time_of_one() -> None:
    limits = RateLimits(tickets_max=30)
    for _ in range(30):
        limits.check_ticket(U1, 0.0)
    with pytest.raises(Overloaded) as caught:
        limits.check_ticket(U1, 0.0)
    assert (caught.value.why, caught.value.retry_ms) == ("tickets_per_identity_max", 1_000 * TICKET_S / 30)
    limits.check_ticket(U2, 0.0)
    limits.check_ticket(U1, TICKET_S / 30)
    for _ in range(1_000):
        RateLimits().check_ticket(U1, 0.0)
