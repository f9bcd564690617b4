"""A node's one way to its store: reads, writes and head reads under one generation guard, the feed, and upkeep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.storage.damage import Damage
from softstate.server.storage.follower import StoreFollower
from softstate.server.storage.heads import HeadReads
from softstate.server.storage.housekeeping import Housekeeping
from softstate.server.storage.level import Level
from softstate.server.storage.reads import StoreReads
from softstate.server.storage.shared_info import SharedInfo
from softstate.server.storage.unchanged import UnchangedPolls
from softstate.server.storage.writes import StoreWrites
from softstate.store.base import Store

FAILING_S = 17.0
"""Time for which a publish that failed makes a node not ready, in seconds. Above the time between two compactions."""


class StoreAccess:
    """Reads and writes one store for one node, and keeps its hub level with it.

    Each part makes its store calls through the guard of `follower`, so that an answer of a history that was lost
    reaches neither the hub nor a client. `now` is the node's clock, in seconds; `rewound` and `skipped` are as in
    `StoreFollower`.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        hub: Hub,
        now: Callable[[], float],
        bulkhead: Bulkhead,
        *,
        rewound: Callable[[Position], Awaitable[None]],
        skipped: Callable[[], None],
    ) -> None:
        self.damage = Damage()
        """The topics that this node knows to be damaged."""
        self.follower = StoreFollower(store, hub, bulkhead, self.damage, rewound=self._restart, skipped=skipped)
        guard = self.follower.guard
        level = Level(hub, guard, now, lambda: self.follower.told.revision)
        self.reads = StoreReads(config, store, guard, bulkhead, self.damage, level, self.follower.note_told_position)
        self.writes = StoreWrites(config, store, hub, guard, bulkhead, self.damage)
        self.heads = HeadReads(config, store, hub, guard, bulkhead, level)
        self.unchanged = UnchangedPolls(hub, self.heads, self.damage)
        self.contents = SharedInfo(store)
        self._housekeeping = Housekeeping(config, store, hub, guard, now, bulkhead)
        self._housekeeping.tried = self._note_attempt
        self._store, self._hub = store, hub
        self._row_missing = ""
        self._batchers = (*self.reads.batchers, self.writes.batcher, self.heads.batcher)
        self._rewound = rewound
        self.follower.reopening = self._housekeeping.interrupt
        self.writes.behind = self.follower.catch_up
        store.wakes_for_own = False

    @property
    def lagging(self) -> str | None:
        """The reason why clients should be sent to another node: this one lags behind a store that answers, or None.

        A store that is down is down for all nodes: then clients need one that tells them when to come back.
        """
        return "the node lags behind its store" if self.heads.lags and not self.follower.down else None

    @property
    def unready(self) -> str | None:
        """The reason why the store cannot be used from this node; None if there is none.

        Publishes that fail count for `FAILING_S`: if none is tried after that, it may be the node's being not ready
        that keeps them away.
        """
        if self.follower.down or any(batcher.stuck for batcher in self._batchers):
            return "the store does not answer, or the node lags behind it"
        failing = self.writes.failing
        if failing.on and failing.quiet_for_s < FAILING_S:
            return f"publishes fail: {failing.because}"
        return None

    def statistics(self) -> dict[str, int]:
        """Count requests and the store calls that answered them, under the names that are shown."""
        heard_of = max(self.follower.told.revision, self.heads.newest)
        commits, pages, heads = self.writes.batcher, self.reads.pages, self.heads.batcher
        return {
            "commits": commits.calls,
            "publishes": commits.served,
            "publishes_waiting": len(commits),
            "publishes_repeated": self.writes.repeated,
            "reads": pages.served,
            "read_calls": pages.calls,
            "reads_waiting": len(pages),
            "reads_shed": self.reads.queue.shed,
            "reads_gone": self.reads.queue.gone,
            "unreadable": len(self.damage),
            "polls_unchanged": self.unchanged.answered,
            "renewals": self.heads.renewals,
            "head_reads": heads.calls,
            "store_reopened": self.follower.reopened,
            "store_rewinds": self.follower.rewinds,
            "store_up": int(not self.follower.down),
            "store_lag_revisions": max(heard_of - self._hub.position.revision, 0),
            "store_writable": int(not self.writes.failing.on),
        }

    def start(self, nursery: trio.Nursery) -> None:
        """Start the tasks that use the store. Once `nursery` is cancelled, requests get `Unavailable`."""
        for batcher in self.reads.batchers:
            nursery.start_soon(batcher.run)
        nursery.start_soon(self.heads.run)
        nursery.start_soon(self.writes.batcher.run)
        nursery.start_soon(self.follower.follow)
        nursery.start_soon(self._housekeeping.run)
        self._housekeeping.log_warnings()
        self._note_attempt(done=False)

    def _note_attempt(self, done: bool) -> None:
        """Count a lineage row that could not be committed as a publish that failed, until it is there.

        An attempt to compact that was `done` says that something can be written, and does not count: the row may be
        left to the first publish, which has to come here for that.
        """
        due, failing = self._store.unwritten, self.writes.failing
        if due and not done:
            self._row_missing = f"nothing could be written when the store was opened: {due}"
            failing.failed(self._row_missing)
        elif done and not due and failing.on and failing.because == self._row_missing:
            failing.succeeded()

    async def _restart(self, position: Position) -> None:
        await self._rewound(position)
        # Renewals that wait for a head go on in a later turn, once the hub is on the new history.
        self.heads.restart()
