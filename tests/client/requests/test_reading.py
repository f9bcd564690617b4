"""Reads as generators: which node is asked next, for how long, and what waits in between. No loop runs here."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from softstate.client.machine.credentials import TokenCell
from softstate.client.requests.reading import RETRY_BASE_S, TRY_S_MAX, TRY_S_MIN, Aged, Reading
from softstate.client.requests.reply import HttpFailed, Reply
from softstate.client.requests.steps import AnotherToken, Ask, FirstToken, SleepUntil, Step, Steps, TimeIsUp
from softstate.client.url import parse_url
from softstate.errors import Behind, RequestError, Unauthenticated, Unavailable
from softstate.model import Change
from softstate.position import Position
from softstate.wire import JSON
from softstate.wire.messages import Polled

A, B = parse_url("ws://a"), parse_url("ws://b")


def status(code: int, body: Any, *headers: tuple[bytes, bytes]) -> Reply:
    return Reply(code, headers, JSON.dumps(body))


def refusal(error: type[RequestError], **fields: Any) -> Reply:
    return status(error.http_status, {"code": error.code, "message": "no", **fields})


class Driver:
    """Reads through two nodes, at times that a test sets."""

    def __init__(self, *, provider: bool = False) -> None:
        self.now = 100.0
        self.cell = TokenCell()
        self.reading = Reading((A, B), Random(1), self.cell, lambda: self.now, provider=provider)


def ends(steps: Steps[Any], reply: Reply | None) -> Any:
    with pytest.raises(StopIteration) as done:
        steps.send(reply)
    return done.value.value


def asked(step: Step) -> tuple[str, float]:
    assert isinstance(step, Ask)
    return step.url.host, step.timeout_s


def test_each_node_has_its_part_of_the_time_and_the_one_that_answered_is_asked_first_the_next_time() -> None:
    driver = Driver()
    steps = driver.reading.get("t", None, 4)
    assert asked(next(steps)) == ("a", 2)
    driver.now += 2
    assert asked(steps.throw(HttpFailed("silent"))) == ("b", 2)
    driver.now += 2
    tag = (b"etag", b'"e.l.7+json"'), (b"softstate-lag-ms", b"500")
    assert ends(steps, status(200, "v", *tag)) == Aged(Change("t", 7, "v"), 2.5 / 0.99)
    assert asked(next(driver.reading.get("t", None, 100))) == ("b", TRY_S_MAX)
    assert asked(next(driver.reading.get("t", None, 0.5))) == ("b", TRY_S_MIN)


def test_after_a_round_it_waits_for_the_first_node_that_may_be_asked_and_says_in_the_end_why() -> None:
    driver = Driver()
    steps = driver.reading.get("t", 9, 60)
    assert asked(next(steps))[0] == "a"
    assert asked(steps.send(refusal(Behind, retry_ms=2_000)))[0] == "b"
    step = steps.throw(HttpFailed("silent"))
    assert isinstance(step, SleepUntil)
    assert 100 <= step.at <= 100 + RETRY_BASE_S
    driver.now = step.at
    assert asked(steps.send(None))[0] == "b", "the other one asked for two seconds"
    with pytest.raises(Behind):
        steps.throw(TimeIsUp())


def test_what_never_answers_is_unavailable() -> None:
    steps = Driver().reading.status(3)
    next(steps)
    steps.throw(HttpFailed("no route"))
    with pytest.raises(Unavailable, match="within 3 s; the last one: no route"):
        steps.throw(TimeIsUp())


def test_a_refused_token_is_replaced_and_the_same_node_asked_again() -> None:
    driver = Driver(provider=True)
    steps = driver.reading.get("t", None, 10)
    assert next(steps) == FirstToken()
    driver.cell.token = "old"
    assert asked(steps.send(None))[0] == "a"
    step = steps.send(refusal(Unauthenticated, why="expired"))
    assert isinstance(step, AnotherToken)
    assert (step.refused, step.error.why) == ("old", "expired")
    driver.cell.token = "new"
    assert asked(steps.send(None))[0] == "a"
    assert isinstance(steps.send(refusal(Unauthenticated)), AnotherToken)
    with pytest.raises(Unauthenticated, match="none left"):
        steps.throw(Unauthenticated("none left"))


def test_pages_of_a_listing_are_joined_and_must_lead_on() -> None:
    steps = Driver().reading.listing("p/", 10)
    next(steps)
    change = Change("p/b", 2, 1)
    page = Polled("1", changes=[change], position=Position("e", "l", 3), more=True, cursor="c")
    step = steps.send(status(200, page))
    assert isinstance(step, Ask)
    assert step.path.endswith("cursor=c")
    assert asked(steps.send(status(200, page)))[0] == "b", "a cursor that comes again is a fault of that node"
    last = Polled("1", changes=[Change("p/a", 2, 1), change], position=Position("e", "l", 3), unreadable=["p/c"])
    listing = ends(steps, status(200, last))
    assert [change.topic for change in listing] == ["p/a", "p/b"]
    assert listing.unreadable == ("p/c",)
