"""The store in Redis answers as the one in memory does to every sequence of calls: half of its rules are in Lua."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import trio

from softstate.errors import Rewound, SoftstateError
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Applied, Dump, Store, Write
from softstate.store.memory.store import MemoryStore
from softstate.store.redis.store import RedisStore
from tests.store.engines.redis_rig import RedisRig

TOPICS = ("a", "a/b", "a/c", "a/b/d", "b", "b/c", "é/\U0001f600", "a0", "{x}/y", "a/b/e/f")
PREFIXES = (ALL, "a/", "a/b/", "b/", "é/", "{x}/", "z/")
STEPS = 250
STORY = tuple(range(6))
"""Seeds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisRig]:
    rig = RedisRig(tmp_path_factory.mktemp("redis"), appendfsync="no")
    try:
        trio.run(rig.start)
        yield rig
    finally:
        trio.run(rig.aclose)


class Pair:
    """Two stores that the same happens to."""

    def __init__(self, redis: RedisStore, memory: MemoryStore, random: Random) -> None:
        self.redis, self.memory = redis, memory
        self.stores: tuple[Store, Store] = (redis, memory)
        self.random = random
        self.rows: list[tuple[str, str]] = []
        """The nonce of each lineage row, in either store, in order."""

    async def reopen(self) -> None:
        one, other = [await store.reopen() for store in self.stores]
        assert one.revision == other.revision
        self.rows.append((one.lineage, other.lineage))

    def known(self) -> int:
        """Draw a revision that a client may know, mostly."""
        head = self.memory._seen.revision
        return self.random.choice(
            (0, head, head + 1, self.memory.disk.image.floor, *(self.random.randint(0, head) for _ in range(6)))
        )

    def position(self) -> tuple[Position, Position] | tuple[None, None]:
        if self.random.random() < 0.6:
            return None, None
        # No client has seen the revisions that the group itself will make.
        revision, rows = min(self.known(), self.memory._seen.revision), self.random.choice(self.rows)
        epochs = self.redis._engine.seen.epoch, self.memory._seen.epoch
        one, other = (Position(epoch, row, revision) for epoch, row in zip(epochs, rows, strict=True))
        return one, other

    def publishes(self) -> tuple[list[Write], list[Write]]:
        groups: tuple[list[Write], list[Write]] = ([], [])
        for _ in range(self.random.randint(0, 6)):
            topic, keyed = self.random.choice(TOPICS), self.random.random() < 0.4
            cbor = None if self.random.random() < 0.3 else bytes(self.random.randint(1, 200))
            expect = self.known() if self.random.random() < 0.4 else None
            key, digest = (str(self.random.randint(0, 3)), bytes([self.random.randint(0, 1)])) if keyed else (None, b"")
            for group, witness in zip(groups, self.position(), strict=True):
                group.append(Write(topic, cbor, expect, witness, key, digest))
        return groups

    def queries(self) -> tuple[list[Query], list[Query]]:
        groups: tuple[list[Query], list[Query]] = ([], [])
        random = self.random
        for _ in range(random.randint(1, 4)):
            topics = {topic: self.known() for topic in random.sample((*TOPICS, "never"), random.randint(0, 5))}
            prefixes = {prefix: self.known() for prefix in random.sample(PREFIXES, random.randint(0, 4))}
            if random.random() < 0.5:
                topics, prefixes = dict.fromkeys(topics, 0), dict.fromkeys(prefixes, 0)
            after = self.known() if random.random() < 0.4 else 0
            listed = self.known() if after and random.random() < 0.5 else None
            limit, limit_bytes = random.choice((1, 2, 3, 1024)), random.choice((1, 150, 100_000))
            for group, witness in zip(groups, self.position(), strict=True):
                group.append(Query(topics, prefixes, witness, after, listed, limit, limit_bytes))
        return groups


def shape(found: Any) -> Any:
    """Return what must be alike of an answer: all but epochs and nonces."""
    if isinstance(found, Page):
        records = list(found.records)
        return found.position.revision, found.floor, records, found.more, list(found.compacted), found.restart
    if isinstance(found, Rewound):
        assert found.position is not None
        return "rewound", found.position.revision
    if isinstance(found, SoftstateError):
        return type(found), str(found), getattr(found, "current", None)
    if isinstance(found, Dump):
        return (
            found.upto,
            found.more,
            found.floor,
            list(found.records),
            list(found.keys),
            [r.revision for r in found.rows],
        )
    assert isinstance(found, Applied | Record), found
    return found


@pytest.mark.parametrize("seed", STORY)
async def test_agrees_with_the_memory_store(server: RedisRig, seed: int) -> None:
    random = Random(seed)
    server.namespace = f"alike{seed}"
    redis, memory = await server.open(keys_max=6), MemoryStore(keys_max=6)
    pair = Pair(redis, memory, random)
    pair.rows.append(((await redis.head()).lineage, (await memory.head()).lineage))
    for _ in range(STEPS):
        step = random.random()
        if step < 0.45:
            ours, theirs = pair.publishes()
            one, other = await redis.publish(ours), await memory.publish(theirs)
            assert list(map(shape, one.verdicts)) == list(map(shape, other.verdicts))
            assert (one.before, list(one.records)) == (other.before, list(other.records))
            assert one.position.revision == other.position.revision
        elif step < 0.85:
            ours_read, theirs_read = pair.queries()
            pages = zip(ours_read, await redis.read(ours_read), await memory.read(theirs_read), strict=True)
            for query, found, wanted in pages:
                assert shape(found) == shape(wanted), query
        elif step < 0.9:
            upto = {"tombstones": pair.known(), "keys": pair.known()}
            assert await redis.compact(**upto) == await memory.compact(**upto)
        elif step < 0.93:
            await pair.reopen()
        elif step < 0.96:
            after, limit = pair.known(), random.choice((1, 3, 1024))
            assert shape(await redis.dump(after, limit)) == shape(await memory.dump(after, limit))
        else:
            await feeds_alike(pair)
        info, wanted_info = await redis.info(), await memory.info()
        assert (info.topics, info.tombstones, info.keys) == (
            wanted_info.topics,
            wanted_info.tombstones,
            wanted_info.keys,
        )
    await redis.aclose()


async def feeds_alike(pair: Pair) -> None:
    revision, limit = pair.known(), pair.random.choice((1, 3, 1024))
    found: list[object] = []
    for store in pair.stores:
        (lineage,) = await store.lineage_at([revision])
        position = Position((await store.head()).epoch, lineage or "none", revision)
        try:
            feed = await store.feed(position, limit)
        except SoftstateError as error:
            found.append(type(error))
        else:
            rows = [row.revision for row in feed.lineages]
            found.append((list(feed.records), rows, feed.upto.revision, feed.more))
    assert found[0] == found[1]
