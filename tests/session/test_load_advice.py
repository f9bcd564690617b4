import pytest

from softstate.session.load_advice import (
    POLL_MS,
    PRIOR_S,
    RATE_CEILING_PER_S,
    RATE_FLOOR_PER_S,
    RATE_PRIOR_PER_S,
    RECOVER_BASE_MS,
    RECOVER_CAP_MS,
    SPREAD_MS_MAX,
    SPREAD_MS_MIN,
    TOGETHER,
    ExpectedPolls,
    MeasuredRequest,
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
    now = serve(rate, 0.0, count=2000, service_s=0.01)
    assert rate.per_s == pytest.approx(100, rel=0.01)
    serve(rate, now, count=2000, service_s=0.001)
    assert rate.per_s == pytest.approx(1000 - 900 * 0.368, rel=0.01)


@pytest.mark.parametrize(("count", "mean_per_s"), [(25, 300.0), (75, 200.0), (175, 150.0)])
def test_a_new_rate_is_the_mean_of_what_was_measured_and_of_the_prior(count: int, mean_per_s: float) -> None:
    """The prior, 500 a second, weighs as much as `PRIOR_S`; measured are 100 a second."""
    rate = ServiceRate()
    serve(rate, 0.0, count=count, service_s=0.01)
    assert rate.per_s == pytest.approx(mean_per_s, rel=0.01)
    assert mean_per_s == (500 * PRIOR_S + count) / (PRIOR_S + count * 0.01)


@pytest.mark.parametrize(("work_s", "wait_s", "together", "expected_per_s"), [
    (0.001, 0.0, 1, 1000.0),
    (0.001, 0.016, 1, 500.0),  # of the wait counts a sixteenth
    (0.0, 0.016, 1, 1000.0),
    (0.0, 0.016, 4, 1000.0),  # a quarter, and four are served in it
    (0.0, 0.016, TOGETHER, 1000.0),
    (0.0, 0.016, 4 * TOGETHER, 4000.0),  # more than that are measured as they are
])  # fmt: skip
def test_while_the_node_waits_for_its_store_time_counts_in_part(
    work_s: float, wait_s: float, together: int, expected_per_s: float
) -> None:
    rate = ServiceRate(smoothing_s=1.0)
    now = 0.0
    for _ in range(2000):
        for _ in range(together):
            rate.began(now)
        now += work_s
        rate.waits(now)
        now += wait_s
        rate.goes_on(now)
        for _ in range(together):
            rate.ended(now)
    assert rate.per_s == pytest.approx(expected_per_s, rel=0.05)


def test_work_ahead_of_knowing_the_kind_of_a_request_counts_once() -> None:
    rate = ServiceRate(smoothing_s=1.0)
    now = 0.0
    for _ in range(1000):
        alone = MeasuredRequest(rate, since=now)
        now += 0.006
        alone.works(now)
        beside = MeasuredRequest(rate, since=now - 0.003)
        beside.works(now)
        now += 0.004
        alone.served(now)
        beside.served(now)
        late = MeasuredRequest(rate, since=now - 0.004)
        late.works(now)
        late.left(now)
    assert rate.in_progress == 0
    assert rate.per_s == pytest.approx(200.0, rel=0.02)


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


def test_a_request_is_shed_when_it_would_not_be_served_within_most_of_its_timeout() -> None:
    rate = ServiceRate(prior_per_s=100.0)
    for _ in range(400):
        rate.began(0.0)
    assert rate.in_time(timeout_s=5.0)
    assert not rate.in_time(timeout_s=5.0, age_s=0.01)
    rate.began(0.0)
    assert not rate.in_time(timeout_s=5.0)
    for _ in range(100):
        rate.paused(0.0)
    assert rate.in_time(timeout_s=5.0, age_s=0.5)
    assert not rate.in_time(timeout_s=5.0, age_s=1.6)


def test_what_the_peer_does_between_two_parts_of_a_request_is_not_measured() -> None:
    rate = ServiceRate(smoothing_s=1.0)
    now = 0.0
    for _ in range(1000):
        request = MeasuredRequest(rate)
        for _ in range(3):
            request.works(now)
            request.works(now)
            now += 0.01 / 3
            request.waits(now)
            request.waits(now)
            now += 7.0
        request.served(now)
        request.served(now)
        request.left(now)
        request.works(now)
        now += 7.0
    assert rate.in_progress == 0
    assert rate.per_s == pytest.approx(100.0, rel=0.02)


def test_a_rate_is_of_requests_that_are_served_to_their_end() -> None:
    """One hundred and twenty a second come live, though upgrades alone would be far faster."""
    rate = ServiceRate(prior_per_s=811.0)
    waiting = [MeasuredRequest(rate) for _ in range(3000)]
    for request in waiting:
        request.works(0.0)
    for number, request in enumerate(waiting):
        request.served(number / 120)
    assert rate.per_s == pytest.approx(120.0, rel=0.05)


@pytest.mark.parametrize("took_s", [0.0, 0.001, 0.5, 5.0])
@pytest.mark.parametrize("together", [1, 7])
def test_a_request_that_is_left_leaves_the_rate_as_it_was(took_s: float, together: int) -> None:
    rate = ServiceRate(prior_per_s=300.0)
    now = 0.0
    for _ in range(50):
        requests = [MeasuredRequest(rate) for _ in range(together)]
        for request in requests:
            request.works(now)
        now += took_s
        requests[0].waits(now)
        for request in requests:
            request.left(now)
            request.served(now)
    assert rate.in_progress == 0
    assert rate.per_s == pytest.approx(300.0)


def test_a_request_that_is_left_beside_others_is_charged_its_share_alone() -> None:
    rate = ServiceRate(smoothing_s=1.0)
    now = 0.0
    stuck = MeasuredRequest(rate)
    stuck.works(now)
    now = serve(rate, now, count=1000, service_s=0.01)
    with_stuck = rate.per_s
    assert with_stuck == pytest.approx(100.0, rel=0.02)
    stuck.left(now)
    assert rate.per_s > with_stuck


def test_polls_are_expected_for_as_long_as_clients_may_take() -> None:
    polls = ExpectedPolls()
    assert polls.count(100.0) == 0
    for number in range(50):
        polls.expect(100.0 + number / 50, 10_000)
    assert polls.count(112.0) == 50
    assert 0 < polls.count(113.5) < 50
    assert polls.count(115.0) == 0
    polls.expect(115.0, 10_000)
    assert polls.count(1e9) == 0


def test_a_connection_that_polls_again_is_expected_once() -> None:
    polls = ExpectedPolls()
    due = 0
    for number in range(1000):
        due = polls.expect(number / 10, 15_000, due)
        assert polls.count(number / 10) == 1
    due = polls.expect(1000.0, 15_000, due)
    assert polls.count(1000.0) == 1


def test_a_poll_whose_time_has_passed_is_not_taken_for_that_of_another() -> None:
    polls = ExpectedPolls()
    old = polls.expect(0.0, 1_000)
    assert polls.count(50.0) == 0
    polls.expect(50.0, 1_000)
    polls.expect(50.0, 1_000, old)
    assert polls.count(50.0) == 2


@pytest.mark.parametrize(
    ("sessions", "rate_per_s", "expected_ms"),
    [
        (50_000, 1000.0, 75_000),
        (10_000, 1000.0, 15_000),
        (75, 1.0, 112_500),
        (0, 1000.0, SPREAD_MS_MIN),
        (66, 1000.0, SPREAD_MS_MIN),
        (67, 1000.0, 101),
        (4000, 10.0, SPREAD_MS_MAX),
        (4001, 10.0, SPREAD_MS_MAX),
    ],
)
def test_a_spread_uses_two_thirds_of_the_rate(sessions: int, rate_per_s: float, expected_ms: int) -> None:
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
    poll, recover = advise(90_000, 1000.0, 4000.0, timeout_ms=300_000)
    assert recover == RecoverAdvice(spread_ms=135_000, base_ms=RECOVER_BASE_MS, cap_ms=2 * 135_000)
    assert poll == PollAdvice(every_ms=33_750, spread_ms=33_750)


def test_the_polls_before_late_connects_have_time_too() -> None:
    """Of clients spread over 10 s, three quarters poll before a connect that is due later than 2.5 s."""
    _, recover = advise(10_000, 1500.0, 3000.0)
    assert recover.spread_ms == 10_000 + 0.75 * 5_000
    _, recover = advise(10_000, 6000.0, 3000.0)
    assert recover.spread_ms == 2_500
    _, recover = advise(10_000, 1500.0, 500.0)
    assert recover.spread_ms == 10_000 + 0.75 * 10_000
    _, recover = advise(10_000, 1500.0, 3000.0, most_ms=12_000)
    assert recover.spread_ms == 12_000


def test_clients_that_poll_count_beside_those_with_a_session() -> None:
    poll, recover = advise(0, 500.0, 1000.0, polling=90_000)
    assert poll == PollAdvice(every_ms=135_000, spread_ms=135_000)
    assert recover.spread_ms == SPREAD_MS_MIN
    poll, _ = advise(30_000, 500.0, 1000.0, polling=60_000)
    assert poll.every_ms == 135_000


def test_advice_keeps_the_settings_it_is_given() -> None:
    poll, recover = advise(3000, 100.0, 100.0, poll_ms=50, base_ms=1, cap_ms=2, least_ms=3, most_ms=4)
    assert poll == PollAdvice(every_ms=50, spread_ms=4)
    assert recover == RecoverAdvice(spread_ms=4, base_ms=1, cap_ms=8)
