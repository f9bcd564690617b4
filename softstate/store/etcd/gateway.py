"""Calls to etcd's JSON gateway: credentials, time-outs, and the one place where its errors become softstate's.

Every read is linearizable, which is etcd's default: `serializable` is never asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import msgspec
import structlog
import trio

from softstate.errors import StoreRefused, Unavailable
from softstate.store.etcd.connection import Connection, Endpoints, Pool
from softstate.store.etcd.messages import TXN_OPS_MAX, Alarms, Failure, Op, Outcome, Status, Token, TxnAnswer
from softstate.store.remote.url import TLS_OPTIONS, StoreUrl, tls_context

CALL_S = 3.0
"""How long one call of the store may take in all, in seconds; then it raises `Unavailable`."""

CONNECTIONS_MAX = 8
"""How many connections a store reads over at most. Beside them it has one to write and one to watch."""

PORT = 2379
OPTIONS = frozenset({"namespace", *TLS_OPTIONS})

MESSAGE_BYTES_MAX = 500
"""How much of what etcd says about an error is repeated in ours."""

T = TypeVar("T", Outcome, TxnAnswer, Status, Alarms)

log = structlog.get_logger("softstate.store")

_REFUSED = {
    "etcdserver: authentication failed": "etcd refused the user name or the password: correct them in the store URL",
    "etcdserver: user name is empty": "etcd wants credentials: name the store etcd://user:password@…",
    "etcdserver: permission denied": "etcd does not allow this user to read and write below the namespace:"
    " grant it that with `etcdctl role grant-permission ROLE --prefix=true readwrite NAMESPACE/`",
    "etcdserver: too many operations": f"etcd's --max-txn-ops is below its default of {TXN_OPS_MAX}: raise it again",
}
_UNAVAILABLE = {
    "etcdserver: mvcc: database space exceeded": "etcd is out of space and refuses to write (alarm NOSPACE): compact"
    " its history, run `etcdctl defrag`, raise --quota-backend-bytes if needed, then `etcdctl alarm disarm`",
    "etcdserver: corrupt cluster": "etcd's members disagree about the data (alarm CORRUPT): replace the damaged member",
    "etcdserver: request is too large": "etcd's --max-request-bytes is below its default of 1.5 MiB: raise it again",
}
_GONE = (
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
)
_TOKEN_OVER = ("etcdserver: invalid auth token", "etcdserver: revision of auth store is old")
_NO_AUTH = "etcdserver: authentication is not enabled"


class SnapshotGone(Exception):
    """The snapshot that is being read from is gone: etcd has compacted its history, or was restored. Begin anew."""


class TokenOver(Unavailable):
    """The token is not known any more, as after a restart: ask for another."""


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
        return await self.call(connection, "/v3/kv/txn", {"success": ops}, TxnAnswer)

    async def write(self, connection: Connection, compares: Sequence[Op], ops: Sequence[Op]) -> bool:
        """Commit `ops` if all of `compares` hold; tell whether they did."""
        message = {"compare": compares, "success": ops}
        return (await self.call(connection, "/v3/kv/txn", message, Outcome)).succeeded

    async def call(self, connection: Connection, path: str, message: Any, answer: type[T]) -> T:
        """Make one call. Raises `Unavailable`, `StoreRefused`, or `SnapshotGone`."""
        body = msgspec.json.encode(message)
        await self.authenticate(connection)
        try:
            found = await self._ask(connection, path, body, answer)
        except TokenOver:
            # Nothing was done: etcd looks at the token first.
            await self.authenticate(connection)
            found = await self._ask(connection, path, body, answer)
        connection.came_from(found.header)
        return found

    async def _ask(self, connection: Connection, path: str, body: bytes, answer: type[T]) -> T:
        status, text = await connection.ask("POST", path, body, self.headers())
        if status != 200:
            raise self._failure(connection.where, status, text)
        try:
            return msgspec.json.decode(text, type=answer, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"{connection.where} does not answer as etcd's gateway does: {error}") from None

    async def authenticate(self, connection: Connection) -> None:
        """See to it that there is a token, if there is a user. Raises `StoreRefused` when the password is wrong."""
        if self._user is None or self._token is not None:
            return
        body = msgspec.json.encode({"name": self._user, "password": self._password})
        status, text = await connection.ask("POST", "/v3/auth/authenticate", body, ())
        if status == 200:
            self._token = msgspec.json.decode(text, type=Token).token
            return
        error = self._failure(connection.where, status, text)
        if _NO_AUTH not in str(error):
            raise error
        # With nobody to check it, the password opens nothing, and keeps nobody out.
        self._token = ""
        if not self._warned:
            log.warning("etcd asks for no password", store=self.name, advice="run `etcdctl auth enable`")
        self._warned = True

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of a request."""
        return [("Authorization", self._token)] if self._token else []

    def _failure(self, where: str, status: int, text: bytes) -> Exception:
        try:
            failure = msgspec.json.decode(text, type=Failure)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = text.decode(errors="replace")[:MESSAGE_BYTES_MAX].strip()
            return Unavailable(f"{where} does not answer as etcd's gateway does: HTTP status {status}, {said!r}")
        return self.failure(where, failure.message or failure.error)

    def failure(self, where: str, said: str) -> Exception:
        """Return what softstate raises for what etcd has said. This is the one place that knows its messages."""
        if said.startswith(_GONE):
            return SnapshotGone(said)
        if said.startswith(_TOKEN_OVER):
            self._token = None
            return TokenOver(f"{self.name}: etcd does not know the token that it gave: a new one will be asked for")
        for begin, advice in _REFUSED.items():
            if said.startswith(begin):
                return StoreRefused(f"{self.name}: {advice}")
        for begin, advice in _UNAVAILABLE.items():
            if said.startswith(begin):
                return Unavailable(f"{self.name}: {advice}")
        return Unavailable(f"etcd at {where} cannot serve: {said[:MESSAGE_BYTES_MAX]}")

    @contextmanager
    def patience(self, call_s: float = CALL_S) -> Iterator[None]:
        """Bound what the body waits for. Raises `Unavailable` when the time is over."""
        with trio.move_on_after(call_s) as scope:
            yield
        if scope.cancelled_caught:
            raise Unavailable(f"{self.name} does not answer within {call_s:g} s")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lend a connection for reading, with `patience`."""
        with self.patience():
            async with self.readers.connection() as connection:
                yield connection

    async def drop(self) -> None:
        """Close what is idle, so that everything begins with new connections and a new token."""
        self._token = None
        await self.readers.drop()
        await self.writers.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.readers.aclose()
        await self.writers.aclose()
