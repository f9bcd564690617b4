"""Forgetting rows that have grown old, within a transaction that holds the counter."""

from __future__ import annotations

from dataclasses import dataclass

from softstate.store.limits import COMPACT_ROWS
from softstate.store.postgres.connection import Connection

_OLDEST = (
    "SELECT coalesce(max(version), 0), count(*) FROM (SELECT version FROM topic WHERE value IS NULL AND version > 0"
    " AND checksum = checksum(topic, version, NULL) AND version <= %s ORDER BY version LIMIT %s) AS oldest"
)
"""A row that has lost its value is no tombstone: it stays, or its topic would count as deleted."""

_BURY = (
    "DELETE FROM topic WHERE value IS NULL AND version > 0 AND checksum = checksum(topic, version, NULL)"
    " AND version <= %s"
)

_FORGET_KEYS = (
    "DELETE FROM idempotency WHERE (topic, key) IN"
    " ((SELECT topic, key FROM idempotency WHERE version <= %s ORDER BY version LIMIT %s)"
    " UNION ALL (SELECT topic, key FROM idempotency WHERE version > %s LIMIT %s))"
)

_FORGET_PUBLISHERS = (
    "DELETE FROM publisher WHERE publisher IN"
    " ((SELECT publisher FROM publisher WHERE touched <= %s ORDER BY touched LIMIT %s)"
    " UNION ALL (SELECT publisher FROM publisher WHERE touched > %s LIMIT %s))"
)
"""Those touched above the head were damaged, and would never age; keys likewise."""

_FORGET_LINEAGES = "DELETE FROM lineage WHERE start < (SELECT max(start) FROM lineage WHERE start <= %s)"
"""Below the floor no position is asked about but by a client that was away for longer than tombstones are kept."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The floor from now on, how many keys and publishers are gone, whether any row is, and if more are old."""

    floor: int
    keys: int
    publishers: int
    any: bool
    more: bool


def forget(connection: Connection, *, head: int, floor: int, tombstones: int, keys: int) -> Forgotten:
    """Delete tombstones, keys and publishers as old as the revisions given, about `COMPACT_ROWS` of each.

    And the lineage rows below the floor, but the one in force there.
    """
    row = connection.execute(_OLDEST, (min(tombstones, head), COMPACT_ROWS)).fetchone()
    assert row is not None
    newest, buried = row
    if buried:
        connection.execute(_BURY, (newest,))
        floor = max(floor, newest)
    expired = connection.execute(_FORGET_KEYS, (keys, COMPACT_ROWS, head, COMPACT_ROWS)).rowcount
    silent = connection.execute(_FORGET_PUBLISHERS, (keys, COMPACT_ROWS, head, COMPACT_ROWS)).rowcount
    passed = connection.execute(_FORGET_LINEAGES, (floor,)).rowcount
    return Forgotten(
        floor,
        expired,
        silent,
        any=buried + expired + silent + passed > 0,
        more=max(buried, expired, silent) >= COMPACT_ROWS,
    )
