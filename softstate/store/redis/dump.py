"""Dumping a store in Redis, and building one from a dump."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

from softstate.position import Position
from softstate.store.base import Dump, Key
from softstate.store.redis.engine import RedisEngine
from softstate.store.redis.schema import StoreState, text
from softstate.store.redis.snapshot import records_of, rows_of
from softstate.store.redis.write import key_name
from softstate.store.remote.encoding import to_stored
from softstate.store.rules.dump import check_joined
from softstate.store.rules.nonce import lineage_nonce

STAGED_MAX = 1024
"""How many records, keys or rows one call stages at most."""

SWEEP_COUNT = 1000
"""How many keys of the server one step of sweeping looks at."""


def dump_of(after: int, limit: int, state: StoreState, found: Sequence[Any]) -> Dump:
    """Return a page of a dump from the library's answer, which has one more of everything than the page if it can."""
    more, flat, row_items, key_items = found
    records = records_of(flat)
    rows = rows_of(row_items, state.position.epoch)
    keys = _keys_of(key_items)
    ends = [state.position.revision]
    if more:
        ends.append(records[-2].version)
    if len(rows) > limit:
        ends.append(rows[limit - 1].revision)
    if len(keys) > limit:
        ends.append(keys[limit - 1].version)
    upto = min(ends)
    return Dump(
        after,
        state.position,
        state.floor,
        [row for row in rows if row.revision <= upto],
        [record for record in records if record.version <= upto],
        [key for key in keys if key.version <= upto],
        upto,
        upto < state.position.revision,
    )


def _keys_of(flat: Sequence[Any]) -> list[Key]:
    keys = []
    for index in range(0, len(flat), 3):
        topic, _, key = text(flat[index]).partition("\0")
        keys.append(Key(topic, key, flat[index + 1], flat[index + 2]))
    return keys


async def adopt(engine: RedisEngine, pages: AsyncIterator[Dump], random: Random, *, replace: bool) -> Position:
    """Build an image from the pages, put it in place of the one that is there, and sweep away what is not in use.

    If cancelled or cut off before that step, the image is debris that the next call of this sweeps. See `Store.adopt`.
    """
    await _sweep(engine)
    image = ""
    last: Dump | None = None
    async for page in pages:
        check_joined(last, page)
        if not page.after:
            image = lineage_nonce(random)
            await engine.call("begin", image)
        await _stage(engine, image, page)
        last = page
    check_joined(last, None)
    assert last is not None
    (answer,) = await engine.call(
        "adopt", image, last.position.epoch, last.position.revision, last.floor, "1" if replace else "0"
    )
    position = engine.begin_at(StoreState.read(answer).position)
    await _sweep(engine)
    return position


async def destroy(engine: RedisEngine) -> None:
    """Delete the store, at once for all nodes, then its keys, in steps."""
    await engine.call("destroy")
    await _sweep(engine)


async def _stage(engine: RedisEngine, image: str, page: Dump) -> None:
    rows, keys, records = list(page.rows), list(page.keys), list(page.records)
    while rows or keys or records:
        some_rows, rows = rows[:STAGED_MAX], rows[STAGED_MAX:]
        some_keys, keys = keys[:STAGED_MAX], keys[STAGED_MAX:]
        some_records, records = records[:STAGED_MAX], records[STAGED_MAX:]
        arguments: list[bytes | str | int] = [image, len(some_rows)]
        for row in some_rows:
            arguments += (row.revision, row.lineage)
        arguments.append(len(some_keys))
        for key in some_keys:
            arguments += (key_name(key.topic, key.key), key.digest, key.version)
        for record in some_records:
            arguments += (record.topic, record.version, to_stored(record.cbor))
        await engine.call("stage", *arguments)


async def _sweep(engine: RedisEngine) -> None:
    """Delete every image that is not the store's, in steps that look at `SWEEP_COUNT` keys each."""
    at = f"{{{engine.address.namespace}}}:"
    send = engine.connections.send
    for image in await engine.run(lambda: send(b"SMEMBERS", f"{at}debris")):
        cursor = b"0"
        while True:
            cursor, names = await engine.run(
                lambda: send(b"SCAN", cursor, "MATCH", f"{at}{text(image)}:*", "COUNT", SWEEP_COUNT)  # noqa: B023
            )
            if names:
                await engine.run(lambda: send(b"UNLINK", *names))  # noqa: B023
            if cursor == b"0":
                break
        await engine.run(lambda: send(b"SREM", f"{at}debris", image))  # noqa: B023
