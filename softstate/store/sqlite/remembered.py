"""The rows of idempotency keys and of publishers, by which a request may be repeated.

A damaged row counts as absent: a repeated request is then applied again, as if it had been forgotten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from softstate.store.base import Key, Publisher
from softstate.store.rules.publishers import pack, unpack
from softstate.store.sqlite.state import seal_of

KEY_COLUMNS = "topic, key, digest, version, checksum"
PUBLISHER_COLUMNS = "publisher, settled, touched, uses, checksum"


def key_row(key: Key) -> tuple[Any, ...]:
    """Return the row of a key, in the order of `KEY_COLUMNS`."""
    fields = (key.topic, key.key, key.digest, key.version)
    return *fields, seal_of(*fields)


def read_key(row: tuple[Any, ...]) -> Key | None:
    """Return the key of a row with `KEY_COLUMNS`, None if it is damaged."""
    *fields, stored = row
    topic, key, digest, version = fields
    if type(topic) is not bytes or type(key) is not bytes or type(digest) is not bytes or type(version) is not int:
        return None
    if stored != seal_of(*fields):
        return None
    return Key(topic.decode(), key.decode(), digest, version)


def publisher_row(publisher: Publisher) -> tuple[Any, ...]:
    """Return the row of a publisher, in the order of `PUBLISHER_COLUMNS`."""
    fields = (publisher.publisher, publisher.settled, publisher.touched, pack(publisher.uses))
    return *fields, seal_of(*fields)


def read_publisher(row: tuple[Any, ...]) -> Publisher | None:
    """Return the publisher of a row with `PUBLISHER_COLUMNS`, None if it is damaged."""
    *fields, stored = row
    name, settled, touched, uses = fields
    if type(name) is not bytes or type(settled) is not int or type(touched) is not int or type(uses) is not bytes:
        return None
    if stored != seal_of(*fields):
        return None
    return Publisher(name.decode(), settled, touched, unpack(uses))


def keys_above(connection: sqlite3.Connection, after: int) -> Iterator[Key]:
    """Yield the keys made above `after`, in revision order."""
    rows = connection.execute(f"SELECT {KEY_COLUMNS} FROM used_key WHERE version > ? ORDER BY version", (after,))
    for row in rows:
        key = read_key(row)
        if key is not None:
            yield key


def publishers_above(connection: sqlite3.Connection, after: int) -> Iterator[Publisher]:
    """Yield the publishers touched above `after`, in that order."""
    rows = connection.execute(f"SELECT {PUBLISHER_COLUMNS} FROM publisher WHERE touched > ? ORDER BY touched", (after,))
    for row in rows:
        publisher = read_publisher(row)
        if publisher is not None:
            yield publisher
