"""Carrying a store of layout 1, of November 2026, over to this layout.

The old image is read page by page and built again aside, with sums; one call puts the new one in its place. Nothing is
lost if it is cut off: the image aside is swept away by the next attempt, which begins again. The old image stays until
then, so that no backup has to be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from softstate.errors import StoreRefused, Unavailable
from softstate.model import PAGE_BYTES_MAX
from softstate.position import Position
from softstate.store.redis.dump import StagedRecord, keys_of, stage, sweep
from softstate.store.redis.engine import RedisEngine
from softstate.store.redis.snapshot import is_text, rows_of
from softstate.store.remote.encoding import MAGIC, TOMBSTONE, recovered
from softstate.store.rules.nonce import lineage_nonce

PAGE_RECORDS = 512
"""Records of the old image that one call reads."""


async def open_carried_over(engine: RedisEngine, random: Random) -> Position:
    """Open a store, carried over first if it has layout 1; return its position. Raises as `RedisEngine.open` does."""
    position = await engine.open()
    if position is None:
        await carry_over(engine, random)
        position = await engine.open()
    if position is None:
        raise Unavailable(f"{engine.address.name} was put back while it was carried over: try again")
    return position


async def carry_over(engine: RedisEngine, random: Random) -> None:
    """Build the image of a store of layout 1 again in this layout, and put it in place.

    Raises `Unavailable` when something was published meanwhile, or another program has carried the store over;
    `StoreRefused` when a lineage row is damaged.
    """
    await sweep(engine)
    image = lineage_nonce(random)
    await engine.call("old_begin", image)
    after, more = 0, True
    while more:
        epoch, head, _, upto, flat, row_items, key_items = await engine.call(
            "old", after, PAGE_RECORDS, PAGE_BYTES_MAX, writes=False
        )
        rows = _rows_of(row_items, epoch, engine.address.name)
        keys = keys_of(key_items)
        if len(rows) > PAGE_RECORDS:
            upto = min(upto, rows[PAGE_RECORDS - 1].revision)
        records = [record for record in _records_of(flat) if after < record[1] <= upto]
        await stage(
            engine,
            "old_stage",
            image,
            [row for row in rows if row.revision <= upto],
            [key for key in keys if key.version <= upto],
            (),
            records,
        )
        after, more = upto, upto < head
    await engine.call("carry_over", image, after)
    await sweep(engine)


def _rows_of(flat: Sequence[bytes], epoch: bytes, name: str) -> list[Position]:
    """Return lineage rows from nonce and revision of each, the latter as text."""
    sound = (
        is_text(epoch) and all(is_text(nonce) for nonce in flat[::2]) and all(start.isdigit() for start in flat[1::2])
    )
    if not sound:
        raise StoreRefused(f"{name} is damaged, a lineage row or its epoch is none: restore a backup")
    return rows_of(flat, epoch.decode())


def _records_of(flat: Sequence[Any]) -> list[StagedRecord]:
    """Return what is to be staged; a value that cannot be read becomes an unreadable record, not the end of all."""
    records: list[StagedRecord] = []
    for index in range(0, len(flat), 4):
        topic, version, stored, whole = flat[index : index + 4]
        if not is_text(topic):
            continue
        if version < 0 and whole:
            records.append((topic, -version, TOMBSTONE, 1))
            continue
        cbor = recovered(stored or b"") if whole else None
        if cbor is None:
            records.append((topic, abs(version), stored or MAGIC, 0))
        else:
            records.append((topic, version, MAGIC + cbor, 1))
    return records
