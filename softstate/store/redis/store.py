"""A store in Redis (7 or newer) or Valkey: any number of nodes share it, over the network.

All that must be atomic is done by a function library inside the server (`lua`), which other programs call too::

    FCALL softstate_publish 1 NAMESPACE TOPIC JSON [EXPECTED_VERSION]
    FCALL softstate_delete 1 NAMESPACE TOPIC [EXPECTED_VERSION]

return the version, or an error ``INVALID`` or ``CONFLICT``; inside MULTI they commit with the caller's own writes. The
key is the namespace itself. Commits are announced by PUBLISH, a wake-up hint only: nodes then read the data.

An acknowledged commit is as durable as the server is set up to be, see `softstate.store.redis.durability`. A primary
that was cut off and replaced answers on until it learns of that: have ``min-replicas-to-write`` stop it from writing,
and direct clients to the new primary, so that they do not read it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random

from softstate.errors import Rewound, StoreFault, Unavailable
from softstate.model import PAGE_BYTES_MAX, PAGE_RECORDS_MAX, Durability, Page, Query
from softstate.position import REVISION_MAX, Position
from softstate.store.base import KEYS_MAX, Committed, Dump, Feed, Store, StoreInfo, Write
from softstate.store.commit_waiter import CommitWaiter
from softstate.store.limits import REVISION_DIGITS_MAX
from softstate.store.redis.connection import MISSED
from softstate.store.redis.dump import adopt, destroy, dump_of, sweep_claimed
from softstate.store.redis.engine import RedisEngine
from softstate.store.redis.migration import open_carried_over
from softstate.store.redis.schema import LAYOUT, text_or_none
from softstate.store.redis.snapshot import answer_feed, answer_query, encode_queries, in_portions
from softstate.store.redis.url import RedisAddress
from softstate.store.redis.write import committed_of, encode_publishes
from softstate.store.rules.nonce import SYSTEM
from softstate.store.rules.writable import check_writable


class RedisStore(Store):
    """A store in a namespace of a Redis server; get one with `RedisStore.open`.

    A call that is cancelled gives up its connection; its command may be carried out all the same.
    """

    def __init__(
        self, address: RedisAddress, keys_max: int, random: Random, *, create: bool = True, read_only: bool = False
    ) -> None:
        self.name = address.name
        self.keys_max = keys_max
        self._random = random
        self._engine = RedisEngine(address, random, self._risen, create=create, read_only=read_only)
        self._waiter = CommitWaiter(lambda: self._engine.seen.revision, self._check)
        self._listens = False
        self._publishing = 0
        self._notified = 0
        """The highest revision in a message."""
        self._checked = 0
        """The revision that the last check found: a message must have told of it by the next."""
        self._begun = False
        """Whether a check has read the state from before listening began, of which no message tells."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        keys_max: int = KEYS_MAX,
        random: Random = SYSTEM,
        create: bool = True,
        read_only: bool = False,
    ) -> RedisStore:
        """Open the store that `url` names (`RedisAddress.read`), made if there is none and `create`; commit a row.

        If `read_only`, no lineage row is committed, nothing is changed, and every method that would raises
        `StoreRefused`. Raises `ConfigError` when the URL is wrong, `StoreRefused` when it cannot be had, `StoreMissing`
        when there is none and none was to be made, `Unavailable` when that may pass.
        """
        store = cls(RedisAddress.read(url), keys_max, random, create=create and not read_only, read_only=read_only)
        await store._engine.connections.open()
        try:
            await open_carried_over(store._engine, random)
        except BaseException:
            await store.aclose()
            raise
        return store

    @property
    def durability(self) -> Durability:  # type: ignore[override]
        """The crashes that an acknowledged commit survives, by the server's latest report."""
        return self._engine.durability

    @property
    def warnings(self) -> Sequence[str]:  # type: ignore[override]
        """Reasons not to rely on an acknowledged commit."""
        return self._engine.warnings

    @property
    def unwritten(self) -> str:  # type: ignore[override]
        """See `Store.unwritten`."""
        return self._engine.unwritten

    async def publish(self, group: Sequence[Write]) -> Committed:
        """See `Store.publish`. The group is one call of the library, which nothing else on the server runs beside."""
        self._check_writable()
        self._publishing += 1
        try:
            await self._engine.commit_row()
            state, found = await self._engine.ask(
                "write", *encode_publishes(group, self.keys_max, self.publishers_max), writes=True
            )
        finally:
            self._publishing -= 1
            self._pass_on()
        return committed_of(group, state, found)

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """See `Store.read`. The pages of a large group are cut shorter than was asked for, to bound the call.

        A group with more than `NAMES_MAX` names takes several calls: its later answers are of later snapshots.
        """
        answers: list[Page | Rewound] = []
        for portion in in_portions(group):
            state, (found,) = await self._engine.ask("read", encode_queries(portion))
            answers += [answer_query(query, state, each) for query, each in zip(portion, found, strict=True)]
        return answers

    async def head(self) -> Position:
        """See `Store.head`. Now and then, this also checks how durable the server is."""
        state, _ = await self._engine.ask("head")
        await self._engine.probe_sometimes()
        return state.position

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        """See `Store.lineage_at`."""
        _, (lineages,) = await self._engine.ask("lineage_at", *revisions)
        return [text_or_none(lineage) for lineage in lineages]

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """See `Store.feed`."""
        state, found = await self._engine.ask("feed", after.revision, limit, PAGE_BYTES_MAX)
        return answer_feed(after, limit, state, found)

    async def wait(self, after: int) -> None:
        """See `Store.wait`. Woken by own commits, by the library's messages, and every `CHECK_EVERY_S`."""
        if not self._listens:
            self._listens = True
            self._engine.connections.listen(f"{{{self._engine.address.namespace}}}:wake", self._receive)
        await self._waiter.wait(after)

    def _risen(self) -> None:
        self._waiter.wake(self._engine.seen.revision)

    def _receive(self, message: bytes) -> None:
        """Take a message of the library: the position after a commit."""
        if message == MISSED:
            self._begun = False
            self._waiter.notify(REVISION_MAX)
            return
        epoch, _, rest = message.partition(b".")
        revision = rest.rpartition(b".")[2]
        # Namespaces of one name in several databases share a channel; and any program may send anything there.
        if epoch == self._engine.seen.epoch.encode() and revision.isdigit() and len(revision) <= REVISION_DIGITS_MAX:
            self._notified = max(self._notified, int(revision))
            self._pass_on()

    def _pass_on(self) -> None:
        """End waits if there is a new commit; an own one, which a message tells of before it returns, is not."""
        if not self._publishing and self._notified > self._engine.seen.revision:
            self._waiter.notify(self._notified)

    async def _check(self) -> bool:
        """Read the head; tell whether the store is in trouble."""
        told = self._notified
        try:
            await self.head()
        except (StoreFault, Unavailable):
            return True
        if self._notified == told > self._engine.seen.revision:
            # A message from before the head was read tells of what is not there: any program may send one.
            self._notified = self._engine.seen.revision
        if not self._begun:
            self._begun, self._notified = True, max(self._notified, self._engine.seen.revision)
        elif self._checked > self._notified:
            self._engine.connections.listen_again()
        self._checked = self._engine.seen.revision
        return False

    async def compact(self, *, tombstones: int, keys: int) -> int:
        """See `Store.compact`. Takes several short calls; if cancelled, those done stay done.

        Also goes on with a sweep of images that was cut off.
        """
        self._check_writable()
        while True:
            _, (floor, more) = await self._engine.ask("compact", tombstones, keys, writes=True)
            if not more:
                break
        await sweep_claimed(self._engine)
        return int(floor)

    async def reopen(self) -> Position:
        """See `Store.reopen`. Raises `Unavailable` or `StoreRefused`."""
        self._check_writable()
        position = await open_carried_over(self._engine, self._random)
        self._forget_messages()
        return position

    def _check_writable(self) -> None:
        check_writable(self.name, read_only=self._engine.read_only)

    def _forget_messages(self) -> None:
        self._notified = self._checked = 0
        self._begun = False
        self._waiter.forget()

    async def info(self) -> StoreInfo:
        """See `Store.info`. The size is an estimate of the memory taken, without the indexes of prefixes."""
        _, (topics, tombstones, keys, size_bytes, publishers) = await self._engine.ask("info")
        return StoreInfo(topics, tombstones, keys, size_bytes, publishers, LAYOUT)

    async def dump(self, after: int, limit: int = PAGE_RECORDS_MAX) -> Dump:
        """See `Store.dump`."""
        state, found = await self._engine.ask("dump", after, limit, PAGE_BYTES_MAX)
        return dump_of(after, state, found)

    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        """See `Store.adopt`. Until the last step, the old contents are served."""
        self._check_writable()
        position = await adopt(self._engine, pages, self._random, replace=replace)
        self._forget_messages()
        return position

    async def destroy(self) -> None:
        """See `Store.destroy`. If cut off after the store is gone, its keys stay until the next one is compacted."""
        self._check_writable()
        await destroy(self._engine)
        await self.aclose()

    async def aclose(self) -> None:
        """See `Store.aclose`. Waits for calls under way, `CALL_S` at most; finishes even if cancelled."""
        await self._engine.connections.aclose()
        self._waiter.wake()
