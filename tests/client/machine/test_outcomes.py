"""The outcomes of publishes when the client ends, or a node refuses: never a refusal of what may have been applied."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from softstate.client.machine.backoff import Advice
from softstate.client.machine.events import (
    Closed,
    ConnectFailed,
    Lost,
    PublishRequested,
    RequestFailed,
    SendPublish,
    Settled,
    Stopped,
)
from softstate.client.machine.portions import Portions
from softstate.client.machine.publish_queue import HTTP, PublishQueue, error_of
from softstate.errors import (
    ClientClosed,
    Conflict,
    Denied,
    Invalid,
    KeyReused,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RequestError,
    SoftstateError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from softstate.wire.messages import UNTRIED, BatchResult, Error, Publish, Revoked
from tests.kit.machine_rig import Rig

End = Callable[[Rig], None]

ADVICE = Advice()
CONN = 7


def _asked(ticket: int, topic: str = "a") -> PublishRequested:
    return PublishRequested(ticket, topic, ticket, deleted=False, expect=None, key=None)


def _close(code: int) -> End:
    def closed(rig: Rig) -> None:
        rig.do(Lost(rig.conn, code, "no"))

    return closed


def _revoked(rig: Rig) -> None:
    rig.arrive(Revoked("denied"))


def _error(code: str) -> End:
    def answered(rig: Rig) -> None:
        rig.arrive(Error(code, "no"))

    return answered


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (_close(4100), Unauthenticated),
        (_close(4101), Unauthenticated),
        (_close(4200), Unsupported),
        (_revoked, Denied),
        (_error("unauthenticated"), Unauthenticated),
        (_error("denied"), Denied),
    ],
    ids=["close 4100", "close 4101", "close 4200", "revoked", "unauthenticated", "denied"],
)
def test_what_was_in_flight_when_the_client_stops_has_an_unknown_outcome(end: End, kind: type[SoftstateError]) -> None:
    rig = Rig("a").live()
    rig.do(_asked(1), _asked(2), _asked(3, "b"))
    end(rig)
    assert rig.mode == "stopped"
    (stopped,) = rig.recent(Stopped)
    assert isinstance(stopped.error, kind)
    first, second, third = rig.recent(Settled)
    for in_flight in (first, third):
        assert isinstance(in_flight.outcome, OutcomeUnknown)
        assert str(stopped.error) in str(in_flight.outcome)
    assert second == Settled(2, stopped.error), "it was never sent"
    assert isinstance(rig.last[-1], Stopped), "the application learns the outcomes first"
    assert rig.advance(1_000.0) == []


@pytest.mark.parametrize("lost_before", [False, True])
def test_a_node_that_wants_other_credentials_has_not_applied_the_publish_that_it_refuses(lost_before: bool) -> None:
    rig = Rig(push=False).open()
    rig.do(_asked(1))
    if lost_before:
        rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "broken off"))
        while not rig.machine.describe().publishing:
            rig.tick_once()
    error = Unauthenticated("expired")
    rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "expired", error))
    assert rig.mode == "stopped"
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, OutcomeUnknown) if lost_before else settled.outcome is error


def test_what_is_in_flight_over_http_when_the_handshake_is_refused_has_an_unknown_outcome() -> None:
    rig = Rig("a").open()
    rig.do(_asked(1))
    while not rig.machine.describe().publishing:
        rig.tick_once()
    rig.do(ConnectFailed(rig.conn, "no", 401))
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, OutcomeUnknown)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("denied", Denied),
        ("unauthenticated", Unauthenticated),
        ("too_large", TooLarge),
        ("invalid", Invalid),
        ("unsupported", Unsupported),
        ("conflict", Conflict),
    ],
)
@pytest.mark.parametrize("lost_before", [False, True])
def test_a_refusal_on_a_connection_counts_unless_an_earlier_attempt_may_have_been_applied(
    code: str, kind: type[SoftstateError], lost_before: bool
) -> None:
    rig = Rig("a").live()
    rig.do(_asked(1))
    if lost_before:
        rig.do(Lost(rig.conn, None, "cut"))
        rig.greeted()
        rig.arrive(rig.welcome())
    assert rig.sent(Publish)[-1].id == 1
    rig.arrive(Error(code, "no", id=1))
    (settled,) = rig.recent(Settled)
    unknown = lost_before and code != "conflict"
    assert type(settled.outcome) is (OutcomeUnknown if unknown else kind)
    assert rig.mode != "stopped", "it is about this publish"


@pytest.mark.parametrize("sent", [False, True])
def test_closing_tells_what_may_have_been_applied(sent: bool) -> None:
    rig = Rig("a").live() if sent else Rig("a").open()
    rig.do(_asked(1), Closed())
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, ClientClosed)
    assert ("may have been applied" if sent else "was not applied") in str(settled.outcome)


# The queue, attempt by attempt ----------------------------------------------------------------------------------------

UNSEEN = [
    Denied("no"),
    Unauthenticated("no"),
    TooLarge("no"),
    Invalid("no"),
    Unsupported("no"),
    NotFound("no"),
    error_of("teapot", "no", None, None, None),
]
"""Refusals that a node gives without a look at what earlier attempts have done."""

LOOKED = [Conflict("lost", current=9), KeyReused("another request")]

Attempt = Callable[[PublishQueue], None]


def _queue_of(*topics: str) -> PublishQueue:
    queue = PublishQueue(Random(1), 1_000, 128)
    for ticket, topic in enumerate(topics, start=1):
        queue.ask(_asked(ticket, topic))
    return queue


def _sent(queue: PublishQueue, now: float = 0.0) -> list[object]:
    return [publish.id for publish in queue.over_connection(CONN, now)]


def _lost(queue: PublishQueue) -> None:
    queue.over_connection(CONN, 0.0)
    queue.lost(CONN)


def _lost_over_http(queue: PublishQueue) -> None:
    queue.over_http(0.0)
    queue.lost(HTTP)


def _unavailable(queue: PublishQueue) -> None:
    queue.over_connection(CONN, 0.0)
    queue.refused(1, Unavailable("down"), 0.0, ADVICE)
    queue.tick(100.0)


def _no_answer_in_a_batch(queue: PublishQueue) -> None:
    tickets, _ = queue.over_http(0.0)
    queue.batch_answered(tickets, [BatchResult("a", 5)], 0.0, ADVICE)
    queue.tick(100.0)


def _lost_then_overloaded(queue: PublishQueue) -> None:
    _lost(queue)
    _overloaded(queue)


def _overloaded(queue: PublishQueue) -> None:
    queue.over_connection(CONN, 0.0)
    queue.refused(1, Overloaded("busy"), 0.0, ADVICE)
    queue.tick(100.0)


def _untried(queue: PublishQueue) -> None:
    queue.over_connection(CONN, 0.0)
    queue.refused(1, Unavailable("down", why=UNTRIED), 0.0, ADVICE)
    queue.tick(100.0)


def _unsent(queue: PublishQueue) -> None:
    queue.over_http(0.0)
    queue.returned(HTTP)


def _turned_away(queue: PublishQueue) -> None:
    queue.over_http(0.0)
    queue.returned(HTTP, Denied("not by this name"))


def _none(queue: PublishQueue) -> None:
    pass


MAYBE_APPLIED: list[Attempt] = [_lost, _lost_over_http, _unavailable, _no_answer_in_a_batch, _lost_then_overloaded]
NOT_APPLIED: list[Attempt] = [_none, _overloaded, _untried, _unsent, _turned_away]


def _refused_on_a_connection(queue: PublishQueue, error: RequestError) -> list[Settled]:
    assert [publish.id for publish in queue.over_connection(CONN + 1, 100.0)] == [1]
    return queue.refused(1, error, 100.0, ADVICE)


def _refused_as_a_request(queue: PublishQueue, error: RequestError) -> list[Settled]:
    tickets, _ = queue.over_http(100.0)
    assert tickets == [1]
    return queue.batch_refused(tickets, error)


def _refused_in_a_batch(queue: PublishQueue, error: RequestError) -> list[Settled]:
    tickets, _ = queue.over_http(100.0)
    code = error.code if type(error) is not RequestError else "teapot"
    result = BatchResult(code=code, message=error.message, current=error.current)
    return queue.batch_answered(tickets, [result], 100.0, ADVICE)


Refuse = Callable[[PublishQueue, RequestError], list[Settled]]

REFUSALS: list[Refuse] = [_refused_on_a_connection, _refused_as_a_request, _refused_in_a_batch]


def _name(given: object) -> str:
    return getattr(given, "__name__", type(given).__name__)


@pytest.mark.parametrize("error", [*UNSEEN, *LOOKED], ids=_name)
@pytest.mark.parametrize("refuse", REFUSALS, ids=_name)
@pytest.mark.parametrize("before", [*MAYBE_APPLIED, *NOT_APPLIED], ids=_name)
def test_a_refusal_counts_unless_an_earlier_attempt_may_have_been_applied(
    before: Attempt, refuse: Refuse, error: RequestError
) -> None:
    queue = _queue_of("a", "a")
    before(queue)
    (settled,) = refuse(queue, error)
    assert settled.ticket == 1
    if before in MAYBE_APPLIED and error in UNSEEN:
        assert isinstance(settled.outcome, OutcomeUnknown)
        assert error.message in str(settled.outcome)
        assert "read the topic" in str(settled.outcome)
    else:
        assert type(settled.outcome) is type(error)
        assert str(settled.outcome) in (str(error), f"teapot: {error}")
    assert _sent(queue, 100.0) == [2], "the next one of its topic goes on"


@pytest.mark.parametrize("before", [*MAYBE_APPLIED, *NOT_APPLIED], ids=_name)
@pytest.mark.parametrize("in_flight", [False, True])
def test_the_end_refuses_what_was_not_applied_and_leaves_the_rest_unknown(before: Attempt, in_flight: bool) -> None:
    queue = _queue_of("a", "a")
    before(queue)
    if in_flight:
        assert _sent(queue, 100.0) == [1]
    error = Unauthenticated("expired")
    first, second = queue.settle_all(error)
    if in_flight or before in MAYBE_APPLIED:
        assert isinstance(first.outcome, OutcomeUnknown)
        assert "expired" in str(first.outcome)
    else:
        assert first.outcome is error
    assert second == Settled(2, error), "it was never sent"


@pytest.mark.parametrize("before", [*MAYBE_APPLIED, *NOT_APPLIED], ids=_name)
@pytest.mark.parametrize("in_flight", [False, True])
def test_closing_says_of_each_publish_whether_it_may_have_been_applied(before: Attempt, in_flight: bool) -> None:
    queue = _queue_of("a")
    before(queue)
    if in_flight:
        assert _sent(queue, 100.0) == [1]
    waiting, sent = ClientClosed("not applied"), ClientClosed("may have been applied")
    (settled,) = queue.settle_all(waiting, sent)
    assert settled.outcome is (sent if in_flight or before in MAYBE_APPLIED else waiting)


@pytest.mark.parametrize("before", [*MAYBE_APPLIED, *NOT_APPLIED], ids=_name)
def test_a_lower_limit_refuses_what_was_not_applied_and_leaves_the_rest_unknown(before: Attempt) -> None:
    queue = PublishQueue(Random(1), 1_000, 128)
    queue.ask(PublishRequested(1, "a", 1, deleted=False, expect=None, key="k", cbor_bytes=100, wire_bytes=100))
    before(queue)
    queue.limit(Portions(value_bytes=99))
    (settled,) = queue.tick(100.0)
    if before in MAYBE_APPLIED:
        assert isinstance(settled.outcome, OutcomeUnknown)
        assert "the limit (value_bytes) is 99" in str(settled.outcome)
    else:
        assert isinstance(settled.outcome, TooLarge)
