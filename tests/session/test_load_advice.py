import pytest

from softstate.session.load_advice import (
    POLL_MS,
    RATE_CEILING_PER_S,
    RATE_FLOOR_PER_S,
    RATE_PRIOR_PER_S,
    RECOVER_BASE_MS,
    RECOVER_CAP_MS,
    SPREAD_MS_MAX,
    SPREAD_MS_MIN,
    ServiceRate,
    advise,
    renew_ms,
    spread_ms,
)
from softstate.wire.messages import PollAdvice, RecoverAdvice


def serve(rate: ServiceRate, now: float, count: int, service_s: float, idle_s: float = 0.0) -> float:
    """Serve `count` requests one after the other, and return what time it is then."""
    for _ in range(count):
        rate.began(now)
        now += service_s
        rate.ended(now)
        now += idle_s
    return now


def test_a_rate_begins_at_its_prior() -> None:
    assert ServiceRate().per_s == RATE_PRIOR_PER_S
    assert ServiceRate(prior_per_s=70.0).per_s == 70.0


@pytest.mark.parametrize("prior_per_s", [20.0, 100.0, 500.0])
@pytest.mark.parametrize("idle_s", [0.0, 3.0])
def test_a_rate_is_requests_served_per_busy_second(prior_per_s: float, idle_s: float) -> None:
    rate = ServiceRate(prior_per_s=prior_per_s, smoothing_s=2.0)
    serve(rate, 1000.0, count=2000, service_s=0.01, idle_s=idle_s)
    assert rate.per_s == pytest.approx(100.0, rel=0.02)


def test_requests_in_progress_together_share_the_busy_time() -> None:
    rate = ServiceRate(prior_per_s=100.0, smoothing_s=1.0)
    now = 0.0
    rate.began(now)
    for _ in range(2000):
        rate.began(now)
        now += 0.005
        rate.ended(now)
    assert rate.in_progress == 1
    assert rate.per_s == pytest.approx(200.0, rel=0.02)


def test_smoothing_replaces_63_percent_of_the_old_rate() -> None:
    rate = ServiceRate(prior_per_s=1000.0, smoothing_s=2.0)
    serve(rate, 0.0, count=200, service_s=0.01)
    assert rate.per_s == pytest.approx(100 + 900 * 0.368, rel=0.01)


def test_a_rate_stays_within_floor_and_ceiling() -> None:
    rate = ServiceRate()
    now = serve(rate, 0.0, count=1, service_s=1000.0)
    assert rate.per_s == pytest.approx(RATE_FLOOR_PER_S, rel=0.05)
    rate.began(now)
    rate.began(now + 1000.0)
    assert rate.per_s == RATE_FLOOR_PER_S
    rate = ServiceRate(ceiling_per_s=501.0, smoothing_s=2.0)
    serve(rate, now, count=10, service_s=0.0)
    assert rate.per_s == 501.0
    assert RATE_CEILING_PER_S > RATE_PRIOR_PER_S


def test_the_backlog_is_what_is_in_progress_over_the_rate() -> None:
    rate = ServiceRate(prior_per_s=100.0)
    assert rate.backlog_s() == 0.0
    for _ in range(50):
        rate.began(0.0)
    assert rate.in_progress == 50
    assert rate.backlog_s() == 0.5


def test_a_request_is_shed_when_the_backlog_exceeds_half_a_timeout() -> None:
    rate = ServiceRate(prior_per_s=100.0)
    for _ in range(250):
        rate.began(0.0)
    assert rate.admit(timeout_s=5.0) is None
    rate.began(0.0)
    assert rate.admit(timeout_s=5.0) == pytest.approx(2.51)
    assert rate.admit(timeout_s=5.0, spread_s=4.0) == pytest.approx(6.51)
    for _ in range(2):
        rate.ended(0.0)
    assert rate.admit(timeout_s=5.0, spread_s=4.0) is None


@pytest.mark.parametrize(
    ("sessions", "rate_per_s", "expected_ms"),
    [
        (50_000, 1000.0, 66_667),
        (10_000, 1000.0, 13_334),
        (75, 1.0, 100_000),
        (0, 1000.0, SPREAD_MS_MIN),
        (75, 1000.0, SPREAD_MS_MIN),
        (76, 1000.0, 102),
        (4500, 10.0, SPREAD_MS_MAX),
        (4501, 10.0, SPREAD_MS_MAX),
    ],
)
def test_a_spread_uses_three_quarters_of_the_rate(sessions: int, rate_per_s: float, expected_ms: int) -> None:
    assert spread_ms(sessions, rate_per_s) == expected_ms


def test_a_spread_keeps_the_bounds_it_is_given() -> None:
    assert spread_ms(1, 1000.0, least_ms=7) == 7
    assert spread_ms(1_000_000, 1.0, most_ms=9) == 9


def test_a_renewal_comes_after_a_third_of_the_ttl() -> None:
    assert renew_ms(60_000) == 20_000


def test_a_small_node_gives_the_defaults() -> None:
    poll, recover = advise(10, 500.0, 2000.0)
    assert poll == PollAdvice(every_ms=POLL_MS, spread_ms=SPREAD_MS_MIN)
    assert recover == RecoverAdvice(spread_ms=SPREAD_MS_MIN, base_ms=RECOVER_BASE_MS, cap_ms=RECOVER_CAP_MS)


def test_a_node_with_many_sessions_spreads_them() -> None:
    poll, recover = advise(90_000, 1000.0, 4000.0)
    assert recover == RecoverAdvice(spread_ms=120_000, base_ms=RECOVER_BASE_MS, cap_ms=2 * 120_000)
    assert poll == PollAdvice(every_ms=30_000, spread_ms=30_000)


def test_advice_keeps_the_settings_it_is_given() -> None:
    poll, recover = advise(3000, 100.0, 100.0, poll_ms=50, base_ms=1, cap_ms=2, least_ms=3, most_ms=4)
    assert poll == PollAdvice(every_ms=50, spread_ms=4)
    assert recover == RecoverAdvice(spread_ms=4, base_ms=1, cap_ms=8)
