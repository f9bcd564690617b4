"""Connections to one Redis server: a few of them, each used by one call at a time, and one that listens.

The driver runs each connection as a task, in a nursery that a system task holds open from `RedisConnections.open` to
`RedisConnections.aclose`. A call bounds its own time, and gives up its connection if it is cut short, since an answer
may still come in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import trio
from anyio import connect_tcp
from anyio.abc import ByteStream
from coredis.connection import BaseConnection, TCPLocation

from softstate.errors import Unavailable
from softstate.store.limits import CALL_S
from softstate.store.redis.errors import FAULTS, LOST, NO_PRIMARY, word_of
from softstate.store.redis.url import RedisAddress

CONNECTIONS_MAX = 8
"""How many calls one store has under way at once; more wait their turn. One more connection listens."""

LISTEN_RETRY_S = 1.0
"""The least time from one attempt to listen to the next, in seconds."""

MISSED = b""
"""Received when listening begins, or begins again: earlier messages may be missed."""

T = TypeVar("T")


class _DriverConnection(BaseConnection):
    """The driver's connection on a stream that is there already.

    The driver's own, if it cannot reach the server, leaves sockets open, which warn when they are collected.
    """

    def __init__(self, address: RedisAddress, stream: ByteStream) -> None:
        super().__init__(
            TCPLocation(address.host, address.port),
            username=address.user,
            password=address.password,
            db=address.database,
            client_name="softstate",
        )
        self._reached = stream

    async def _connect(self) -> ByteStream:
        return self._reached

    def describe(self) -> str:
        return f"Connection<{self.location}>"


async def _reach(address: RedisAddress) -> ByteStream:
    if address.tls is None:
        return await connect_tcp(address.host, address.port)
    return await connect_tcp(
        address.host, address.port, tls=True, ssl_context=address.tls, tls_standard_compatible=False
    )


class RedisConnection:
    """One connection. The driver reports on its task through `started`, as a task status."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._connection: _DriverConnection | None = None
        self._scope = trio.CancelScope()
        self._settled = trio.Event()
        self._error: Exception | None = None

    async def run(self) -> None:
        """Connect, and keep the connection until it is lost or closed."""
        address = self._address
        with self._scope:
            try:
                stream = await _reach(address)
                self._connection = _DriverConnection(address, stream)
                await self._connection.run(task_status=self)
            except FAULTS as error:
                self._error = error
        self._settled.set()

    def started(self, _value: None = None) -> None:
        """Note that the connection can be used."""
        self._settled.set()

    async def ready(self) -> None:
        """Wait until the connection can be used. Raises one of `FAULTS` if it cannot be made."""
        await self._settled.wait()
        if self._error is not None:
            raise self._error

    @property
    def usable(self) -> bool:
        """Whether the connection is there, as far as is known."""
        return self._connection is not None and self._connection.usable

    async def call(self, command: bytes, arguments: Sequence[bytes | str | int]) -> Any:
        """Send a command and return its answer, with text as bytes. Raises one of `FAULTS`."""
        assert self._connection is not None
        return await self._connection.create_request(command, *arguments, decode=False)

    async def listen(self, channel: str, receive: Callable[[bytes], None]) -> None:
        """Pass every message of a channel to `receive`. Raises one of `FAULTS` when the connection is lost."""
        assert self._connection is not None
        self._connection.send_command(b"SUBSCRIBE", channel)
        async for kind, *_, message in self._connection.push_messages:
            # Otherwise it is the confirmation of SUBSCRIBE, with a count in place of a message.
            receive(message if kind == b"message" and isinstance(message, bytes) else MISSED)

    def close(self) -> None:
        """Close the connection at once, even during a call."""
        self._scope.cancel()


class RedisConnections:
    """All connections of one store."""

    def __init__(self, address: RedisAddress) -> None:
        self.made = 0
        """How many connections have been made so far: a new one may lead to another server."""
        self._address = address
        self._idle: deque[RedisConnection] = deque()
        self._turns = trio.Semaphore(CONNECTIONS_MAX)
        self._nursery: trio.Nursery | None = None
        self._listening: RedisConnection | None = None
        self._closer = trio.Lock()
        self._hosting = trio.Event()
        self._closing = trio.Event()
        self._closed = trio.Event()

    async def open(self) -> None:
        """Make room for connections; none is made yet."""
        trio.lowlevel.spawn_system_task(self._host, name="softstate redis connections")
        with trio.CancelScope(shield=True):
            await self._hosting.wait()

    async def _host(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._hosting.set()
                await self._closing.wait()
                self._nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            self._closed.set()

    async def aclose(self) -> None:
        """Close every connection, once no call is under way any more. Idempotent; finishes even if cancelled."""
        with trio.CancelScope(shield=True):
            # One takes all the turns: two that take them by turns would wait for each other.
            async with self._closer:
                for _ in range(CONNECTIONS_MAX):
                    await self._turns.acquire()
                self._closing.set()
                for _ in range(CONNECTIONS_MAX):
                    self._turns.release()
            await self._closed.wait()

    async def send(self, command: bytes, *arguments: bytes | str | int) -> Any:
        """Send one command and return its answer, however long that takes; see `within`. Raises one of `FAULTS`.

        If cancelled, or if the connection is lost, the command may or may not be carried out.
        """
        async with self._turns:
            connection = await self._take()
            try:
                answer = await connection.call(command, arguments)
            except trio.Cancelled:
                connection.close()
                raise
            except FAULTS as error:
                if word_of(error) in NO_PRIMARY:
                    connection.close()
                    self._leave_server()
                else:
                    self._give_back(connection)
                raise
            self._give_back(connection)
            return answer

    async def within(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` returns, or raise `Unavailable` when `CALL_S` is over."""
        with trio.move_on_after(CALL_S):
            return await call()
        # They may be as dead as the one that did not answer.
        self._close_idle()
        raise Unavailable(f"{self._address.name} has not answered within {CALL_S:g} s: {LOST}")

    def _leave_server(self) -> None:
        """Close the connections that are not in use, since new ones may lead to the primary; calls close theirs."""
        self._close_idle()
        self.listen_again()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _take(self) -> RedisConnection:
        while self._idle:
            # The one used last is the most likely to be alive.
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await self._connect()

    def _give_back(self, connection: RedisConnection) -> None:
        if connection.usable and not self._closing.is_set():
            self._idle.append(connection)
        else:
            connection.close()

    async def _connect(self) -> RedisConnection:
        if self._nursery is None or self._closing.is_set():
            raise trio.ClosedResourceError("this store was closed")
        connection = RedisConnection(self._address)
        self._nursery.start_soon(connection.run)
        try:
            await connection.ready()
        except trio.Cancelled:
            connection.close()
            raise
        self.made += 1
        return connection

    def listen(self, channel: str, receive: Callable[[bytes], None]) -> None:
        """Pass every message of a channel to `receive` from now on, and `MISSED` when some may have been missed."""
        if self._nursery is not None:
            self._nursery.start_soon(self._listen, channel, receive)

    async def _listen(self, channel: str, receive: Callable[[bytes], None]) -> None:
        while True:
            began = trio.current_time()
            try:
                self._listening = await self.within(self._connect)
                await self._listening.listen(channel, receive)
            except (*FAULTS, Unavailable):
                # A connection that was lost after a while is replaced at once.
                await trio.sleep_until(began + LISTEN_RETRY_S)
            except trio.ClosedResourceError:
                return

    def listen_again(self) -> None:
        """Replace the connection that listens: a message did not come through it."""
        if self._listening is not None:
            self._listening.close()
