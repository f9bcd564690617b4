"""Damage: topics whose stored record was met unreadable, each logged once and counted until it is whole again."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from softstate.model import Record

TOPICS_MAX = 100
"""Damaged topics that a node remembers, and names in its log; that there are more is one line."""

MEND = "publish the topic again, or restore a backup; `softstate store check` lists all that is damaged"

log = structlog.get_logger("softstate.damage")


class Damage:
    """The damaged topics that a node knows, `TOPICS_MAX` at most."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._more = False

    def __len__(self) -> int:
        """Return how many topics are remembered as damaged."""
        return len(self._topics)

    def met(self, records: Iterable[Record]) -> None:
        """Note records that the store has answered or committed: the unreadable ones, and those that are whole again.

        Logs a topic that was not known to be damaged, and once that there are more than are remembered.
        """
        topics = self._topics
        for record in records:
            if record.unreadable:
                if record.topic not in topics:
                    self._add(record)
            elif topics and record.topic in topics:
                topics.discard(record.topic)
                self._more = False
                log.info("record is readable again", topic=record.topic, version=record.version)

    def forget(self) -> None:
        """Forget all topics: the store is on another history."""
        self._topics.clear()
        self._more = False

    def _add(self, record: Record) -> None:
        if len(self._topics) < TOPICS_MAX:
            self._topics.add(record.topic)
            log.error("record is unreadable", topic=record.topic, version=record.version, mend=MEND)
        elif not self._more:
            self._more = True
            log.error("more records are unreadable, and are not named here", named=TOPICS_MAX, mend=MEND)
