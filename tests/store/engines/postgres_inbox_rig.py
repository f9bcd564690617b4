"""Programs that publish into PostgreSQL's inbox, and the changes that nodes make of it."""

from __future__ import annotations

from typing import Any

from softstate.model import Record
from softstate.position import Position
from softstate.store.postgres.store import PostgresStore
from softstate.wire import decode_value
from tests.store.engines.postgres_rig import PostgresBackend, call

INBOX_MAX = 1_000
"""As in ``functions.sql``."""

INBOX_BYTES_MAX = 4 * 1024 * 1024
"""As in ``functions.sql``."""

REFUSED_MAX = 1_000


class Application:
    """A program with a transaction of its own, which stays open until it says so."""

    def __init__(self, backend: PostgresBackend) -> None:
        self.schema = backend.schema
        self.connection = backend.connect()

    def publish(self, topic: str, json: str = "1") -> None:
        assert call(self.connection, self.schema, "publish", topic, json) == ""

    def delete(self, topic: str) -> None:
        assert call(self.connection, self.schema, "delete", topic) == ""

    def publish_now(self, topic: str, json: str = "1") -> int:
        return int(call(self.connection, self.schema, "publish_now", topic, json))


async def changes(store: PostgresStore, after: Position) -> list[tuple[str, Any]]:
    """List all that was published since, in order, as far as it is not superseded."""
    found: list[Record] = []
    more = True
    while more:
        feed = await store.feed(after)
        found += feed.records
        after, more = feed.upto, feed.more
    return [(record.topic, None if record.cbor is None else decode_value(record.cbor)) for record in found]


def send_large(backend: PostgresBackend, count: int) -> None:
    """Put large values into the inbox: text that does not compress."""
    backend.tell(
        "WITH drawn AS (SELECT left(string_agg(md5(n::text), ''), 65000) AS value"
        " FROM generate_series(1, 2100) AS n)"
        f" SELECT SCHEMA.publish('large/' || i, to_jsonb(value)) FROM drawn, generate_series(1, {count}) AS i"
    )
