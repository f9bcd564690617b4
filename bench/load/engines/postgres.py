"""The protocol of PostgreSQL, by libpq: an upsert, alone or with ``pg_notify`` in one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import pq
from psycopg.conninfo import make_conninfo

from bench.load.engines.dialect import Dialect, Listener, Writer
from bench.load.process import LoadFailed
from softstate.store.postgres.url import read_address

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult


class Postgres(Dialect):
    """Tables ``MARK_told`` and ``MARK_bare``, and the channel ``MARK``."""

    def __init__(self, url: str, mark: str) -> None:
        self._conninfo = make_conninfo(**read_address(url).parameters)
        self._mark = mark
        self._run(*(f"CREATE TABLE {table} (topic int PRIMARY KEY, value text)" for table in self._tables))

    @property
    def _tables(self) -> list[str]:
        return [f"{self._mark}_told", f"{self._mark}_bare"]

    def writer(self) -> PostgresWriter:
        """Connect and prepare both statements."""
        connection = self._connect()
        told, bare = self._tables
        put = "INSERT INTO {} VALUES ($1, $2) ON CONFLICT (topic) DO UPDATE SET value = excluded.value"
        tell = f"WITH put AS ({put.format(told)}) SELECT pg_notify('{self._mark}', $2)"
        for name, statement in ((b"told", tell), (b"bare", put.format(bare))):
            _check(connection.prepare(name, statement.encode()))
        return PostgresWriter(connection)

    def listener(self) -> PostgresListener:
        """Connect and ``LISTEN``."""
        connection = self._connect()
        _check(connection.exec_(f"LISTEN {self._mark}".encode()))
        return PostgresListener(connection)

    def clear(self) -> None:
        """Drop the tables."""
        self._run(*(f"DROP TABLE {table}" for table in self._tables))

    def _run(self, *statements: str) -> None:
        connection = self._connect()
        for statement in statements:
            _check(connection.exec_(statement.encode()))
        connection.finish()

    def _connect(self) -> PGconn:
        connection = pq.PGconn.connect(self._conninfo.encode())
        if connection.status != pq.ConnStatus.OK:
            raise LoadFailed(f"PostgreSQL: {connection.get_error_message()}")
        return connection


def _check(result: PGresult) -> None:
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        raise LoadFailed(f"PostgreSQL: {result.get_error_message()}")


class PostgresWriter(Writer):
    """One prepared statement, which is one transaction and is answered when its commit is on disk."""

    def __init__(self, connection: PGconn) -> None:
        self.fd = connection.socket
        self._connection = connection

    def write(self, topic: int, value: bytes, *, tell: bool) -> None:
        """Execute the prepared statement."""
        self._connection.send_query_prepared(b"told" if tell else b"bare", [b"%d" % topic, value])

    def acknowledged(self) -> bool:
        """Receive, and check the result when it is complete."""
        connection = self._connection
        connection.consume_input()
        if connection.is_busy():
            return False
        while (result := connection.get_result()) is not None:
            _check(result)
        return True


class PostgresListener(Listener):
    """A connection that only listens."""

    def __init__(self, connection: PGconn) -> None:
        self.fd = connection.socket
        self._connection = connection

    def values(self) -> list[bytes]:
        """Receive, and return the payloads of notifications."""
        self._connection.consume_input()
        values = []
        while (notice := self._connection.notifies()) is not None:
            values.append(bytes(notice.extra))
        return values
