"""The SQLite store without the waiting: every transaction as an ordinary function.

Two threads may be in here at once: one that publishes and compacts, one that does all else. `open` and `close` need
both to be idle.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from softstate.errors import Rewound, StoreFault, Unavailable
from softstate.model import Page, Query
from softstate.position import Position
from softstate.store.base import Committed, Dump, Feed, StoreInfo, Write
from softstate.store.limits import COMPACT_ROWS
from softstate.store.rules.dump import published_to
from softstate.store.rules.history import check_seen
from softstate.store.rules.nonce import SYSTEM
from softstate.store.rules.paging import answer_group, dump_page, feed_page, within_cost
from softstate.store.rules.version_index import VersionIndex
from softstate.store.sqlite.connection import BUSY_S, SqliteFile
from softstate.store.sqlite.dump import replace_contents
from softstate.store.sqlite.place import Stamp
from softstate.store.sqlite.schema import begin_lineage, claim, examine
from softstate.store.sqlite.snapshot import SqliteSnapshot
from softstate.store.sqlite.write import apply_group


class SqliteEngine:
    """One process's view of the file. Every method raises as the method of `Store` that it serves."""

    def __init__(
        self,
        path: str,
        *,
        keys_max: int,
        random: Random = SYSTEM,
        busy_s: float = BUSY_S,
        read_only: bool = False,
        create: bool = True,
    ) -> None:
        self.file = SqliteFile(path, busy_s, read_only=read_only, create=create)
        self._keys_max = keys_max
        self._random = random
        self._busy_s = busy_s
        self._seen_lock = threading.Lock()
        self._index = VersionIndex()
        self._checked: tuple[sqlite3.Connection, int] | None = None
        self.seen = Position("", "", 0)
        """The highest position that this process has met; set by both threads, and only raised."""
        self.stamp: Stamp | None = None
        """That of the files just after this process's last commit."""

    def open(self) -> Position:
        """Open the file that the path refers to now, and commit a lineage row. If that fails, nothing is open.

        A file that is open to read only gets no row; the position is that of its newest commit. If the file was open,
        and there is none now, all stays as it is, and this raises `Unavailable`.
        """
        self.file.check_not_gone()
        try:
            with self.file.opening() as connection:
                if self.file.read_only:
                    position = examine(connection, self.file.path)
                else:
                    position = claim(
                        connection, self.file.path, self._random, self._busy_s, create=self.file.may_create
                    )
        except BaseException:
            self.file.close()
            raise
        self._index.clear()
        self.seen = position
        return position

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _saw(self, position: Position) -> None:
        with self._seen_lock:
            if position.revision > self.seen.revision:
                self.seen = position

    # The thread that writes -----------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, SqliteSnapshot]]:
        """Run the body in a write transaction, which is committed if the file is still in its place."""
        seen = self.seen
        with self.file.transaction("writer", "BEGIN IMMEDIATE") as connection:
            snapshot = SqliteSnapshot(connection)
            check_seen(seen, snapshot)
            yield connection, snapshot
            self.file.check_in_place()
            connection.execute("COMMIT")
        self.stamp = self.file.stamp()

    def publish(self, group: Sequence[Write]) -> Committed:
        """Apply a group of publishes in one transaction."""
        with self._writing() as (connection, snapshot):
            judged = apply_group(connection, snapshot, group, self._keys_max)
        position = snapshot.position.at(judged.revision)
        self._saw(position)
        return Committed(judged.verdicts, snapshot.position.revision, judged.records, position)

    def compact(self, tombstones: int, keys: int) -> tuple[int, bool]:
        """Forget `COMPACT_ROWS` tombstones and as many keys at most; return the floor, and whether to go on."""
        with self._writing() as (connection, snapshot):
            floor = snapshot.floor
            newest, buried = connection.execute(
                "SELECT ifnull(max(version), 0), count(*) FROM (SELECT version FROM topic"
                " WHERE value IS NULL AND version <= ? ORDER BY version LIMIT ?)",
                (tombstones, COMPACT_ROWS),
            ).fetchone()
            if buried:
                connection.execute("DELETE FROM topic WHERE value IS NULL AND version <= ?", (newest,))
                floor = max(floor, newest)
            expired = connection.execute(
                "DELETE FROM idempotency WHERE version IN"
                " (SELECT version FROM idempotency WHERE version <= ? ORDER BY version LIMIT ?)",
                (keys, COMPACT_ROWS),
            ).rowcount
            if buried or expired:
                connection.execute("UPDATE meta SET floor = ?, keys = keys - ?", (floor, expired))
        more = COMPACT_ROWS in (buried, expired)
        if not more:
            with self.file.faults("writer"):
                self.file.log.trim(self.file.connection("writer"))
        return floor, more

    def adopt(self, pages: Iterator[Dump], *, replace: bool) -> Position:
        """Put the dump of another store in place of all that is here, and commit a lineage row."""
        self.file.check_in_place()  # rather than after the last page
        with self._writing() as (connection, snapshot):
            if snapshot.published and not replace:
                raise published_to(f"sqlite:{self.file.path}")
            replace_contents(connection, pages)
            position = begin_lineage(connection, self._random)
        self._index.clear()
        self.seen = position
        return position

    # The thread that reads ------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[SqliteSnapshot]:
        # Noted before the snapshot begins: the other thread may commit at any moment.
        seen = self.seen
        self.file.check_in_place()
        with self.file.transaction("reader", "BEGIN") as connection:
            snapshot = SqliteSnapshot(connection, self._index)
            check_seen(seen, snapshot)
            self._saw(snapshot.position)
            yield snapshot

    def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """Answer a group of queries from one snapshot, as far as one call may cost."""
        with self._reading() as snapshot:
            begun = within_cost(group)
            snapshot.versions([topic for query in begun for topic in query.topics])
            return answer_group(begun, snapshot)

    def head(self) -> Position:
        """Return the newest position."""
        with self._reading() as snapshot:
            return snapshot.position

    def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        """Return the lineage in force at each revision."""
        with self._reading() as snapshot:
            return list(map(snapshot.lineage_at, revisions))

    def feed(self, after: Position, limit: int) -> Feed:
        """Return a page of the change feed."""
        with self._reading() as snapshot:
            return feed_page(after, limit, snapshot)

    def dump(self, after: int, limit: int) -> Dump:
        """Return a page of all that the file holds."""
        with self._reading() as snapshot:
            return dump_page(after, limit, snapshot, snapshot.keys_above(after, limit + 1))

    def info(self) -> StoreInfo:
        """Count the contents of the file."""
        with self._reading() as snapshot:
            records, tombstones = (
                self.file.connection("reader")
                .execute("SELECT (SELECT count(*) FROM topic), (SELECT count(*) FROM topic WHERE value IS NULL)")
                .fetchone()
            )
            return StoreInfo(records - tombstones, tombstones, snapshot.keys_held, self.file.size_bytes())

    def in_trouble(self) -> bool:
        """Tell whether the store is in trouble; bring `seen` up to date if another connection has committed.

        `PRAGMA data_version` changes when any other connection commits, and reads no table.
        """
        try:
            self.file.check_in_place()
            with self.file.faults("reader"):
                reader = self.file.connection("reader")
                (version,) = reader.execute("PRAGMA data_version").fetchone()
            if self._checked is None or self._checked != (reader, version):
                self.head()
                self._checked = (reader, version)
        except (StoreFault, Unavailable):
            return True
        return False
