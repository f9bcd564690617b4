"""Publishing: all waiting publishes in one durable commit, and only then to the hub and the callers (P-PUB-1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
import trio

from softstate.errors import RequestError, StoreFault
from softstate.names import check_topic
from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.storage.batcher import Batcher, Ticket
from softstate.store.base import Applied, Store, Write
from softstate.wire import encode_value, messages
from softstate.wire.request_digest import request_digest

CommitResult: TypeAlias = tuple[Applied, Position]
"""The verdict on a publish that won, and the position of its version."""


def change_of(message: messages.Publish | messages.BatchChange, value_bytes_max: int) -> Write:
    """Check what a peer wants published. Raises `Invalid` or `TooLarge`."""
    topic = check_topic(message.topic)
    cbor = None if message.value is msgspec.UNSET else encode_value(message.value, value_bytes_max)
    digest = request_digest(topic, cbor, message.expect, None)
    return Write(topic, cbor, message.expect, None, message.key, digest)


class Publisher:
    """The one way to the store's `publish`: requests are committed in the order of their submission (P-PUB-2)."""

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        hub: Hub,
        fault: Callable[[StoreFault], None],
        history: Callable[[], int | None] = lambda: 0,
    ) -> None:
        self._store = store
        self._hub = hub
        self._history = history
        self.repeated = 0
        self.batcher: Batcher[Write, CommitResult] = Batcher(
            "publishes",
            self._commit,
            waiting_max=config.publishes_waiting_max,
            patience_s=config.store_s_max,
            joins=True,
            fault=fault,
            history=history,
            after=hub.flush,
        )

    def submit(self, change: Write, settled: Callable[[Ticket[Write, CommitResult]], None]) -> None:
        """Queue a change; `settled` is called once its fate is known. Raises `Overloaded` or `Unavailable`."""
        self.batcher.submit(change, settled)

    async def publish(self, change: Write) -> CommitResult:
        """Return once durable; see `softstate.server.services.Publishes`."""
        return await self.batcher.ask(change)

    async def publish_all(self, changes: Sequence[Write]) -> list[CommitResult | RequestError]:
        """Write in order, and return each verdict in order. If cancelled, all may be applied all the same."""
        if not changes:
            return []
        done = trio.Event()
        tickets: list[Ticket[Write, CommitResult]] = []
        refused: RequestError | None = None
        for change in changes:
            try:
                tickets.append(self.batcher.submit(change, lambda _ticket: None))
            except RequestError as error:
                # P-PUB-6: what comes behind must not overtake this one: once refused, refused to the end.
                refused = error
                break
        if tickets:
            tickets[-1].then(lambda _ticket: done.set())
            await done.wait()
        results: list[CommitResult | RequestError] = [ticket.outcome() for ticket in tickets]
        if refused is not None:
            results += [refused] * (len(changes) - len(tickets))
        return results

    async def _commit(self, group: Sequence[Write]) -> Sequence[CommitResult | RequestError]:
        history = self._history()
        committed = await self._store.publish(group)
        # Where the store was reopened before the answer came, the commit may be lost with the history that it was made
        # in, though the hub stands just where it would follow.
        if committed.records and history is not None and history == self._history():
            self._hub.committed(committed.before, committed.records, committed.position)
        answers: list[CommitResult | RequestError] = []
        for verdict in committed.verdicts:
            if isinstance(verdict, Applied):
                position = committed.position if verdict.repeated else committed.position.at(verdict.version)
                self.repeated += verdict.repeated
                answers.append((verdict, position))
            else:
                answers.append(verdict)
        return answers
