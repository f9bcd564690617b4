"""Publishing: all queued publishes go into one durable commit, and only then to the hub and the callers (P-PUB-1)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
import structlog
import trio

from softstate.errors import Invalid, RequestError, TooLarge
from softstate.model import Value
from softstate.names import check_topic
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.spell import Spell
from softstate.server.storage.batcher import Batcher, Ticket
from softstate.server.storage.damage import Damage
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.write_queue import WriteQueue
from softstate.store.base import Applied, Number, Store, Write
from softstate.wire import Codec, encode_value, messages
from softstate.wire.request_digest import request_digest

log = structlog.get_logger("softstate.writes")

BULK_PART = 0.75
"""Part of the publishes that may wait which those of batches may fill: few clients must not turn all others away."""

CommitResult: TypeAlias = tuple[Applied, Position]
"""The verdict on a publish that won, and the position of its version."""


def change_of(
    message: messages.Publish | messages.BatchChange, config: ServerConfig, codec: Codec, number: Number | None = None
) -> Write:
    """Check a change that a peer wants published under `number`, as `codec` has decoded its syntax.

    Raises `Invalid` or `TooLarge`.
    """
    topic = check_topic(message.topic)
    cbor = None if message.value is msgspec.UNSET else checked_value(message.value, config, codec)
    digest = request_digest(topic, cbor, message.expect, None)
    return Write(topic, cbor, message.expect, None, message.key, digest, number)


def checked_value(value: Value, config: ServerConfig, codec: Codec) -> bytes:
    """Check a value that `codec` has decoded the syntax of, and return it as CBOR. Raises `Invalid` or `TooLarge`."""
    return encode_value(codec.plain(value), config.value_bytes_max, config.value_items_max)


def number_of(message: messages.Publish | messages.Batch, inflight_max: int) -> Number | None:
    """Return the number of a publish, or of the first change of a batch; None if it has none (P-PUB-9).

    Raises `Invalid` for fields that contradict each other, `TooLarge` beyond `inflight_max` unsettled numbers.
    """
    if message.publisher is None:
        if message.seq or message.settled:
            raise Invalid("seq and settled need a publisher beside them: send all three, or none")
        return None
    if message.seq <= message.settled:
        raise Invalid(f"seq must be above settled ({message.settled}), and 1 at least: it is {message.seq}")
    count = len(message.changes) if isinstance(message, messages.Batch) else 1
    unsettled = message.seq + max(count, 1) - 1 - message.settled
    if unsettled > inflight_max:
        raise TooLarge(
            f"{unsettled} publishes of this publisher are not settled, the limit (inflight) is {inflight_max}:"
            " wait for answers, and send settled with the next"
        )
    return Number(message.publisher, message.seq, message.settled)


def _log_failure(because: str) -> None:
    log.error("publishes fail", because=because)


def _log_success(failures: int) -> None:
    log.info("publishes succeed again", failures=failures)


class StoreWrites:
    """Commits publishes, many in one transaction, in the order of their submission (P-PUB-2)."""

    def __init__(
        self, config: ServerConfig, store: Store, hub: Hub, guard: StoreGuard, bulkhead: Bulkhead, damage: Damage
    ) -> None:
        self._store = store
        self._damage = damage
        self._hub = hub
        self._guard = guard
        self.behind: Callable[[], None] = lambda: None
        """Called when a commit was left to the feed, since the hub lacks what came before it."""
        self.check: Callable[[Write], None] = lambda _change: None
        """Raises `RequestError` for a change that must not be made now."""
        self.repeated = 0
        self.errors: Counter[str] = Counter()
        """Publishes that were refused or failed, over either protocol, by the code that their clients were told."""
        self.failing = Spell(_log_failure, _log_success)
        """The publishes that fail since one last succeeded."""
        self.batcher: Batcher[Write, CommitResult] = Batcher(
            "publishes",
            self._commit,
            bulkhead,
            queued_max=config.publishes_waiting_max,
            call_s_max=config.store_s_max,
            wait_for_joiners=True,
            repeatable=False,
            queue=WriteQueue(math.ceil(BULK_PART * config.publishes_waiting_max)),
            on_answered=hub.flush,
            on_failed=lambda error: self.failing.failed(error.message),
        )

    def submit(
        self,
        change: Write,
        settled: Callable[[Ticket[Write, CommitResult]], None],
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Queue a change; `settled` is called once its outcome is known.

        Raises `Overloaded`, `Unavailable`, or what `check` raises. `broken` is called if a bug ends that call.
        """
        self.check(change)
        self.batcher.submit(change, settled, broken)

    async def publish(self, change: Write) -> CommitResult:
        """Return once durable, with the verdict and the position of that version.

        Raises `Conflict`, `KeyReused`, `Overloaded`, or `Unavailable` (outcome unknown). If cancelled, the change may
        be applied all the same. Calls made in order are applied in order.
        """
        self.check(change)
        return await self.batcher.ask(change)

    async def publish_all(self, changes: Sequence[Write]) -> list[CommitResult | RequestError]:
        """Apply changes in order, sharing commits, and return the verdict on each, in order.

        Once one is refused because too many wait, or fails with the store, so is every later one. If cancelled, any
        of them may be applied all the same.
        """
        if not changes:
            return []
        done = trio.Event()
        tickets: list[Ticket[Write, CommitResult]] = []
        refused: RequestError | None = None
        for change in changes:
            try:
                self.check(change)
                tickets.append(self.batcher.submit(change, lambda _ticket: None, bulk=True))
            except RequestError as error:
                # P-PUB-6: later changes must not overtake this one: once one is refused, all the rest are.
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
        # If the store was reopened before the answer came, the commit may be lost with its history, even where it would
        # follow the hub's position without a gap: `call` raises then.
        committed = await self._guard.call(self._store.publish, group)
        if committed.records:
            self.failing.succeeded()
            if self._damage:
                self._damage.met(committed.records)
            await self._hub.committed(committed.before, committed.records, committed.position)
            if self._hub.position.revision < committed.position.revision:
                self.behind()
        answers: list[CommitResult | RequestError] = []
        for verdict in committed.verdicts:
            if isinstance(verdict, Applied):
                here = verdict.repeated or not verdict.changed
                position = committed.position if here else committed.position.at(verdict.version)
                self.repeated += verdict.repeated
                answers.append((verdict, position))
            else:
                answers.append(verdict)
        return answers
