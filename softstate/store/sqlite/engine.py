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
from softstate.store.base import LAYOUT, Committed, Dump, Feed, StoreInfo, Write
from softstate.store.rules.dump import published_to
from softstate.store.rules.history import check_seen
from softstate.store.rules.nonce import SYSTEM
from softstate.store.rules.paging import answer_group, dump_page, feed_page, within_cost
from softstate.store.rules.version_index import VersionIndex
from softstate.store.rules.writable import check_writable
from softstate.store.sqlite.audit import audit
from softstate.store.sqlite.compaction import compact
from softstate.store.sqlite.connection import BUSY_S, SqliteFile
from softstate.store.sqlite.dump import replace_contents
from softstate.store.sqlite.errors import CANNOT_WRITE, advised, code_of
from softstate.store.sqlite.migration import migrate
from softstate.store.sqlite.notifications import FileNotifications
from softstate.store.sqlite.schema import examine, prepare, read_layout
from softstate.store.sqlite.snapshot import SqliteSnapshot
from softstate.store.sqlite.state import State, begin_lineage
from softstate.store.sqlite.write import apply_group


class SqliteEngine:
    """One process's view of the file. Every method raises as the method of `Store` that it serves.

    `backup`: a file of an earlier layout is copied before it is carried over to this one.
    """

    def __init__(
        self,
        path: str,
        *,
        random: Random = SYSTEM,
        busy_s: float = BUSY_S,
        read_only: bool = False,
        create: bool = True,
        backup: bool = True,
    ) -> None:
        self.file = SqliteFile(path, busy_s, read_only=read_only, create=create)
        self._random = random
        self._busy_s = busy_s
        self._backup = backup
        self._seen_lock = threading.Lock()
        self._index = VersionIndex()
        self._level: tuple[sqlite3.Connection, int, Position] | None = None
        """The watcher's connection, the ``data_version`` that it saw, and the head as it was read then or later."""
        self.own_head = 0
        """The revision of the last commit of this process."""
        self._read_last: tuple[int, State] | None = None
        self.state = State("")
        """The state as this process has read it last."""
        self._row_due = False
        self._not_begun = ""
        self.seen = Position("", "", 0)
        """The highest position that this process has met; set by both threads, and only raised."""
        self.copied: str | None = None
        """The copy of the file as it was in an earlier layout, if it was carried over by this process."""
        self.notifications = FileNotifications()

    @property
    def unwritten(self) -> str:
        """The reason why the lineage row of the last opening is still to be committed; empty if it is not."""
        return self._not_begun if self._row_due else ""

    def open(self) -> Position:
        """Open the file that the path refers to now, and commit a lineage row. If that fails, nothing is open.

        A file that is open to read only gets no row; the position is that of its newest commit, as it is when the disk
        is full: the row is committed before the first change then. If the file was open, and there is none now,
        or its log was removed and cannot be saved, all stays as it is, and this raises `Unavailable`.
        """
        self.file.prepare_to_close()
        try:
            with self.file.opening() as connection:
                path, begin = self.file.path, not self.file.read_only
                if begin:
                    begin = not prepare(connection, path, self._random, self._busy_s, create=self.file.may_create)
                    if not begin:
                        # A new file is a store by itself from now on: moved without its log, it would pass for empty.
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                    self.copied = migrate(connection, path, backup=self._backup) or self.copied
                state = self._examined(connection, begin=begin)
        except BaseException:
            self.file.close()
            raise
        self._index.clear()
        self._level = None
        self.state = state
        self.seen = state.position
        self.own_head = state.head
        return self.seen

    def _examined(self, connection: sqlite3.Connection, *, begin: bool) -> State:
        """Examine the file in one transaction, and `begin` a lineage with it if there is room."""
        self._row_due = False
        try:
            with transaction(connection, "BEGIN IMMEDIATE" if begin else "BEGIN"):
                state = examine(connection, self.file.path)
                if begin:
                    self._row_due = True
                    state = begin_lineage(connection, state, self._random)
                    connection.execute("COMMIT")
                    self._row_due = False
                return state
        except sqlite3.OperationalError as error:
            if not self._row_due or code_of(error) not in CANNOT_WRITE:
                raise
            self._not_begun = advised(self.file.path, error)
        with transaction(connection, "BEGIN"):
            return examine(connection, self.file.path)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def reopen(self) -> Position:
        """Open the file again: see `open`."""
        self.check_writable()
        return self.open()

    def check_writable(self) -> None:
        """Raise `StoreRefused` if the file was opened to read only."""
        check_writable(self.file.path, read_only=self.file.read_only)

    def _saw(self, position: Position) -> None:
        with self._seen_lock:
            if position.revision > self.seen.revision:
                self.seen = position

    # The thread that writes -----------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, SqliteSnapshot, State]]:
        """Run the body in a write transaction, which is committed if the file is still in its place.

        Yields the snapshot that it began with, and the state, which is newer if the lineage row of this opening had to
        wait until now.
        """
        self.check_writable()
        seen = self.seen
        with self.file.transaction("writer", "BEGIN IMMEDIATE") as connection:
            layout = read_layout(connection)
            snapshot = SqliteSnapshot(connection)
            if layout != LAYOUT:
                raise Unavailable(
                    f"{self.file.path}: its layout has changed to {layout}: stop this node, and install the softstate"
                    " that changed it"
                )
            check_seen(seen, snapshot)
            if snapshot.position.revision > self.own_head:
                # Another process has committed, and `own` forgets what told of it; it may be at it again, too.
                self._saw(snapshot.position)
                self.notifications.doubtful = True
            state = begin_lineage(connection, snapshot.state, self._random) if self._row_due else snapshot.state
            with self.notifications.own():
                yield connection, snapshot, state
                self.file.check_in_place()
                connection.execute("COMMIT")
        self._row_due = False

    def publish(self, group: Sequence[Write], keys_max: int, publishers_max: int) -> Committed:
        """Apply a group of publishes in one transaction."""
        with self._writing() as (connection, snapshot, state):
            judged = apply_group(connection, snapshot, state, group, keys_max, publishers_max)
        position = state.position.at(judged.revision)
        self.own_head = judged.revision
        self._saw(position)
        return Committed(judged.verdicts, state.head, judged.records, position)

    def compact(self, tombstones: int, keys: int, after: int) -> tuple[int, int | None]:
        """Forget a portion; return the floor, and the version to go on after, None when all is done."""
        with self._writing() as (connection, _, state):
            floor, further = compact(connection, state, tombstones, keys, after)
        if further is None:
            with self.file.faults("writer"):
                self.file.log.trim(self.file.connection("writer"))
        return floor, further

    def adopt(self, pages: Iterator[Dump], *, replace: bool) -> Position:
        """Put the dump of another store in place of all that is here, and commit a lineage row."""
        self.file.check_in_place()  # rather than after the last page
        with self._writing() as (connection, snapshot, _):
            if snapshot.published and not replace:
                raise published_to(f"sqlite:{self.file.path}")
            state = begin_lineage(connection, replace_contents(connection, pages), self._random)
        self._index.clear()
        self.own_head = state.head
        self.seen = state.position
        return self.seen

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
            self._forget_index_if_changed(connection, snapshot.state)
            self.state = snapshot.state
            yield snapshot

    def _forget_index_if_changed(self, connection: sqlite3.Connection, state: State) -> None:
        """Forget which versions are where if somebody has changed rows, and was no node: the state is as it was."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._read_last != (version, state):
            if self._read_last is not None and self._read_last[1] == state:
                self._index.clear()
            self._read_last = version, state

    def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """Answer a group of queries from one snapshot, as far as one call may cost."""
        with self._reading() as snapshot:
            begun = within_cost(group)
            snapshot.versions([topic for query in begun for topic in query.topics])
            return answer_group(begun, snapshot)

    def head(self) -> Position:
        """Return the newest position."""
        version = self._version()  # first, so that it tells of no commit that the snapshot does not see
        with self._reading() as snapshot:
            position = snapshot.position
        self._level = None if version is None else (*version, position)
        return position

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
            keys, publishers = snapshot.keys_above(after, limit + 1), snapshot.publishers_above(after, limit + 1)
            return dump_page(after, limit, snapshot, keys, publishers)

    def info(self) -> StoreInfo:
        """Count the contents of the file."""
        with self._reading() as snapshot:
            records, tombstones = (
                self.file.connection("reader")
                .execute("SELECT (SELECT count(*) FROM record), (SELECT count(*) FROM record WHERE value IS NULL)")
                .fetchone()
            )
            state, size = snapshot.state, self.file.size_bytes()
            return StoreInfo(records - tombstones, tombstones, state.keys, size, state.publishers, LAYOUT)

    def audit(self) -> Sequence[str]:
        """Return everything that is wrong with the file."""
        self.file.check_in_place()
        with self.file.transaction("reader", "BEGIN") as connection:
            return audit(connection)

    def in_trouble(self) -> bool:
        """Tell whether the store is in trouble; bring `seen` up to date."""
        try:
            self.head()
        except (StoreFault, Unavailable):
            return True
        return False

    def _version(self) -> tuple[sqlite3.Connection, int] | None:
        """Return ``PRAGMA data_version`` of the watcher, and its connection; None if that cannot be told now."""
        try:
            with self.file.faults("watcher"):
                watcher = self.file.connection("watcher")
                return watcher, _data_version(watcher)
        except Unavailable:
            return None

    # Either the thread that reads, or the loop while that is idle ---------------------------------------------------

    def unchanged(self) -> Position | None:
        """Return the newest position if there was no commit since `head` was called last; None if that is not known.

        Takes 15 µs, reads shared memory only and waits for no lock, so it may be called in the loop: a thread that is
        asked from an idle loop costs 0.5 ms. `PRAGMA data_version` changes when any other connection commits, and the
        watcher's commits nothing itself.
        """
        if self._level is None:
            return None
        watcher, version, position = self._level
        try:
            self.file.check_in_place()
            current = self.file.opened("watcher") is watcher and _data_version(watcher) == version
        except (StoreFault, Unavailable, sqlite3.Error):
            return None
        return position if current else None


def _data_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Run a transaction; it is rolled back unless the body commits."""
    connection.execute(begin)
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
