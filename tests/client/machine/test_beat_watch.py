"""A beat in the client's own time, and the meaning of silence (P-BEAT-6, P-BEAT-7)."""

from __future__ import annotations

import math
from random import Random

import pytest

from softstate.client.machine import beat_watch
from softstate.client.machine.beat_watch import HELD_UP_S, PATIENCE_S_MIN, RATE, BeatWatch


def test_without_an_anchor_a_beat_tells_no_time() -> None:
    watch = BeatWatch(every_s=1.0)
    assert watch.asof(1_000, 5.0) is None
    watch.answered(1.0, 2.0, None)
    assert watch.asof(1_000, 5.0) is None


def test_a_beat_counts_from_its_anchor_with_both_clocks_wrong_by_one_percent() -> None:
    watch = BeatWatch(every_s=1.0)
    watch.answered(100.0, 101.0, 50_000)
    assert watch.asof(60_000, 120.0) == pytest.approx(100.0 + RATE * 10.0)


def test_a_level_of_before_the_anchor_counts_in_full() -> None:
    watch = BeatWatch(every_s=1.0)
    watch.answered(100.0, 101.0, 50_000)
    assert watch.asof(40_000, 120.0) == pytest.approx(90.0)


@pytest.mark.parametrize("late_first", [True, False])
def test_the_anchor_that_makes_beats_younger_is_kept(late_first: bool) -> None:
    """An answer whose request waited 3 s in the network would age everything by that."""
    watch = BeatWatch(every_s=1.0)
    answers = [(100.0, 53_000), (104.0, 54_000)]
    for sent, clock_ms in answers if late_first else reversed(answers):
        watch.answered(sent, sent + 4.0, clock_ms)
    assert watch.asof(60_000, 120.0) == pytest.approx(104.0 + RATE * 6.0)


def test_a_beat_from_the_future_proves_a_broken_clock() -> None:
    watch = BeatWatch(every_s=1.0)
    watch.answered(100.0, 101.0, 50_000)
    assert watch.asof(60_000, 105.0) is None
    assert watch.asof(50_000, 105.0) is None, "the anchor is gone"
    watch.answered(105.0, 106.0, 60_000)
    assert watch.asof(60_000, 106.0) == 105.0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rates", [(0.99, 1.01), (1.01, 0.99), (1.0, 1.0), (0.99, 0.99), (1.01, 1.01)])
def test_no_beat_is_taken_for_younger_than_it_is(seed: int, rates: tuple[float, float]) -> None:
    """S5, for a client whose clock, and a node whose clock, run at these rates; ages are divided by 0.99 at the end."""
    random, (mine, theirs) = Random(seed), rates
    watch = BeatWatch(every_s=1.0)
    true_s = 1_000.0
    for _ in range(200):
        sent_true = true_s
        true_s += random.uniform(0, 3) ** 2
        answered_true = true_s
        true_s += random.uniform(0, 3)
        watch.answered(sent_true * mine, true_s * mine, math.ceil(answered_true * theirs * 1000))
        for _ in range(3):
            level_true = true_s - random.uniform(0, 10)
            true_s += random.uniform(0, 20)
            asof = watch.asof(math.floor(level_true * theirs * 1000), true_s * mine)
            assert asof is not None
            age_s = (true_s * mine - asof) / 0.99
            assert age_s >= true_s - level_true - 1e-6


# Silence -------------------------------------------------------------------------------------------------------------


def watching(every_ms: int = 1_000, round_trip_s: float = 0.01) -> BeatWatch:
    watch = BeatWatch(timeout_s=5.0)
    watch.grant(every_ms, 20.0, 0.0)
    watch.answered(100.0 - round_trip_s, 100.0, 0)
    watch.heard(100.0)
    return watch


def test_where_no_beats_are_due_silence_means_nothing() -> None:
    watch = watching(0)
    assert (watch.ask_at, watch.silent_at) == (math.inf, math.inf)


def test_the_node_is_asked_before_the_silence_counts() -> None:
    watch = watching()
    assert watch.silent_at == pytest.approx(100.0 + 1.2 + PATIENCE_S_MIN)
    asked = set()
    for jitter in (0.0, 0.5, 1.0):
        watch.beaten(1_000, jitter)
        asked.add(round(watch.ask_at, 6))
    assert asked == {101.2, 101.45, 101.7}


def test_any_sign_of_life_begins_it_again() -> None:
    watch = watching()
    watch.heard(107.0)
    assert watch.silent_at == pytest.approx(109.2)


@pytest.mark.parametrize(("round_trip_s", "patience_s"), [(0.01, 1.0), (0.25, 1.0), (0.5, 2.0), (3.0, 5.0)])
def test_a_long_way_is_waited_for_longer(round_trip_s: float, patience_s: float) -> None:
    watch = watching(round_trip_s=round_trip_s)
    assert watch.silent_at == pytest.approx(101.2 + patience_s)


def test_one_long_round_trip_is_forgotten_little_by_little() -> None:
    watch = watching(round_trip_s=1.0)
    for answer in range(12):
        watch.answered(100.0 + answer, 100.01 + answer, 0)
    assert watch.silent_at == pytest.approx(102.2)


def test_it_is_asked_once_and_told_once() -> None:
    watch = watching()
    watch.asked()
    assert watch.ask_at == math.inf
    watch.told()
    assert watch.silent_at == math.inf
    watch.heard(110.0)
    assert watch.ask_at < math.inf
    assert watch.silent_at < math.inf


def test_asking_does_not_put_off_what_the_silence_means() -> None:
    watch = watching()
    before = watch.silent_at
    watch.asked()
    assert watch.silent_at == before


def test_a_client_that_was_held_up_itself_reads_first_and_only_once() -> None:
    watch = watching()
    due = watch.silent_at
    assert not watch.excuses(due + HELD_UP_S - 0.01)
    assert watch.excuses(due + 3.0)
    assert watch.silent_at == pytest.approx(due + 3.0 + HELD_UP_S)
    assert not watch.excuses(watch.silent_at + 5.0)
    watch.heard(200.0)
    assert watch.excuses(watch.silent_at + 1.0)


def test_a_node_that_answers_and_does_not_beat_is_asked_at_a_falling_rate() -> None:
    watch = watching()
    lulls = []
    for _ in range(8):
        watch.asked()
        watch.heard(200.0)
        lulls.append(watch.silent_at - 200.0 - PATIENCE_S_MIN)
    assert lulls == pytest.approx([2.4, 4.8, 9.6, 19.2, 20.0, 20.0, 20.0, 20.0])
    watch.beaten(1_000, 0.0)
    assert watch.silent_at == pytest.approx(202.2)


def test_beats_rarer_than_renewals_are_waited_for_in_full() -> None:
    watch = watching(64_000)
    assert watch.silent_at == pytest.approx(100.0 + 1.2 * 64.0 + PATIENCE_S_MIN)


# Mutants -------------------------------------------------------------------------------------------------------------


def test_clocks_that_are_taken_for_right_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat_watch, "RATE", 1.0)
    with pytest.raises(AssertionError):
        for seed in range(20):
            test_no_beat_is_taken_for_younger_than_it_is(seed, (0.99, 1.01))


def test_a_level_of_before_the_anchor_that_counts_in_part_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def asof(self: BeatWatch, clock_ms: int, _now: float) -> float | None:
        return None if self._clock_s is None else self._sent + RATE * (clock_ms / 1000 - self._clock_s)

    monkeypatch.setattr(BeatWatch, "asof", asof)
    with pytest.raises(AssertionError):
        test_a_level_of_before_the_anchor_counts_in_full()


def test_a_beat_of_a_node_that_granted_none_is_not_watched_for() -> None:
    watch = BeatWatch()
    watch.grant(0, 20.0, 1.0)
    watch.heard(5.0)
    watch.beaten(1_000, 0.5)
    assert (watch.ask_at, watch.silent_at) == (math.inf, math.inf)
