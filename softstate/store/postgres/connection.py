"""One connection to PostgreSQL: made when needed, used by one thread at a time, cut off when a call takes too long."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import psycopg
import trio
from psycopg import errors, pq, sql

from softstate.errors import StoreRefused, Unavailable
from softstate.store.postgres.errors import explain
from softstate.store.postgres.url import PostgresAddress

SERVER_VERSION_MIN = 15

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

T = TypeVar("T")

_ALWAYS = {"idle_session_timeout": "0", "standard_conforming_strings": "on"}
"""Settings that a role or database may have changed, to the harm of our connections."""

_SET_UP = (
    "SELECT"
    " (SELECT count(set_config(name, value, false)) FROM unnest(%s::text[], %s::text[]) AS setting (name, value)),"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,"
    " pg_is_in_recovery(), current_setting('server_encoding')"
)
"""A commit that may be lost after others have seen it would rewind the store, so ours are always synchronous."""


def plug_of(connection: Connection) -> socket.socket:
    """Return a socket to shut a connection down by. Raises `OSError` if there is no descriptor left.

    Its descriptor is of our own: libpq may close its one at any time, and the number be given to another file.
    """
    descriptor = os.dup(connection.fileno())
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise


class _Call:
    """One call, until its caller gives up."""

    given_up = False
    cut = False


class PostgresConnection:
    """A connection that one call uses at a time. The server gets its `settings`; `role` names it in the server's log.

    `fresh` tells that the connection is new, and nothing was committed on it yet. `check` is called with a connection
    that a call with `opening` has made, before anything else is done on it.
    """

    def __init__(
        self,
        address: PostgresAddress,
        role: str,
        settings: Mapping[str, str],
        *,
        check: Callable[[Connection], None] = lambda _connection: None,
    ) -> None:
        self.fresh = True
        self.turn = trio.CapacityLimiter(1)
        self._address = address
        self._role = role
        self._check = check
        self._settings = {
            **_ALWAYS,
            "search_path": f"{sql.Identifier(address.schema).as_string(None)}, pg_temp",
            **settings,
        }
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._plug: socket.socket | None = None
        self._call: _Call | None = None
        self._ready = False
        self._closed = False
        self._failures = 0

    async def call(
        self,
        work: Callable[[Connection], T],
        within_s: float,
        *,
        opening: bool = False,
        reconnect: bool = False,
        hold: bool = False,
    ) -> T:
        """Do `work` in a thread, in turn, within `within_s` seconds. What it leaves uncommitted is rolled back.

        With `reconnect`, on a new connection. With `opening`, as a part of opening the store. With `hold`, its
        transaction is kept for the next call, unless it fails.

        If it takes longer, or is cancelled, the connection is cut off: the thread ends soon after, and the server rolls
        back unless it has the commit already. Raises what `work` raises, `Unavailable`, `StoreRewound` when the tables
        are gone, and `StoreRefused` when `opening` fails for a reason that waiting cannot mend.
        """
        call = _Call()
        with trio.move_on_after(within_s):
            try:
                return await trio.to_thread.run_sync(
                    lambda: self._work(call, work, opening=opening, reconnect=reconnect, hold=hold),
                    limiter=self.turn,
                    abandon_on_cancel=True,
                )
            except trio.Cancelled:
                self._give_up(call)
                raise
        raise Unavailable(
            f"{self._address.name} has not answered within {within_s:g} s: see whether it runs, and its load"
        )

    def _give_up(self, call: _Call) -> None:
        with self._lock:
            call.given_up = True
            if self._call is call and self._plug is not None:
                call.cut = True
                with contextlib.suppress(OSError):
                    self._plug.shutdown(socket.SHUT_RDWR)

    def _work(self, call: _Call, work: Callable[[Connection], T], *, opening: bool, reconnect: bool, hold: bool) -> T:
        if self._closed:
            # Checked in the thread, because `close` may have had its turn while this call waited for one.
            raise trio.ClosedResourceError("this store was closed")
        with self._lock:
            self._call = call
        try:
            if reconnect:
                self._drop()
            connection = self._connection or self._connect(opening=opening)
            if call.given_up:
                # A connection that came too late for this call is the next one's.
                raise Unavailable(f"{self._address.name} took too long to connect")
            with self._settling(connection, hold=hold):
                if not self._ready:
                    if opening:
                        self._check(connection)
                    self._set_up(connection, opening=opening)
                return work(connection)
        except psycopg.Error as error:
            if isinstance(error, errors.ReadOnlySqlTransaction):
                # A session that began read-only stays so when the cause is gone; and the name may lead elsewhere now.
                self._drop()
            raise explain(error, self._address.name, opening=opening) from error
        except OSError as error:
            # Of this process: it has no descriptor left to connect or to wait with, perhaps in the middle of an answer.
            self._drop()
            raise Unavailable(
                f"{self._address.name}: the connection cannot be made or used here ({error}): if too many files are"
                " open, raise this process's limit (ulimit -n), or serve fewer clients"
            ) from None
        finally:
            with self._lock:
                self._call = None
            if call.cut:
                self._drop()

    @contextlib.contextmanager
    def _settling(self, connection: Connection, *, hold: bool) -> Iterator[None]:
        """Leave the connection without a transaction, unless it is to be kept, or drop it."""
        try:
            yield
        except BaseException:
            self._failures += 1
            self._settle(connection, f"ROLLBACK -- {self._failures}")
            raise
        if not hold:
            self._settle(connection)

    def _settle(self, connection: Connection, rollback: str = "ROLLBACK") -> None:
        # An error in a pipeline keeps the statements behind it from being prepared, though psycopg takes them for
        # prepared from then on. It forgets them all when it sees a rollback, which it does in a statement new to it.
        open_ = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
        with contextlib.suppress(psycopg.Error, OSError):
            if connection.info.transaction_status in open_:
                connection.execute(rollback.encode())
        if connection.info.transaction_status != pq.TransactionStatus.IDLE or not self._ready:
            self._drop()

    def _connect(self, *, opening: bool) -> Connection:
        self._ready = False
        parameters = {"fallback_application_name": f"softstate {self._role}", **self._address.parameters}
        try:
            connection: Connection = psycopg.connect("", autocommit=True, **parameters)  # type: ignore[arg-type]
        except psycopg.Error as error:
            # Not "from error": psycopg's holds all that it connected with, the password too.
            raise explain(error, self._address.name, opening=opening) from None
        try:
            plug = plug_of(connection)
        except BaseException:
            # Without a plug a call could not be cut off.
            connection.close()
            raise
        with self._lock:
            self._connection, self._plug = connection, plug
        return connection

    def _set_up(self, connection: Connection, *, opening: bool) -> None:
        refused = StoreRefused if opening else Unavailable
        name, version = self._address.name, connection.info.server_version // 10_000
        if version < SERVER_VERSION_MIN:
            raise refused(f"{name} is PostgreSQL {version}, and softstate needs {SERVER_VERSION_MIN}: upgrade it")
        row = connection.execute(_SET_UP, (list(self._settings), list(self._settings.values()))).fetchone()
        assert row is not None
        _, _, recovering, encoding = row
        if recovering:
            raise refused(
                f"{name} is a standby, which takes no writes and may lag: name the primary, or all hosts of the cluster"
                " (host1,host2), of which the primary is chosen"
            )
        if encoding != "UTF8":
            raise refused(
                f"{name} is a database with encoding {encoding}, which cannot hold every topic:"
                " create one with ENCODING 'UTF8', and name that"
            )
        self._ready = self.fresh = True

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            plug, self._plug = self._plug, None
        if plug is not None:
            plug.close()
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    async def close(self, *, for_good: bool = True) -> None:
        """Close the connection, once the call that is under way has ended. `for_good`: no call makes another."""
        async with self.turn:
            self._closed = self._closed or for_good
            await trio.to_thread.run_sync(self._drop)
