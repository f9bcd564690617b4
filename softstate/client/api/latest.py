"""Latest wins: of values that wait behind a publish of their topic, the newest is sent (`Client.publish_soon`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

from softstate.client.api.receipt import Outcome

Submit: TypeAlias = Callable[[Outcome], int]
"""Hands a publish to the machine, to be settled in this outcome; returns its ticket."""


@final
@dataclass(slots=True, eq=False)
class Waiting:
    """The newest value of one topic: how to submit it, who waits for it, and its ticket once it was submitted."""

    topic: str
    outcome: Outcome
    submit: Submit
    holders: int = 0
    ticket: int | None = None


@final
class Latest:
    """The publishes of a client that newer ones may replace: for each topic one under way, and one that waits."""

    def __init__(self) -> None:
        self._under_way: dict[str, Outcome] = {}
        self._waiting: dict[str, Waiting] = {}

    def add(self, topic: str, outcome: Outcome, submit: Submit) -> Waiting:
        """Take a publish. It takes the place of the one of its topic that waits, and shares its outcome."""
        found = self._waiting.get(topic)
        if found is None:
            found = self._waiting[topic] = Waiting(topic, outcome, submit)
        found.submit = submit
        found.holders += 1
        before = self._under_way.get(topic)
        if before is None or before.settled:
            self.flush(topic)
        return found

    def flush(self, topic: str) -> None:
        """Submit what waits of a topic, ahead of another publish of it."""
        found = self._waiting.pop(topic, None)
        if found is not None:
            self._under_way[topic] = found.outcome
            found.ticket = found.submit(found.outcome)

    def advance(self) -> None:
        """Submit what waits behind publishes that are settled by now."""
        if not self._under_way:
            return
        for topic in [topic for topic, outcome in self._under_way.items() if outcome.settled]:
            outcome = self._under_way.get(topic)
            if outcome is not None and outcome.settled:  # what is submitted may be settled at once, and come here
                del self._under_way[topic]
                self.flush(topic)

    def drop(self, waiting: Waiting) -> int | None:
        """Give one receipt back. Return the ticket to drop, if nobody holds another one and it was submitted."""
        waiting.holders -= 1
        if waiting.holders:
            return None
        if self._waiting.get(waiting.topic) is waiting:
            del self._waiting[waiting.topic]
        return waiting.ticket

    def clear(self) -> list[Outcome]:
        """Forget all; return the outcomes of what still waits."""
        left = [waiting.outcome for waiting in self._waiting.values()]
        self._waiting.clear()
        self._under_way.clear()
        return left
