"""Forgetting tombstones, what is remembered of requests, and lineage rows, within a write transaction."""

from __future__ import annotations

import sqlite3

from softstate.store.limits import COMPACT_ROWS
from softstate.store.sqlite.rows import fetch
from softstate.store.sqlite.snapshot import as_json
from softstate.store.sqlite.state import State, seal, sum_of, write_state


def compact(
    connection: sqlite3.Connection, state: State, tombstones: int, keys: int, after: int
) -> tuple[int, int | None]:
    """Forget `COMPACT_ROWS` of each at most: tombstones from `after` to `tombstones`, keys and publishers to `keys`.

    Returns the floor, and the version to go on after, None when all is done. A row that only looks like a tombstone
    stays: to forget it would be to delete its topic.
    """
    looked_at = fetch(
        connection, state.head, "value IS NULL AND version > ? AND version <= ?", (after, tombstones), COMPACT_ROWS
    )
    buried = [record for _, record in looked_at if record is not None and record.deleted]
    floor = state.floor
    if buried:
        versions = as_json([record.version for record in buried])
        connection.execute("DELETE FROM record WHERE version IN (SELECT value FROM json_each(?))", (versions,))
        floor = max(floor, buried[-1].version)
    expired = connection.execute(
        "DELETE FROM used_key WHERE version IN"
        " (SELECT version FROM used_key WHERE version <= ? ORDER BY version LIMIT ?)",
        (keys, COMPACT_ROWS),
    ).rowcount
    silent = connection.execute(
        "DELETE FROM publisher WHERE rowid IN"
        " (SELECT rowid FROM publisher WHERE touched <= ? ORDER BY touched LIMIT ?)",
        (keys, COMPACT_ROWS),
    ).rowcount
    ended = connection.execute(
        "DELETE FROM history WHERE start < (SELECT max(start) FROM history WHERE start <= ?)", (floor,)
    ).rowcount
    changed = state._replace(
        floor=floor,
        keys=max(0, state.keys - expired),
        publishers=max(0, state.publishers - silent),
        lineages=state.lineages - ended,
        records=state.records - len(buried),
        total=sum_of(state.total, removed=[seal(record.topic, record.version, None) for record in buried]),
    )
    if changed != state:
        write_state(connection, changed)
    more = COMPACT_ROWS in (len(looked_at), expired, silent)
    return floor, (looked_at[-1][0] if looked_at else after) if more else None
