"""Checks of the answers to publishers: S3 and S4."""

from __future__ import annotations

from typing import final

from softstate.testing.oracle.history import Entry, Histories
from softstate.testing.oracle.verdict import Bounds, Findings
from softstate.testing.trace import PublishAcknowledged, PublishFailed, PublishStarted

REFUSED = frozenset({"Denied", "Invalid", "TooLarge", "Unauthenticated", "Unsupported"})
"""Errors by which an application learns that its publish was not applied, though no store has looked for it."""


@final
class PublishChecks:
    """Follows every publish, and every commit with an idempotency key."""

    def __init__(self, histories: Histories, bounds: Bounds, findings: Findings) -> None:
        self.acknowledged = 0
        self._histories = histories
        self._bounds = bounds
        self._findings = findings
        self._started: dict[tuple[str, int], PublishStarted] = {}
        self._answers: list[tuple[PublishStarted, PublishAcknowledged, Entry]] = []
        self._refusals: list[tuple[PublishStarted, PublishFailed]] = []
        self._keys: dict[tuple[str, str], Entry] = {}

    def started(self, event: PublishStarted) -> None:
        """Record the beginning of a publish."""
        self._started[event.client, event.number] = event

    def committed(self, entry: Entry) -> None:
        """Check that a key, while it lives, commits once in one history: S4.

        Only half its life is checked, because a node's clock decides when it is forgotten, and that may be fast.
        """
        event = entry.event
        if event.key is None:
            return
        first = self._keys.get((event.topic, event.key))
        self._keys[event.topic, event.key] = entry
        if first is None or not self._histories.current.holds_commit(first):
            return
        if event.at_s - first.event.at_s < self._bounds.key_s / 2:
            what = f"key {event.key} was applied at {first.revision} and at {event.revision}"
            self._findings.add("S4", event.at_s, event.topic, what, first.event, event)

    def answered(self, event: PublishAcknowledged) -> None:
        """Check that an acknowledged publish was committed, and that its compare-and-set won: S3, S4."""
        self.acknowledged += 1
        asked = self._started[event.client, event.number]
        if asked.deleted and event.version == 0:
            return  # there was nothing to delete, and no tombstone
        entry = self._find(asked, event)
        if entry is None:
            what = f"{event.topic} was acknowledged at {event.version}, which was never committed so"
            self._findings.add("S3", event.at_s, event.client, what, asked, event)
            return
        self._answers.append((asked, event, entry))
        if asked.deleted and entry.event.at_s < asked.at_s:
            return  # it was deleted already: this is the version of its tombstone
        if asked.expect is not None:
            self._check_expected(asked, event, entry)

    def failed(self, event: PublishFailed) -> None:
        """Record a publish that is told as refused; `finish` looks whether it was applied all the same."""
        asked = self._started[event.client, event.number]
        if event.error in REFUSED and not asked.deleted:
            self._refusals.append((asked, event))

    def _find(self, asked: PublishStarted, event: PublishAcknowledged) -> Entry | None:
        for history in reversed(self._histories.all):
            entry = history.at(event.topic, event.version)
            if entry is None or entry.revision != event.version or entry.event.deleted != asked.deleted:
                continue
            if asked.deleted or entry.event.value == asked.value:
                return entry
        return None

    def _check_expected(self, asked: PublishStarted, event: PublishAcknowledged, entry: Entry) -> None:
        history = next(history for history in self._histories if history.holds_commit(entry))
        before = history.at(event.topic, event.version - 1)
        current = before.revision if before is not None else 0
        absent = before is None or before.event.deleted
        if asked.expect != current and not (asked.expect == 0 and absent):  # a deletion has a version too
            what = f"{event.topic} was at {current} when a change that expects {asked.expect} won"
            shown = before.event if before is not None else None
            self._findings.add("S4", event.at_s, event.client, what, shown, asked, event)

    def finish(self, at_s: float) -> None:
        """Check that nothing acknowledged was lost, and nothing told as refused was applied: S3, S4.

        Exempt are commits that were discarded on purpose, by restoring a backup or wiping the store, and those that
        were lost in a crash of a disk which claims no durability.
        """
        for asked, answer, entry in self._answers:
            was_in = [history.number for history in self._histories if history.holds_commit(entry)]
            following = self._histories.all[max(was_in) + 1 :]
            if following and following[0].why == "crash" and self._bounds.durable:
                what = f"{answer.topic} at {answer.version} was acknowledged, and is gone"
                self._findings.add("S3", at_s, answer.client, what, asked, answer)
        for asked, refusal in self._refusals:
            if (applied := self._applied(asked)) is not None:
                what = f"{asked.topic} was set at {applied.revision} by a publish told as {refusal.error}"
                self._findings.add("S4", at_s, refusal.client, what, asked, applied.event, refusal)

    def _applied(self, asked: PublishStarted) -> Entry | None:
        """Return the first commit of this value since the publish began; publishers are taken not to repeat values."""
        for history in self._histories:
            for entry in history.topics.get(asked.topic, []):
                event = entry.event
                if event.at_s >= asked.at_s and not event.deleted and event.value == asked.value:
                    return entry
        return None
