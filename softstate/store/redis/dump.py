"""Dumping a store in Redis, and building one from a dump."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from random import Random
from typing import Any, TypeAlias

from softstate.position import Position
from softstate.store.base import Dump, Key, Publisher, Use
from softstate.store.redis.engine import RedisEngine
from softstate.store.redis.schema import StoreState, text
from softstate.store.redis.snapshot import end_of, is_text, records_of, rows_of, unranked_records
from softstate.store.redis.write import key_name
from softstate.store.remote.encoding import to_stored
from softstate.store.rules.dump import check_joined
from softstate.store.rules.nonce import lineage_nonce

STAGED_MAX = 1024
"""How many records, keys or rows one call stages at most."""

StagedRecord: TypeAlias = tuple[str | bytes, int, bytes, int]
"""Topic, version, stored value, and 1, or 0 if it is unreadable."""

SWEEP_COUNT = 1000
"""How many keys of the server one step of sweeping looks at."""


def dump_of(after: int, state: StoreState, found: Sequence[Any]) -> Dump:
    """Return a page of a dump from the library's answer.

    All that is damaged but records may be left out of it, so no number of rows, keys or publishers tells where it ends.
    """
    more, flat, row_items, key_items, publisher_items, unranked, logged_upto = found
    head = state.position.revision
    records = [record for record in records_of(flat, head) if record is not None]
    rows = rows_of(row_items, state.position.epoch)
    keys = keys_of(key_items)
    publishers = _publishers_of(publisher_items)
    ends = [head, logged_upto]
    if more:
        ends.append(end_of(flat))
    upto = min(ends)
    assert upto > after or upto == head, "else the dump would not end"
    return Dump(
        after,
        state.position,
        state.floor,
        [row for row in rows if row.revision <= upto],
        [*unranked_records(unranked), *(record for record in records if after < record.version <= upto)],
        [key for key in keys if key.version <= upto],
        upto,
        upto < head,
        [publisher for publisher in publishers if publisher.touched <= upto],
    )


def _publishers_of(flat: Sequence[Any]) -> list[Publisher]:
    publishers = []
    for index in range(0, len(flat), 4):
        name, settled, touched, parts = flat[index : index + 4]
        uses = {parts[at]: Use(parts[at + 3], parts[at + 1], bool(parts[at + 2])) for at in range(0, len(parts), 4)}
        publishers.append(Publisher(text(name), settled, touched, uses))
    return publishers


def keys_of(flat: Sequence[Any]) -> list[Key]:
    """Return keys from the name, digest and version of each. A name that is no text is none of ours."""
    keys = []
    for index in range(0, len(flat), 3):
        if is_text(flat[index]):
            topic, _, key = text(flat[index]).partition("\0")
            keys.append(Key(topic, key, flat[index + 1], flat[index + 2]))
    return keys


async def adopt(engine: RedisEngine, pages: AsyncIterator[Dump], random: Random, *, replace: bool) -> Position:
    """Build an image from the pages, put it in place of the one that is there, and sweep away what is not in use.

    If cancelled or cut off before that step, the image is debris that the next call of this sweeps; after it, the old
    image is swept by the next compaction too. See `Store.adopt`.
    """
    await sweep(engine)
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
    await sweep(engine)
    return position


async def destroy(engine: RedisEngine) -> None:
    """Delete the store, at once for all nodes, then its keys, in steps."""
    await engine.call("destroy")
    await sweep(engine)


async def _stage(engine: RedisEngine, image: str, page: Dump) -> None:
    records = [
        (record.topic, record.version, to_stored(record.cbor), 0 if record.unreadable else 1) for record in page.records
    ]
    await stage(engine, "stage", image, page.rows, page.keys, page.publishers, records)


async def stage(
    engine: RedisEngine,
    function: str,
    image: str,
    rows: Sequence[Position],
    keys: Sequence[Key],
    publishers: Sequence[Publisher],
    records: Sequence[StagedRecord],
) -> None:
    """Add rows, keys, publishers and records to an image, `STAGED_MAX` of each at a time."""
    longest = max(map(len, (rows, keys, publishers, records)))
    for first in range(0, longest, STAGED_MAX):
        part = slice(first, first + STAGED_MAX)
        arguments: list[bytes | str | int] = [image, len(rows[part])]
        for row in rows[part]:
            arguments += (row.revision, row.lineage)
        arguments.append(len(keys[part]))
        for key in keys[part]:
            arguments += (key_name(key.topic, key.key), key.digest, key.version)
        arguments.append(len(publishers[part]))
        for publisher in publishers[part]:
            arguments += (publisher.publisher, publisher.settled, publisher.touched, len(publisher.uses))
            for seq, use in publisher.uses.items():
                arguments += (seq, use.version, int(use.changed), use.digest)
        for record in records[part]:
            arguments += record
        await engine.call(function, *arguments)


async def sweep(engine: RedisEngine) -> None:
    """Delete every image that is not the store's, one that another program is building too: that program is told.

    An image is moved out of those that may be put in place before any of its keys is deleted, so none that is deleted
    becomes the store's. If cut off, `sweep_claimed` goes on with it.
    """
    at = f"{{{engine.address.namespace}}}:"
    send = engine.connections.send
    for image in await engine.run(partial(send, b"SMEMBERS", f"{at}debris")):
        # Without effect if it has just been put in place, or claimed by another sweep.
        await engine.run(partial(send, b"SMOVE", f"{at}debris", f"{at}swept", image))
    await sweep_claimed(engine)


async def sweep_claimed(engine: RedisEngine) -> None:
    """Delete the images that no program can put in place any more, in steps that look at `SWEEP_COUNT` keys each.

    Several programs may do so at once. If cut off, the next call goes on.
    """
    at = f"{{{engine.address.namespace}}}:"
    send = engine.connections.send
    for image in await engine.run(partial(send, b"SMEMBERS", f"{at}swept")):
        if image.isalnum():  # as every name of an image is; what another program has put there names no keys of ours
            await _delete_keys(engine, f"{at}{text(image)}:*")
        await engine.run(partial(send, b"SREM", f"{at}swept", image))


async def _delete_keys(engine: RedisEngine, pattern: str) -> None:
    send, cursor = engine.connections.send, b"0"
    while True:
        scan = partial(send, b"SCAN", cursor, "MATCH", pattern, "COUNT", SWEEP_COUNT)
        cursor, names = await engine.run(scan)
        if names:
            await engine.run(partial(send, b"UNLINK", *names))
        if cursor == b"0":
            return
