"""Finding a pooler in front of the server that gives each transaction to another of its connections.

A store needs sessions: its settings, its prepared statements and LISTEN belong to one. A pooler of transactions takes
them away in silence, and works nevertheless as long as one client is alone with it. So opening marks the session behind
one connection, and looks for the mark from there and from a second connection, in such an order that a pooler cannot
give both what a session would:

- the mark is gone when it is read again, or another process of the server answers: transactions are pooled;
- the second connection sees the mark of the first: they share a session, by turns;
- while the second keeps a transaction open, the first is asked once more, and has to be given another process.

Both take each part, over `ROUNDS` rounds. One kind is not found here: a pooler that gives every connection the same
process again and again as long as no other wants it, not even when it is the one that was free last. It is found by the
errors of its first mix-up, which `softstate.store.postgres.errors` explains in the same words.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from random import Random

import psycopg

from softstate.errors import StoreRefused
from softstate.store.postgres.connection import Connection, plug_of
from softstate.store.postgres.errors import POOLED
from softstate.store.postgres.url import PostgresAddress
from softstate.store.rules.nonce import lineage_nonce

ROUNDS = 2
"""How often both connections take both parts."""

WAIT_S = 3.0
"""How long the second connection is used at most, in seconds: a pooler may have no process left for it."""

_MARK = "SELECT pg_backend_pid(), set_config('softstate.session', %s, false)"
_BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0"
_READ = "SELECT pg_backend_pid(), current_setting('softstate.session', true)"


class _Marked:
    """One connection, with the mark that its session got and the process that it got it from."""

    def __init__(self, connection: Connection, mark: str) -> None:
        self.connection = connection
        self.mark = mark
        self._process = 0

    def set(self) -> None:
        row = self.connection.execute(_MARK, (self.mark,), prepare=False).fetchone()
        assert row is not None
        self._process = row[0]

    def read(self) -> tuple[int, str | None]:
        row = self.connection.execute(_READ, prepare=False).fetchone()
        assert row is not None
        return row[0], row[1]

    def has_moved(self) -> bool:
        """Tell whether another session answers than the one that was marked."""
        return self.read() != (self._process, self.mark)


def refuse_pooler(connection: Connection, address: PostgresAddress, random: Random) -> None:
    """Raise `StoreRefused` if a pooler of transactions stands before the server.

    Nothing is changed there but a setting of our own, in each session that was reached. Without a second connection,
    which the server may refuse, only the first is looked at.
    """
    first = _Marked(connection, lineage_nonce(random))
    if _moves(first) or _mixes_with_another(first, address, lineage_nonce(random)):
        raise StoreRefused(f"{address.name}: {POOLED}")


def _mixes_with_another(first: _Marked, address: PostgresAddress, mark: str) -> bool:
    try:
        connection: Connection = psycopg.connect("", autocommit=True, **address.parameters)  # type: ignore[arg-type]
    except (psycopg.OperationalError, OSError):
        return False
    with contextlib.closing(connection), _cut_off_after(WAIT_S, connection):
        second = _Marked(connection, mark)
        try:
            return any(_mix(first, second) or _mix(second, first) for _ in range(ROUNDS))
        except psycopg.Error as error:
            if connection.closed and error.sqlstate != "08P01":
                # Cut off: it never got a session, or kept the first from getting one.
                return False
            raise


@contextlib.contextmanager
def _cut_off_after(patience_s: float, connection: Connection) -> Iterator[None]:
    """Shut a connection down if the block takes longer; a pooler gives its process to another one then."""
    with plug_of(connection) as plug:
        timer = threading.Timer(patience_s, _shut_down, [plug])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut_down(plug: socket.socket) -> None:
    with contextlib.suppress(OSError):
        plug.shutdown(socket.SHUT_RDWR)


def _moves(marked: _Marked) -> bool:
    """Mark, and look in the next two transactions: one pooler changes the process, another one resets the session."""
    marked.set()
    return marked.has_moved() or marked.has_moved()


def _mix(one: _Marked, other: _Marked) -> bool:
    """Tell whether `other` reaches the session of `one`, or drives it out of there."""
    if _moves(one):
        return True
    other.connection.execute(_BEGIN, prepare=False)
    try:
        return other.read()[1] == one.mark or one.has_moved()
    finally:
        with contextlib.suppress(psycopg.Error):
            other.connection.execute("ROLLBACK", prepare=False)
