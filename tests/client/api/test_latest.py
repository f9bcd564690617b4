"""Latest wins, by hand: what is submitted when, also if it is settled at once."""

from __future__ import annotations

from softstate.client.api.latest import Latest
from softstate.client.api.receipt import Outcome
from softstate.errors import Overloaded


def test_publishes_that_are_settled_as_they_are_submitted_hold_nothing_up() -> None:
    latest, submitted = Latest(), list[str]()
    under_way = {topic: Outcome(topic) for topic in "abc"}

    def first(outcome: Outcome) -> int:
        return 1

    def refused(outcome: Outcome) -> int:
        submitted.append(outcome._topic)
        outcome.tell()
        outcome.settle(Overloaded("too many"))
        latest.advance()  # as the machine does behind each event
        return 2

    for topic, outcome in under_way.items():
        latest.add(topic, outcome, first)
        latest.add(topic, Outcome(topic), refused)
    assert submitted == []
    for outcome in under_way.values():
        outcome.tell()
        outcome.settle(Overloaded("too many"))
    latest.advance()
    assert submitted == ["a", "b", "c"]
    assert latest.clear() == []
