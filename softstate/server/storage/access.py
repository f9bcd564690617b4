"""A node's one way to its store: reads, writes and head reads, under one generation guard, and the feed to the hub."""

from __future__ import annotations

from collections.abc import Callable

import trio

from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.storage.follower import StoreFollower
from softstate.server.storage.heads import HeadReads
from softstate.server.storage.reads import StoreReads
from softstate.server.storage.writes import StoreWrites
from softstate.store.base import Store


class StoreAccess:
    """Reads and writes one store for one node, and keeps its hub level with it.

    Each part makes its store calls through the guard of `follower`, so that an answer of a history that was lost
    reaches neither the hub nor a client. `rewound` and `skipped` are as in `StoreFollower`.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        hub: Hub,
        *,
        rewound: Callable[[Position], None],
        skipped: Callable[[], None],
    ) -> None:
        self.follower = StoreFollower(store, hub, rewound=self._restart, skipped=skipped)
        guard = self.follower.guard
        self.reads = StoreReads(config, store, guard, self.follower.note_told_position)
        self.writes = StoreWrites(config, store, hub, guard)
        self.heads = HeadReads(config, store, hub, guard)
        self._batchers = (*self.reads.batchers, self.writes.batcher, self.heads.batcher)
        self._rewound = rewound

    @property
    def ready(self) -> bool:
        """Whether the store answers, so that the hub is current."""
        return not (self.follower.down or any(batcher.stuck for batcher in self._batchers))

    def start(self, nursery: trio.Nursery) -> None:
        """Start the tasks that make the store calls. Once `nursery` is cancelled, requests get `Unavailable`."""
        for batcher in self.reads.batchers:
            nursery.start_soon(batcher.run)
        nursery.start_soon(self.heads.run)
        nursery.start_soon(self.writes.batcher.run)
        nursery.start_soon(self.follower.follow)

    def _restart(self, position: Position) -> None:
        self.heads.restart()
        self._rewound(position)
