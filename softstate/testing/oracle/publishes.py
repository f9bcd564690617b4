"""What publishers may be told: S3 and S4."""

from __future__ import annotations

from typing import final

from softstate.testing.oracle.history import Entry, Histories
from softstate.testing.oracle.verdict import Bounds, Findings
from softstate.testing.trace import Acknowledged, Asked


@final
class PublishChecks:
    """Follows every publish, and every commit that bears a key."""

    def __init__(self, histories: Histories, bounds: Bounds, findings: Findings) -> None:
        self.acknowledged = 0
        self._histories = histories
        self._bounds = bounds
        self._findings = findings
        self._asked: dict[tuple[str, int], Asked] = {}
        self._answers: list[tuple[Asked, Acknowledged, Entry]] = []
        self._keys: dict[tuple[str, str], Entry] = {}

    def asked(self, event: Asked) -> None:
        """Take the beginning of a publish."""
        self._asked[event.client, event.ticket] = event

    def committed(self, entry: Entry) -> None:
        """Check that a key, while it lives, commits once in one history: S4.

        A key is held to half its life, because what forgets it is a node's clock, which may be fast.
        """
        event = entry.event
        if event.key is None:
            return
        first = self._keys.get((event.topic, event.key))
        self._keys[event.topic, event.key] = entry
        if first is None or first.identity not in self._histories.now.by_identity:
            return
        if event.at - first.event.at < self._bounds.key_s / 2:
            told = f"key {event.key} was applied at {first.revision} and at {event.revision}"
            self._findings.add("S4", event.at, event.topic, told, first.event, event)

    def answered(self, event: Acknowledged) -> None:
        """Check that what was acknowledged was committed, and that it won: S3, S4."""
        self.acknowledged += 1
        asked = self._asked[event.client, event.ticket]
        entry = self._find(asked, event)
        if entry is None:
            told = f"{event.topic} was acknowledged at {event.version}, which was never committed so"
            self._findings.add("S3", event.at, event.client, told, asked, event)
            return
        self._answers.append((asked, event, entry))
        if asked.expect is not None:
            self._check_expected(asked, event, entry)

    def _find(self, asked: Asked, event: Acknowledged) -> Entry | None:
        for history in reversed(self._histories.all):
            entry = history.at(event.topic, event.version)
            if entry is None or entry.revision != event.version or entry.event.deleted != asked.deleted:
                continue
            if asked.deleted or entry.event.value == asked.value:
                return entry
        return None

    def _check_expected(self, asked: Asked, event: Acknowledged, entry: Entry) -> None:
        history = next(history for history in self._histories if entry.identity in history.by_identity)
        before = history.at(event.topic, event.version - 1)
        current = before.revision if before is not None else 0
        absent = before is None or before.event.deleted
        if asked.expect != current and not (asked.expect == 0 and absent):  # a deletion has a version too
            told = f"{event.topic} was at {current} when a change that expects {asked.expect} won"
            shown = before.event if before is not None else None
            self._findings.add("S4", event.at, event.client, told, shown, asked, event)

    def finish(self, at: float) -> None:
        """Check that nothing acknowledged was lost, but for what somebody threw away on purpose: S3.

        Restoring a backup and wiping the store are such purposes; so is a crash of a disk that claims no durability.
        """
        for asked, answer, entry in self._answers:
            was_in = [history.number for history in self._histories if entry.identity in history.by_identity]
            following = self._histories.all[max(was_in) + 1 :]
            if following and following[0].why == "crash" and self._bounds.durable:
                told = f"{answer.topic} at {answer.version} was acknowledged, and is gone"
                self._findings.add("S3", at, answer.client, told, asked, answer)
