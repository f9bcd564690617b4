"""The rig of the fan-out, without sockets: a lease table, a hub, and leases whose connections log what they are given.

::

    rig = HubRig(START)
    log, lease = rig.lease("a/", "b")                             # leases do not expire: the table's clock stands at 0
    await rig.hub.apply([record("a/1", 11)], [], START.at(11))
    assert log == ["a/1@11"]                                      # topic@version; a lineage row is lineage@revision

The storage tests (`test_follower`, `test_heads`, `test_writes`) extend it by a store and the part under test.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, cast

from softstate.auth.identity import Identity
from softstate.lease import Lease, LeaseTable, Sink
from softstate.model import Record
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.hub import Heed, Hub
from softstate.wire.push import PushBatch
from tests.kit.silent_sink import SilentSink

T = TypeVar("T")


class Log(list[str], SilentSink):
    """A connection as the hub sees it: logs every change and lineage row that it is given."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def offer(self, batch: PushBatch) -> None:
        self += [f"{change.record.topic}@{change.record.version}" for change in batch.changes]

    def moved(self, position: Position) -> None:
        self.append(f"{position.lineage}@{position.revision}")

    def fail(self) -> None:
        self.append("failed")


class HubRig:
    """A hub at a position, with a lease table whose clock stands still."""

    def __init__(
        self, position: Position, *, strict: bool = True, known_topics_max: int = 0, heed: Heed | None = None
    ) -> None:
        self.table = LeaseTable(0)
        self.sinks: dict[Sink, None] = {}
        self.bulkhead = Bulkhead(strict=strict, now=lambda: 0)
        self.hub = Hub(
            self.table, position, self.bulkhead, self._revoke, self.sinks.keys(), lambda: 0, known_topics_max, heed
        )
        self._leases = 0

    def _revoke(self, leases: Iterable[Lease] | None) -> None:
        for lease in list(self.table._leases.values()) if leases is None else leases:
            if isinstance(lease.sink, Log):
                lease.sink.append("revoked")
            self.table.release(lease)

    def lease(self, *names: str, log: Log | None = None, identity: Identity | None = None) -> tuple[Log, Lease]:
        """Grant a lease for some names; return the log of its connection, and the lease."""
        log = Log() if log is None else log
        self._leases += 1
        lease = self.table.grant(f"token{self._leases}", 0, 60, identity=identity)
        self.table.add(lease, names)
        lease.sink = log
        self.sinks[log] = None
        return log, lease


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Run a call to its end that has nothing to wait for, from where nothing can be awaited."""
    try:
        call.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise AssertionError(f"{call} waits")


def record(topic: str, version: int) -> Record:
    """Make a record with some value."""
    return Record(topic, version, b"\x01")
