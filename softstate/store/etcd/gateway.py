"""Calls to etcd's JSON gateway: credentials and time-outs.

Every read is linearizable, which is etcd's default: `serializable` is never asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import msgspec
import structlog
import trio

from softstate.errors import Unavailable
from softstate.store.etcd.connection import Connection, Endpoints, Pool
from softstate.store.etcd.errors import NOT_JSON, NoAuthentication, TokenExpired, failure, failure_in
from softstate.store.etcd.messages import Alarms, Op, Outcome, Status, Token, TxnAnswer
from softstate.store.limits import CALL_S
from softstate.store.remote.url import StoreUrl, tls_context

CONNECTIONS_MAX = 8
"""How many connections a store reads over at most. Beside them it has one to write and one to watch."""

T = TypeVar("T", Outcome, TxnAnswer, Status, Alarms)
AnyAnswer = TypeVar("AnyAnswer", Outcome, TxnAnswer, Status, Alarms, Token)

log = structlog.get_logger("softstate.store")


class Gateway:
    """The gateway of one etcd. `readers` lends connections for reading, `writers` the one for writing."""

    def __init__(self, url: StoreUrl) -> None:
        self.name = url.name
        self.endpoints = Endpoints(url.hosts, tls_context(url, "etcds"))
        self.readers = Pool(self.endpoints, CONNECTIONS_MAX)
        self.writers = Pool(self.endpoints, 1)
        self._user = url.user
        self._password = url.password or ""
        self._token: str | None = None
        self._warned = False

    async def txn(self, connection: Connection, ops: Sequence[Op]) -> TxnAnswer:
        """Read ranges in one snapshot, `TXN_OPS_MAX` at most."""
        answer = await self.call(connection, "/v3/kv/txn", {"success": ops}, TxnAnswer)
        if len(answer.responses) != len(ops):
            raise _no_gateway(connection, f"{len(ops)} ranges were asked for, and {len(answer.responses)} came")
        return answer

    async def write(self, connection: Connection, compares: Sequence[Op], ops: Sequence[Op]) -> int:
        """Commit `ops` if all of `compares` hold; return etcd's revision of that commit, 0 if they did not."""
        message = {"compare": compares, "success": ops}
        outcome = await self.call(connection, "/v3/kv/txn", message, Outcome)
        return outcome.header.revision if outcome.succeeded else 0

    async def call(self, connection: Connection, path: str, message: Any, answer: type[T]) -> T:
        """Make one call. Raises `Unavailable`, `StoreRefused`, or `SnapshotGone`."""
        body = msgspec.json.encode(message)
        await self.authenticate(connection)
        try:
            found = await self._ask(connection, path, body, answer)
        except TokenExpired:
            # Nothing was done: etcd checks the token first.
            await self.authenticate(connection)
            found = await self._ask(connection, path, body, answer)
        connection.came_from(found.header)
        return found

    async def _ask(self, connection: Connection, path: str, body: bytes, answer: type[T]) -> T:
        status, text = await connection.ask("POST", path, body, self.headers())
        if status != 200:
            raise self._noted(failure_in(text, status, where=connection.where, name=self.name))
        return _decoded(connection, text, answer)

    async def authenticate(self, connection: Connection) -> None:
        """Get a token if there is a user and none yet. Raises `StoreRefused` when the password is wrong."""
        if self._user is None or self._token is not None:
            return
        body = msgspec.json.encode({"name": self._user, "password": self._password})
        status, text = await connection.ask("POST", "/v3/auth/authenticate", body, ())
        if status == 200:
            token = _decoded(connection, text, Token).token
            if not (token.isascii() and token.isprintable()):
                raise _no_gateway(connection, "its token cannot be sent back")
            self._token = token
            return
        error = self._noted(failure_in(text, status, where=connection.where, name=self.name))
        if not isinstance(error, NoAuthentication):
            raise error
        # An etcd without authentication needs no token.
        self._token = ""
        if not self._warned:
            log.warning("etcd asks for no password", store=self.name, advice="run `etcdctl auth enable`")
        self._warned = True

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of a request."""
        return [("Authorization", self._token)] if self._token else []

    def failure(self, where: str, message: str) -> Exception:
        """Return the error to raise for an error message of etcd at an endpoint."""
        return self._noted(failure(message, where=where, name=self.name))

    def _noted(self, error: Exception) -> Exception:
        if isinstance(error, TokenExpired):
            self._token = None
        return error

    @contextmanager
    def time_limit(self, call_s: float | None = None) -> Iterator[None]:
        """Bound the time that the body takes, by default to `CALL_S`. Raises `Unavailable` when it is over."""
        limit_s = CALL_S if call_s is None else call_s
        with trio.move_on_after(limit_s) as scope:
            yield
        if scope.cancelled_caught:
            raise Unavailable(f"{self.name} does not answer within {limit_s:g} s")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lend a connection for reading, within `time_limit`."""
        with self.time_limit():
            async with self.readers.connection() as connection:
                yield connection

    async def drop(self) -> None:
        """Close idle connections and forget the token, so that the next calls begin with new ones."""
        self._token = None
        await self.readers.drop()
        await self.writers.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.readers.aclose()
        await self.writers.aclose()


def _decoded(connection: Connection, text: bytes, answer: type[AnyAnswer]) -> AnyAnswer:
    try:
        return msgspec.json.decode(text, type=answer, strict=False)
    except NOT_JSON as error:
        raise _no_gateway(connection, str(error)) from None


def _no_gateway(connection: Connection, because: str) -> Unavailable:
    return Unavailable(f"{connection.where} does not answer as etcd's gateway does: {because}")
