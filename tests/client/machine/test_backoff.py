"""Backoff, jitter and the way through several URLs."""

from __future__ import annotations

from random import Random

import pytest

from softstate.client.machine.backoff import (
    BACKOFF_BASE_S_MIN,
    BACKOFF_CAP_S_MIN,
    BARRED_CAPS,
    DOUBLINGS_MAX,
    POLL_S_MIN,
    RETRY_S_MAX,
    Advice,
    Rotation,
    asked_s,
    jittered_s,
)
from softstate.wire.messages import PollAdvice, RecoverAdvice

ADVICE = Advice(base_s=1.0, cap_s=8.0)


class _Highest(Random):
    """Draws the upper bound every time."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize(("tries", "bound_s"), [(0, 1.0), (1, 2.0), (3, 8.0), (4, 8.0), (DOUBLINGS_MAX + 5_000, 8.0)])
def test_backoff_has_full_jitter_under_a_doubling_bound_up_to_the_cap(tries: int, bound_s: float) -> None:
    assert ADVICE.backoff_s(_Highest(), tries) == bound_s
    drawn = [ADVICE.backoff_s(Random(seed), tries) for seed in range(200)]
    assert min(drawn) < 0.1 * bound_s
    assert max(drawn) <= bound_s


def test_a_backoff_covers_the_spread() -> None:
    assert [ADVICE.pause_s(_Highest(), tries, 3.0) for tries in range(5)] == [3.0, 3.0, 4.0, 8.0, 8.0]
    assert ADVICE.pause_s(_Highest(), 9, 20.0) == 20.0
    drawn = [ADVICE.pause_s(Random(seed), 0, 20.0) for seed in range(200)]
    assert min(drawn) < 2.0
    rotation = Rotation(["a"], _Highest())
    assert rotation.failed(rotation.url, 0.0, ADVICE, 5.0, 20.0) == 25.0, "and comes behind what the node asked for"
    assert rotation.failed(rotation.url, 0.0, ADVICE, 60.0, 0.0) == 62.0


def test_advice_is_taken_over_in_seconds() -> None:
    advice = Advice.of(PollAdvice(15_000, 2_000), RecoverAdvice(3_000, 500, 30_000))
    assert advice == Advice(15.0, 2.0, 3.0, 0.5, 30.0)


def test_no_advice_makes_a_client_hammer_its_nodes() -> None:
    """Found by fuzzing: with advice near nothing an offline client made two hundred attempts a second."""
    advice = Advice.of(PollAdvice(0, 0), RecoverAdvice(0, 0, 0))
    assert (advice.poll_every_s, advice.base_s, advice.cap_s) == (POLL_S_MIN, BACKOFF_BASE_S_MIN, BACKOFF_CAP_S_MIN)
    assert (advice.poll_spread_s, advice.recover_spread_s) == (0.0, 0.0)


def test_a_regular_timer_varies_by_a_fifth() -> None:
    drawn = [jittered_s(Random(seed), 10.0) for seed in range(500)]
    assert 8.0 <= min(drawn) < 8.2
    assert 11.8 < max(drawn) <= 12.0


def test_the_next_url_is_tried_at_once_until_all_failed_in_this_round() -> None:
    rotation = Rotation(["a", "b", "c"], _Highest())
    assert rotation.failed(rotation.url, 0.0, ADVICE) == 0.0
    assert rotation.url == "b"
    assert rotation.failed(rotation.url, 0.0, ADVICE) == 0.0
    assert rotation.failed(rotation.url, 0.0, ADVICE) == 1.0, "the round is over: back off"
    assert rotation.url == "a"
    assert [rotation.failed(rotation.url, 9.0, ADVICE) for _ in range(3)][-1] == 11.0, (
        "and longer after the second round"
    )


def test_a_success_keeps_the_url_and_begins_a_new_round() -> None:
    rotation = Rotation(["a", "b"], _Highest())
    rotation.failed(rotation.url, 0.0, ADVICE)
    rotation.succeeded()
    assert rotation.url == "b"
    assert rotation.failed(rotation.url, 0.0, ADVICE) == 0.0
    assert rotation.failed(rotation.url, 0.0, ADVICE) == 1.0


@pytest.mark.parametrize(("retry_ms", "wait_s"), [(None, 0.0), (0, 0.0), (1_500, 1.5), (86_400_000, RETRY_S_MAX)])
def test_an_answer_asks_for_an_hour_at_most(retry_ms: int | None, wait_s: float) -> None:
    assert asked_s(retry_ms) == wait_s


def test_retry_after_is_never_cut_short() -> None:
    assert Rotation(["a"], Random(3)).failed("a", 0.0, ADVICE, 60.0) >= 60.0
    rotation = Rotation(["a", "b"], Random(3))
    assert rotation.failed("a", 0.0, ADVICE, 60.0) == 0.0, "another node did not ask for it"
    assert 0.0 < rotation.failed("b", 0.0, ADVICE) <= 1.0, "and need not wait for the first"
    assert rotation.round_over
    assert rotation.choose(1.0) == 1.0
    assert rotation.url == "b"
    rotation.failed("b", 1.0, ADVICE, 5.0)
    assert 6.0 <= rotation.choose(1.0) <= 8.0, "the first that may be tried"
    assert rotation.choose(70.0) == 70.0


def test_a_failure_of_a_url_that_was_passed_over_moves_nothing_but_its_own_time() -> None:
    rotation = Rotation(["a", "b"], Random(3))
    rotation.pass_over()
    assert rotation.failed("a", 0.0, ADVICE, 60.0) == 0.0
    assert rotation.url == "b"
    assert rotation.bar("a", 0.0, ADVICE) == 0.0
    assert rotation.url == "b"


def test_a_barred_url_is_passed_over() -> None:
    rotation = Rotation(["a", "b", "c"], _Highest())
    assert rotation.bar(rotation.url, 5.0, ADVICE) == 5.0
    assert rotation.url == "b"
    assert rotation.failed(rotation.url, 5.0, ADVICE) == 5.0
    assert rotation.url == "c"
    assert rotation.failed(rotation.url, 5.0, ADVICE) == 6.0, "two of two have failed"
    assert rotation.url == "b"


def test_when_all_are_barred_all_are_asked_again_much_later() -> None:
    rotation = Rotation(["a", "b"], _Highest())
    rotation.bar(rotation.url, 0.0, ADVICE)
    assert rotation.bar(rotation.url, 0.0, ADVICE) == BARRED_CAPS * 8.0 * 1.2
    rotation.bar(rotation.url, 0.0, ADVICE)
    assert rotation.url == "a"
