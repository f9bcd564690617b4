"""The clients of one worker as threads: each is a `softstate.sync` client, and a thread that watches."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import final

import msgspec

from softstate.cli.commands.drill.plan import SAMPLE_EVERY_S, START_EVERY_S
from softstate.cli.commands.drill.relayed import names_of, opener_of, token_for
from softstate.cli.commands.drill.reports import Applied, Sample, Tick, WorkerPlan
from softstate.errors import ClientClosed, Stale
from softstate.model import Change
from softstate.sync import SyncClient, connect

TAKEN_S_MAX = 1.0
"""How long a sample waits for the thread that watches to take what was known when the age was asked."""


@final
class Watcher:
    """One client, and a thread that takes its changes. `sample` is for another thread."""

    def __init__(self, plan: WorkerPlan, number: int) -> None:
        self._number = number
        self._numbers = {topic: each for each, topic in enumerate(plan.topics)}
        self._topics = [plan.topics[topic] for topic in plan.follows[number]]
        self._names = names_of(plan, number)
        self._soft: SyncClient = connect(
            *plan.urls, name=f"drill {number}", open_stream=opener_of(plan), token=token_for(plan)
        )
        self._versions: dict[str, int] = {}
        self._resets = 0
        self._applied: list[Applied] = []
        self._taken = threading.Condition()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._soft.follow(*self._names)
        self._thread.start()

    def close(self) -> None:
        """Release the lease, and end the thread."""
        self._soft.close()
        self._thread.join()

    def sample(self) -> tuple[list[Applied], Sample]:
        """Ask for the age, and return it with all that was applied until then: the thread is waited for."""
        now_s = time.monotonic()  # before the age is asked, which can only grow in between
        age_s, counts, mode = self._soft.age, self._soft.statistics(), self._soft.mode
        due = self._known_versions()
        with self._taken:
            self._taken.wait_for(lambda: self._has_taken(due), TAKEN_S_MAX)
            applied, self._applied = self._applied, []
        known_s = None if math.isinf(age_s) or due is None else age_s
        return applied, Sample(self._number, now_s, known_s, mode, counts.connects, counts.polls, counts.resets)

    def _known_versions(self) -> dict[str, int] | None:
        """Return what the client tells of each topic; None if it cannot prove it."""
        try:
            found = {topic: self._soft.known(topic) for topic in self._topics}
        except Stale:
            return None
        return {topic: known.version for topic, known in found.items() if known is not None}

    def _has_taken(self, due: dict[str, int] | None) -> bool:
        return due is None or all(self._versions.get(topic, 0) >= version for topic, version in due.items())

    def _watch(self) -> None:
        try:
            for change in self._soft.watch(*self._names):
                if not change.deleted:
                    self._take(change)
        except ClientClosed:
            return

    def _take(self, change: Change) -> None:
        if change.version < self._versions.get(change.topic, 0):  # no reset is told here: only its count
            self._resets = self._soft.statistics().resets
        topic, sent_s = self._numbers[change.topic], change.value["sent_s"]
        applied = Applied(self._number, topic, change.version, sent_s, time.monotonic(), self._resets)
        with self._taken:
            self._versions[change.topic] = change.version
            self._applied.append(applied)
            self._taken.notify_all()


@final
class SyncWorker:
    """Runs the clients of `plan`; `write` is given each report, a line."""

    def __init__(self, plan: WorkerPlan, write: Callable[[bytes], None]) -> None:
        self._plan = plan
        self._write = write
        self._watchers: list[Watcher] = []
        self._ending = threading.Event()

    def run(self) -> None:
        """Run until SIGTERM, then release all leases."""
        signal.signal(signal.SIGTERM, lambda *_: self._ending.set())
        encoder, report_at_s = msgspec.json.Encoder(), time.monotonic()
        waiting = list(self._plan.follows)
        while not self._ending.wait(START_EVERY_S if waiting else SAMPLE_EVERY_S):
            if waiting:
                watcher = Watcher(self._plan, waiting.pop(0))
                watcher.start()
                self._watchers.append(watcher)
                if time.monotonic() < report_at_s + SAMPLE_EVERY_S:
                    continue
            report_at_s = time.monotonic()
            found = [watcher.sample() for watcher in self._watchers]
            applied = [each for changes, _ in found for each in changes]
            self._write(encoder.encode(Tick(applied, [sample for _, sample in found])))
        ends = [threading.Thread(target=watcher.close) for watcher in self._watchers]
        for end in ends:
            end.start()
        for end in ends:
            end.join()
