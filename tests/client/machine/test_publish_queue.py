"""The publish queue: order, pipelining, repetition with the same key, and the end of a key's life."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from softstate.client.machine.backoff import Advice
from softstate.client.machine.events import PublishRequested, Settled
from softstate.client.machine.numbering import Numbering
from softstate.client.machine.publish_queue import BATCH_MAX, HTTP, KEY_MARGIN, PublishQueue, error_of
from softstate.errors import Conflict, Denied, Invalid, OutcomeUnknown, Overloaded, RequestError, TooLarge, Unavailable
from softstate.wire.messages import UNTRIED, BatchResult, Published
from tests.kit.machine_rig import at

ADVICE = Advice()
CONN = 7


def _queue(*topics: str, waiting_max: int = 1_000, inflight_max: int = 128) -> PublishQueue:
    queue = PublishQueue(Random(1), waiting_max, inflight_max)
    for ticket, topic in enumerate(topics, start=1):
        assert queue.ask(_asked(ticket, topic)) == []
    return queue


def _asked(ticket: int, topic: str = "a") -> PublishRequested:
    return PublishRequested(ticket, topic, ticket, deleted=False, expect=None, key=f"key-{ticket}")


def _numbered(ticket: int, topic: str) -> PublishRequested:
    return PublishRequested(ticket, topic, ticket, deleted=False, expect=None, key=None)


def _numbers(queue: PublishQueue, now: float = 0.0) -> list[tuple[object, int, int]]:
    """Send what may be sent on the connection; return ticket, number and settled of each."""
    return [(publish.id, publish.seq, publish.settled) for publish in queue.over_connection(CONN, now)]


def _done(ticket: int, topic: str = "a") -> Published:
    return Published(ticket, topic, 5, at(5))


def _sent(queue: PublishQueue, now: float = 0.0) -> list[object]:
    return [publish.id for publish in queue.over_connection(CONN, now)]


def test_publishes_of_one_topic_go_one_at_a_time_in_order() -> None:
    queue = _queue("a", "a", "b")
    assert _sent(queue) == [1, 3]
    assert _sent(queue) == []
    assert queue.published(_done(1)) == [Settled(1, _done(1))]
    assert _sent(queue) == [2]


def test_a_publish_carries_its_key_and_a_deletion_no_value() -> None:
    queue = _queue("a")
    queue.ask(PublishRequested(2, "b", None, deleted=True, expect=4, key="k"))
    first, second = queue.over_connection(CONN, 0.0)
    assert (first.topic, first.value, first.deleted, first.expect, first.key) == ("a", 1, False, None, "key-1")
    assert (second.deleted, second.expect, second.key) == (True, 4, "k")
    assert second.value is not None


def test_at_the_waiting_limit_a_publish_is_refused_at_once() -> None:
    queue = _queue("a", "b", waiting_max=2)
    (settled,) = queue.ask(_asked(3))
    assert isinstance(settled.outcome, Overloaded)
    queue.drop(1)
    assert queue.ask(_asked(4)) == []
    assert len(queue) == 2


def test_at_the_inflight_limit_the_rest_waits() -> None:
    queue = _queue("a", "b", "c", inflight_max=2)
    assert _sent(queue) == [1, 2]
    queue.published(_done(2, "b"))
    assert _sent(queue) == [3]


def test_what_a_lost_connection_owes_is_sent_again_in_order_with_the_same_key() -> None:
    queue = _queue("a", "b", "a", "c")
    first = queue.over_connection(CONN, 0.0)
    queue.published(_done(2, "b"))
    queue.lost(CONN + 1)
    assert _sent(queue) == []
    queue.lost(CONN)
    again = queue.over_connection(CONN + 1, 1.0)
    assert [publish.id for publish in again] == [1, 4]
    assert [publish.key for publish in again] == [first[0].key, first[2].key]
    assert queue.repeats == 2


def test_unavailable_is_sent_again_after_retry_ms() -> None:
    queue = _queue("a")
    _sent(queue)
    assert queue.refused(1, Unavailable("down", retry_ms=3_000), 10.0, ADVICE) == []
    assert not queue.ready
    assert queue.due() >= 13.0 or queue.due() == KEY_MARGIN * queue.key_s
    due = queue.due()
    queue.tick(due)
    assert _sent(queue, due) == [1]


def test_a_retry_holds_back_later_publishes_of_its_topic_only() -> None:
    queue = _queue("a", "a", "b")
    _sent(queue)
    queue.refused(1, Overloaded("busy", retry_ms=1_000), 0.0, ADVICE)
    queue.published(_done(3, "b"))
    assert _sent(queue) == []
    queue.tick(math.nextafter(31.0, 32.0))
    assert _sent(queue, 31.0) == [1]


def test_other_errors_settle() -> None:
    queue = _queue("a", "a")
    _sent(queue)
    error = Conflict("lost", current=9)
    assert queue.refused(1, error, 0.0, ADVICE) == [Settled(1, error)]
    assert queue.refused(1, error, 0.0, ADVICE) == []
    assert _sent(queue) == [2]


def test_errors_are_built_from_their_codes() -> None:
    error = error_of("conflict", "lost", 5, 9, at(3))
    assert isinstance(error, Conflict)
    assert (error.current, error.retry_ms, error.position) == (9, 5, at(3))
    strange = error_of("teapot", "short and stout", None, None, None)
    assert type(strange) is RequestError
    assert "teapot" in strange.message


def test_a_fate_unknown_beyond_the_keys_life_is_reported() -> None:
    queue = _queue("a", "a")
    queue.key_s = 100.0
    _sent(queue, 5.0)
    queue.lost(CONN)
    assert queue.due() == 95.0
    assert queue.tick(94.9) == []
    (settled,) = queue.tick(95.0)
    assert isinstance(settled.outcome, OutcomeUnknown)
    assert settled.ticket == 1
    assert queue.due() == math.inf, "the second was never sent: it has no deadline"
    assert _sent(queue, 95.0) == [2]


def test_overloaded_is_a_known_fate() -> None:
    queue = _queue("a")
    _sent(queue)
    queue.refused(1, Overloaded("busy", retry_ms=0), 0.0, ADVICE)
    assert queue.due() <= ADVICE.base_s
    assert queue.tick(10_000.0) == []
    assert _sent(queue, 10_000.0) == [1]


def test_overloaded_after_an_unknown_attempt_leaves_the_fate_unknown() -> None:
    queue = _queue("a")
    _sent(queue)
    queue.lost(CONN)
    _sent(queue, 1.0)
    queue.refused(1, Overloaded("busy"), 2.0, ADVICE)
    (settled,) = queue.tick(queue.key_s)
    assert isinstance(settled.outcome, OutcomeUnknown)


def test_a_dropped_publish_is_forgotten_and_holds_its_topic_back_only_while_in_flight() -> None:
    queue = _queue("a", "a", "a")
    queue.drop(99)
    queue.drop(2)
    assert _sent(queue) == [1]
    queue.drop(1)
    assert _sent(queue) == []
    assert queue.published(_done(1)) == []
    assert _sent(queue) == [3]
    queue.drop(3)
    queue.lost(CONN)
    assert len(queue) == 0


def test_a_dropped_head_lets_the_next_go() -> None:
    queue = _queue("a", "a")
    queue.drop(1)
    assert _sent(queue) == [2]


def test_a_publish_dropped_while_it_waits_for_a_retry_is_not_sent() -> None:
    queue = _queue("a")
    _sent(queue)
    queue.refused(1, Overloaded("busy"), 0.0, ADVICE)
    queue.drop(1)
    queue.tick(1_000.0)
    assert _sent(queue, 1_000.0) == []


def test_answers_about_nothing_in_flight_are_ignored() -> None:
    queue = _queue("a")
    assert queue.published(_done(1)) == []
    assert queue.published(_done(9)) == []
    assert queue.published(Published("text", "a", 1, at(1))) == []


def test_the_oldest_unanswered_publish_of_a_connection_is_known() -> None:
    queue = _queue("a", "b")
    assert queue.sent_since(CONN) == math.inf
    queue.over_connection(CONN, 3.0)
    assert queue.sent_since(CONN) == 3.0
    assert queue.sent_since(CONN + 1) == math.inf


def test_settling_all_leaves_nothing() -> None:
    queue = _queue("a", "a", "b")
    _sent(queue)
    queue.drop(1)
    error = Invalid("end")
    first, second = queue.settle_all(error)
    assert first == Settled(2, error), "it was never sent"
    assert second.ticket == 3
    assert isinstance(second.outcome, OutcomeUnknown), "it was in flight"
    assert (len(queue), queue.ready, queue.due()) == (0, False, math.inf)


def test_an_http_batch_holds_at_most_the_limit() -> None:
    queue = _queue(*(f"t{n}" for n in range(BATCH_MAX + 1)))
    tickets, batch = queue.over_http(0.0)
    changes = batch.changes
    assert len(tickets) == len(changes) == BATCH_MAX
    assert changes[0].key == "key-1"


def test_an_http_batch_settles_each_with_its_own_verdict() -> None:
    queue = _queue("a", "b", "c", "d")
    tickets, _ = queue.over_http(0.0)
    results = [
        BatchResult("a", 5, at(5), repeated=True),
        BatchResult(code="conflict", message="lost", current=3),
        BatchResult(code="unavailable", retry_ms=1_000),
        BatchResult("d", 6),
    ]
    first, second = queue.batch_answered(tickets, results, 0.0, ADVICE)
    assert first == Settled(1, Published(1, "a", 5, at(5), repeated=True))
    assert isinstance(second.outcome, Conflict)
    assert queue.over_http(0.0)[0] == [], "a success without a position is none; the third and it wait"
    assert queue.tick(31.0) == []
    assert queue.over_http(31.0)[0] == [3, 4]


def test_a_batch_refused_as_a_whole_is_taken_apart_until_the_culprit_is_alone() -> None:
    queue = _queue("a", "b", "c")
    tickets, _ = queue.over_http(0.0)
    assert queue.batch_refused(tickets, TooLarge("body")) == []
    tickets, _ = queue.over_http(0.0)
    assert tickets == [1]
    error = TooLarge("body")
    assert queue.batch_refused(tickets, error) == [Settled(1, error)]
    tickets, _ = queue.over_http(0.0)
    queue.batch_answered(tickets, [BatchResult("b", 5, at(5))], 0.0, ADVICE)
    assert queue._batch_max == 2


def test_a_batch_that_was_refused_unseen_is_certain_not_to_be_applied() -> None:
    queue = _queue("a", "b")
    tickets, _ = queue.over_http(0.0)
    queue.batch_refused(tickets, TooLarge("body"))
    tickets, _ = queue.over_http(0.0)
    error = Denied("not by this name")
    assert queue.batch_refused(tickets, error) == [Settled(1, error)]


def test_a_child_of_fork_has_a_publisher_of_its_own_and_leaves_the_rest_to_its_parent() -> None:
    queue = _queue()
    for ticket, topic in enumerate("aab", start=1):
        queue.ask(_numbered(ticket, topic))
    (mine, _) = queue.over_connection(CONN, 0.0)
    left = queue.forked()
    assert [settled.ticket for settled in left] == [1, 2, 3]
    assert all(isinstance(settled.outcome, OutcomeUnknown) for settled in left)
    assert queue.published(_done(1)) == [], "an answer to the parent"
    queue.ask(_numbered(4, "a"))
    (own,) = queue.over_connection(CONN, 1.0)
    assert own.publisher != mine.publisher
    assert (own.seq, own.settled) == (1, 0)


def test_a_batch_refused_after_its_key_died_is_no_news() -> None:
    queue = _queue("a")
    tickets, _ = queue.over_http(0.0)
    queue.tick(queue.key_s)
    assert queue.batch_refused(tickets, TooLarge("body")) == []
    queue.lost(HTTP)


# Certain not to be applied -------------------------------------------------------------------------------------------


def test_a_publish_that_was_refused_untried_is_certain_not_to_be_applied() -> None:
    queue = _queue("a")
    assert queue.refusal(1) is None
    for error in (Overloaded("busy"), Unavailable("down", why=UNTRIED)):
        _sent(queue, 100.0)
        assert queue.refusal(1) is None, "in flight it may be applied"
        queue.refused(1, error, 100.0, ADVICE)
        assert queue.refusal(1) is error
        queue.tick(200.0)
    _sent(queue, 200.0)
    queue.refused(1, Unavailable("down"), 200.0, ADVICE)
    assert queue.refusal(1) is None
    queue.tick(300.0)
    _sent(queue, 300.0)
    queue.refused(1, Overloaded("busy"), 300.0, ADVICE)
    assert queue.refusal(1) is None, "an earlier attempt may have been applied"
    assert queue.refusal(99) is None


def test_a_request_that_reached_no_node_leaves_its_publishes_as_they_were() -> None:
    queue = _queue("a", "b")
    queue.over_http(0.0)
    queue.refused(1, Overloaded("busy"), 0.0, ADVICE)
    queue.returned(HTTP)
    assert queue.refusal(2) is None
    queue.tick(100.0)
    queue.over_http(100.0)
    refusal = Overloaded("too many connections")
    queue.returned(HTTP, refusal)
    assert (queue.refusal(1), queue.refusal(2)) == (refusal, refusal)
    queue.key_s = 1.0
    assert queue.tick(1_000.0) == [], "the fate of neither is unknown"
    queue.over_http(1_000.0)
    queue.lost(HTTP)
    queue.returned(HTTP, refusal)
    assert (queue.refusal(1), queue.refusal(2)) == (None, None)


# Numbers -------------------------------------------------------------------------------------------------------------


def test_numbers_are_given_when_a_publish_is_first_sent_and_kept_when_it_is_sent_again() -> None:
    queue = _queue()
    for ticket, topic in enumerate("aab", start=1):
        queue.ask(_numbered(ticket, topic))
    assert _numbers(queue) == [(1, 1, 0), (3, 2, 0)]
    queue.published(_done(3, "b"))
    queue.lost(CONN)
    assert _numbers(queue) == [(1, 1, 0)], "sent again with its number; 2 is not settled before 1 is"
    queue.published(_done(1))
    assert _numbers(queue) == [(2, 3, 2)]


def test_what_is_settled_never_covers_an_open_number() -> None:
    random = Random(3)
    queue = _queue(inflight_max=16)
    settled_at_client: set[int] = set()
    number_of: dict[object, int] = {}
    for ticket in range(1, 400):
        queue.ask(_numbered(ticket, f"t{random.randrange(9)}"))
        for publish in queue.over_connection(CONN, float(ticket)):
            number_of[publish.id] = publish.seq
            assert publish.settled < publish.seq
            assert set(range(1, publish.settled + 1)) <= settled_at_client
        open_tickets = [one for one in number_of if number_of[one] not in settled_at_client]
        for one in random.sample(open_tickets, min(len(open_tickets), random.randrange(3))):
            assert isinstance(one, int)
            outcome = random.choice(["published", "conflict", "overloaded", "dropped"])
            if outcome == "published":
                settled = queue.published(_done(one))
            elif outcome == "conflict":
                settled = queue.refused(one, Conflict("lost"), float(ticket), ADVICE)
            else:
                if outcome == "dropped":
                    queue.drop(one)
                    settled_at_client.add(number_of[one])  # nothing is told; given up once it is answered
                settled = queue.refused(one, Overloaded("later"), float(ticket), ADVICE)
            settled_at_client |= {number_of[action.ticket] for action in settled}
        if random.random() < 0.1:
            queue.lost(CONN)
        queue.tick(float(ticket))


@pytest.mark.parametrize(
    "settled",
    [
        pytest.param(lambda self: self.last - 1, id="all but the last"),
        pytest.param(lambda self: next(reversed(self._open), self.last + 1) - 1, id="all below the newest"),
    ],
)
def test_a_client_that_settles_too_early_is_caught(
    settled: Callable[[Numbering], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Numbering, "settled", property(settled))
    with pytest.raises(AssertionError):
        test_what_is_settled_never_covers_an_open_number()


def test_no_number_is_used_too_far_beyond_what_is_settled() -> None:
    queue = _queue()
    queue.numbers_max = 3
    for ticket, topic in enumerate("abcde", start=1):
        queue.ask(_numbered(ticket, topic))
    assert [seq for _, seq, _ in _numbers(queue)] == [1, 2, 3]
    queue.published(_done(2, "b"))
    assert _numbers(queue) == [], "1 is open, and 4 would be the fourth beyond 0"
    queue.lost(CONN)
    assert [seq for _, seq, _ in _numbers(queue)] == [1, 3], "what is sent again does not wait behind what is new"
    queue.published(_done(1, "a"))
    assert _numbers(queue) == [(4, 4, 2), (5, 5, 2)]


def test_a_batch_has_consecutive_numbers_or_keys() -> None:
    queue = _queue()
    for ticket, topic in enumerate("abcd", start=1):
        queue.ask(_numbered(ticket, topic))
    tickets, batch = queue.over_http(0.0)
    assert (tickets, batch.seq, batch.settled, len(batch.publisher or "")) == ([1, 2, 3, 4], 1, 0, 32)
    results = [
        BatchResult("a", 0, None, code="overloaded", message="later"),
        BatchResult("b", 6, at(6)),
        BatchResult("c", 0, None, code="overloaded", message="later"),
        BatchResult("d", 0, None, code="overloaded", message="later"),
    ]
    queue.batch_answered(tickets, results, 0.0, ADVICE)
    queue.ask(_asked(5, "e"))
    queue.ask(_numbered(6, "f"))
    queue.tick(1_000.0)
    first, second, third, fourth = (queue.over_http(1_000.0) for _ in range(4))
    assert (first[0], first[1].seq) == ([1], 1)
    assert (second[0], second[1].seq) == ([3, 4], 3)
    assert (third[0], third[1].publisher, third[1].changes[0].key) == ([5], None, "key-5")
    assert (fourth[0], fourth[1].seq) == ([6], 5)


def test_after_a_long_silence_a_client_takes_a_new_id() -> None:
    queue = _queue()
    queue.key_s = 100.0
    queue.ask(_numbered(1, "a"))
    (first,) = queue.over_connection(CONN, 0.0)
    queue.published(_done(1))
    queue.ask(_numbered(2, "a"))
    (second,) = queue.over_connection(CONN, KEY_MARGIN * 100.0 - 1.0)
    assert (second.publisher, second.seq) == (first.publisher, 2)
    queue.published(_done(2))
    queue.ask(_numbered(3, "a"))
    (third,) = queue.over_connection(CONN, 2 * KEY_MARGIN * 100.0)
    assert third.publisher != first.publisher
    assert (third.seq, third.settled) == (1, 0)


def test_a_number_whose_outcome_stays_unknown_is_given_up_and_settled() -> None:
    queue = _queue()
    queue.key_s = 100.0
    queue.ask(_numbered(1, "a"))
    assert _numbers(queue) == [(1, 1, 0)]
    queue.lost(CONN)
    (settled,) = queue.tick(KEY_MARGIN * 100.0)
    assert isinstance(settled.outcome, OutcomeUnknown)
    queue.ask(_numbered(2, "a"))
    (publish,) = queue.over_connection(CONN, KEY_MARGIN * 100.0)
    assert (publish.seq, publish.settled) == (1, 0), "and a silent publisher may be forgotten: the id is new"
