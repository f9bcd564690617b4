"""A pooler in front of PostgreSQL, scripted: it gives each transaction, or each client, one of a few sessions.

It speaks as much of PostgreSQL's protocol (version 3.0) as it takes to see where a transaction ends. Clients are let in
without a password, and it connects to the server by its socket, which trusts it.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import trio

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
PROTOCOL = 196608

Message = tuple[bytes, bytes]
"""Its type, and the rest without the length."""


class Wire:
    """One connection, cut into messages."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self.stream.receive_some()
            if not data:
                raise trio.EndOfChannel
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def untyped(self) -> bytes:
        (length,) = struct.unpack("!i", await self.exactly(4))
        return await self.exactly(length - 4)

    async def receive(self) -> Message:
        kind = await self.exactly(1)
        return kind, await self.untyped()

    async def send(self, kind: bytes, body: bytes) -> None:
        await self.stream.send_all(kind + struct.pack("!i", len(body) + 4) + body)


@dataclass(eq=False)
class Session:
    """One connection to the server, and what it said of itself when it began."""

    wire: Wire
    greeting: list[Message] = field(default_factory=list)


@dataclass
class Pooler:
    """Pools `size` sessions by `mode`. Of the free ones `pick` chooses: by default the one that was free last."""

    folder: Path
    server_port: int
    mode: Literal["transaction", "session", "statement"] = "transaction"
    size: int = 1
    pick: Callable[[deque[Session]], Session] = deque.pop
    reset_always: bool = False
    """Whether ``DISCARD ALL`` is sent after each transaction, not only when a client leaves."""
    port: int = 0
    made: int = 0

    def __post_init__(self) -> None:
        self._free: deque[Session] = deque()
        self._turn = trio.Semaphore(self.size)
        self._stack = AsyncExitStack()

    async def _session(self, startup: bytes) -> Session:
        await self._turn.acquire()
        # Like PgBouncer, no more are made than are needed at once.
        return self.pick(self._free) if self._free else await self._connect(startup)

    async def _connect(self, startup: bytes) -> Session:
        stream = await trio.open_unix_socket(str(self.folder / f".s.PGSQL.{self.server_port}"))
        session = Session(Wire(await self._stack.enter_async_context(stream)))
        self.made += 1
        await session.wire.stream.send_all(struct.pack("!i", len(startup) + 4) + startup)
        while True:
            kind, body = await session.wire.receive()
            assert kind != b"E", body
            session.greeting.append((kind, body))
            if kind == b"Z":
                return session

    async def _release(self, session: Session, *, left: bool) -> None:
        if left or self.reset_always:
            await session.wire.send(b"Q", b"DISCARD ALL\0")
            while (await session.wire.receive())[0] != b"Z":
                pass
        self._free.append(session)
        self._turn.release()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with self._stack:
            task_status.started()
            await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        client = Wire(stream)
        async with stream:
            with suppress(trio.EndOfChannel, trio.BrokenResourceError):
                startup = await client.untyped()
                while struct.unpack("!i", startup[:4])[0] in (SSL_REQUEST, GSS_REQUEST):
                    await stream.send_all(b"N")
                    startup = await client.untyped()
                if struct.unpack("!i", startup[:4])[0] == PROTOCOL:
                    await self._relay(client, startup)

    async def _relay(self, client: Wire, startup: bytes) -> None:
        session: Session | None = await self._session(startup)
        assert session is not None
        for kind, body in session.greeting:
            await client.send(kind, body)
        if self.mode == "session":
            await self._lend(client, session)
            return
        await self._release(session, left=False)
        session = None
        try:
            while True:
                kind, body = await client.receive()
                if kind == b"X":
                    return
                if self.mode == "statement" and b"BEGIN" in body:
                    words = b"SFATAL\0C08P01\0Mtransaction blocks not allowed in statement pooling mode\0\0"
                    await client.send(b"E", words)
                    return
                if session is None:
                    session = await self._session(startup)
                if await self._exchange(client, session, kind, body):
                    await self._release(session, left=False)
                    session = None
        finally:
            if session is not None:
                with trio.CancelScope(shield=True):
                    # A pooler rolls back what its client has begun.
                    await session.wire.send(b"Q", b"ROLLBACK\0")
                    while (await session.wire.receive())[0] != b"Z":
                        pass
                    await self._release(session, left=True)

    async def _lend(self, client: Wire, session: Session) -> None:
        """Connect a client with a session for as long as it stays; the session ends with it."""
        async with session.wire.stream, trio.open_nursery() as nursery:
            for source, sink in ((client, session.wire), (session.wire, client)):
                nursery.start_soon(self._pass, source, sink, nursery.cancel_scope)
        self._turn.release()

    async def _pass(self, source: Wire, sink: Wire, scope: trio.CancelScope) -> None:
        with suppress(trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await sink.send(*await source.receive())
        scope.cancel()

    async def _exchange(self, client: Wire, session: Session, kind: bytes, body: bytes) -> bool:
        """Pass requests and their answers on until all are answered; return whether no transaction is open then."""
        unanswered = 0
        while True:
            await session.wire.send(kind, body)
            if kind in (b"Q", b"S"):
                unanswered += 1
                while unanswered:
                    answer, content = await session.wire.receive()
                    await client.send(answer, content)
                    unanswered -= answer == b"Z"
                return content == b"I"
            kind, body = await client.receive()


@asynccontextmanager
async def pooling(pooler: Pooler) -> AsyncIterator[Pooler]:
    """Run a pooler for the length of a block."""
    async with trio.open_nursery() as nursery:
        await nursery.start(pooler.run)
        yield pooler
        nursery.cancel_scope.cancel()
