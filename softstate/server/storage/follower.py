"""Follows the store's feed into the hub, and deals with a store that is down, replaced or rewound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from softstate.errors import Compacted, StoreFault, StoreRefused, Unavailable
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.hub import Hub
from softstate.server.storage.damage import Damage
from softstate.server.storage.guard import StoreGuard
from softstate.store.base import Store

RETRY_S_MIN = 0.05
RETRY_S_MAX = 1.0
"""Shortest and longest pause before the next attempt on a store that is down or fails again; it doubles in between."""

REASONS_MAX = 16
"""Different reasons logged at most while a store is down, since one may name what changes with every attempt."""

OPEN_TRIES = 3
"""Times that a store may be replaced while a node starts on it."""

log = structlog.get_logger("softstate.follower")


async def first_position(store: Store) -> Position:
    """Return the position of a store that was opened just now; if it was replaced in between, open it again.

    Raises `Unavailable` if that happens `OPEN_TRIES` times or the store does not answer, `StoreRefused` if it is no
    longer ours.
    """
    for _ in range(OPEN_TRIES):
        try:
            return await store.head()
        except StoreRefused:
            raise
        except StoreFault as fault:
            log.warning("store is reopened", because=str(fault))
            await store.reopen()
    raise Unavailable(f"the store was replaced {OPEN_TRIES} times while this node started: start it again")


async def _learn_nothing() -> None:
    """Do nothing."""


class StoreFollower:
    """Keeps one hub level with one store.

    `rewound` is awaited when a position that this node has told a client is not on the store's history (P-REW-8),
    before anything is answered from the new one; `skipped` is called when the hub has missed changes that are compacted
    by now (this node was frozen for longer than tombstones are kept).
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        bulkhead: Bulkhead,
        damage: Damage,
        *,
        rewound: Callable[[Position], Awaitable[None]],
        skipped: Callable[[], None],
    ) -> None:
        self.guard = StoreGuard(self.check_now)
        self.learn: Callable[[], Awaitable[None]] = _learn_nothing
        """Awaited before the hub leaves out changes: reads from the store what somebody has to know of all of them."""
        self.reopening: Callable[[], None] = lambda: None
        """Called before the store is reopened."""
        self.down = False
        self.reopened = 0
        self.rewinds = 0
        self._store = store
        self._hub = hub
        self._bulkhead = bulkhead
        self._damage = damage
        self._rewound = rewound
        self._skipped = skipped
        self._wait_scope = trio.CancelScope()
        self._check_due = False
        self._reopened_last = False
        self._retry_s = RETRY_S_MIN
        self._reasons: set[str] = set()
        self.told = hub.position
        """The highest position that a client was told, or the hub's when this began; it may be ahead of the hub."""

    def note_told_position(self, position: Position) -> None:
        """Note a position that a client is told, which may be ahead of the hub."""
        if position.revision > self.told.revision:
            self.told = position

    def check_now(self, fault: StoreFault) -> None:
        """Read the feed now, without waiting for a commit: a call has met a fault."""
        if self.guard.generation is not None:
            # Else it is being opened again, with lines of its own, and every request meets this.
            log.warning("store fault", fault=type(fault).__name__, detail=str(fault))
        self._check_due = True
        self._wait_scope.cancel()

    def catch_up(self) -> None:
        """End the wait for a commit: one of this node is beyond the hub."""
        self._wait_scope.cancel()

    async def learn_first(self) -> None:
        """Return once `learn` has succeeded, however long the store does not answer. Raises `StoreRefused`.

        If the store was replaced since it was opened, it is opened again; `follow` finds out what that means.
        """
        replaced = False
        while True:
            try:
                if replaced:
                    await self._store.reopen()
                await self.learn()
            except StoreRefused:
                raise
            except Unavailable as error:
                await self._wait_down(error)
            except StoreFault as fault:
                log.warning("store is reopened", because=str(fault))
                replaced = True
                await self._back_off()
            else:
                return

    async def follow(self) -> None:
        """Follow the feed until cancelled. After a bug it goes on: until then this node certifies nothing."""
        while True:
            with self._bulkhead.contain("feed"):
                await self._follow_once()
                continue
            self.down = True
            await self._back_off()

    async def _follow_once(self) -> None:
        if self.guard.generation is None:
            # P-REW-9: until the hub is on the same history, sessions of the old one are still served.
            await self._reopen()
            self.guard.generation = self.reopened
        try:
            await self._step()
        except Unavailable as error:
            await self._wait_down(error)
        except StoreFault as fault:
            log.warning("store is reopened", because=str(fault))
            if self._reopened_last:
                await self._back_off()
            self._reopened_last = True
            self.guard.generation, self.guard.because = None, ""
            self.reopening()
        else:
            self._up()

    async def _step(self) -> None:
        # A store that was down is asked at once: it may be back, and there may be no commit for a long time.
        if not (self.down or self._check_due):
            before = self._hub.position.revision
            with trio.CancelScope() as self._wait_scope:
                await self._store.wait(before)
                await self._hub.at_rest()
            if self._hub.position.revision > before and not self._check_due:
                # This node's own commits were applied directly. If there is more, the next wait returns at once.
                return
        self._check_due = False
        try:
            feed = await self._store.feed(self._hub.position)
        except Compacted:
            log.warning("feed skipped", revision=self._hub.position.revision)
            head = await self._store.head()
            await self.learn()
            with self._bulkhead.contain("feed skipped") as skipping:
                self._hub.restart(head)
                self._skipped()
            if skipping.failed:
                self._bulkhead.end_node("it missed changes, and could not revoke the leases that they were owed to")
        else:
            self._damage.met(feed.records)
            await self._hub.apply(feed.records, feed.lineages, feed.upto)

    async def _reopen(self) -> None:
        while True:
            try:
                position = await self._store.reopen()
                lost = await self._lost(position)
                if lost is not None:
                    await self.learn()
            except (Unavailable, StoreRefused) as error:
                # A store that is not ours may be put back in order by its administrator.
                await self._wait_down(error)
            except StoreFault as fault:
                log.warning("store is reopened again", because=str(fault))
                await self._back_off()
            else:
                break
        self.reopened += 1
        if lost is None:
            return
        self.rewinds += 1
        log.error("store rewound", before=str(lost), now=str(position))
        with self._bulkhead.contain("store rewound") as restarting:
            # Ahead of the hub: as long as there is no generation, no session that is still to be ended can be told
            # anything of the new history.
            await self._rewound(position)
            self.told = position
            self._damage.forget()
            self._hub.restart(position)
        if restarting.failed:
            self._bulkhead.end_node("the store was rewound, and the sessions of the lost history could not be ended")

    async def _lost(self, row: Position) -> Position | None:
        """Return a position of this node that `row`, a lineage row just committed, does not continue; None if none.

        The hub's must be on the history, or the feed cannot go on from there: one whose lineage was compacted away is
        not known to be. So must be what a subscriber was told, if the hub is behind it: that may be of a lost commit.
        """
        held = [self._hub.position]
        if self.told.revision > held[0].revision:
            held.append(self.told)
        # Most rewinds show without a read, before a renewal could take the new history's head for a revision that the
        # hub, at a higher one of the old history, has reached long ago.
        for position in held:
            if row.epoch != position.epoch or row.revision <= position.revision:
                return position
        lineages = await self._store.lineage_at([position.revision for position in held])
        pairs = zip(held, lineages, strict=True)
        return next((position for position, lineage in pairs if lineage != position.lineage), None)

    def _up(self) -> None:
        if self.down:
            log.info("store is up again")
        self.down = self._reopened_last = False
        self._reasons.clear()
        self._retry_s = RETRY_S_MIN

    async def _wait_down(self, error: Unavailable | StoreRefused) -> None:
        reason = self.guard.because = str(error)
        if not self.down:
            log.warning("store is down", detail=reason)
            self._reasons = {reason}
        elif reason not in self._reasons and len(self._reasons) < REASONS_MAX:
            log.warning("store is still down, for another reason", detail=reason)
            self._reasons.add(reason)
        self.down = True
        await self._back_off()

    async def _back_off(self) -> None:
        await trio.sleep(self._retry_s)
        self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)
