"""The shell around the client machine, under Trio and asyncio: it carries out its actions and reports events.

The machine never waits, so it needs no queue in front of it: code that has an event (a reading task, the timer, the
application) calls `Shell.handle`, which runs the machine and starts its actions before it returns. Order is therefore
plain program order, and back-pressure is TCP's. What does wait, runs in tasks of one group: a task for each
connection (with one that writes), one for each HTTP request, one for the timer.

No clock, random number or socket is used but those that were injected, so that the simulator runs this very code; only
a child of fork() draws a seed of its own.
"""

from __future__ import annotations

import math
import os
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias, final

import anyio

from softstate.client.jumps import JumpDetector
from softstate.client.machine.events import (
    Abandon,
    Action,
    Arrived,
    Closed,
    Connect,
    Connected,
    ConnectFailed,
    Deliver,
    Disconnect,
    Event,
    FetchToken,
    Forked,
    Jumped,
    Lost,
    ModeChanged,
    NamesDenied,
    NodeRefused,
    Opened,
    PollAnswered,
    PublishAnswered,
    RequestFailed,
    Reset,
    Send,
    SendPoll,
    SendPublish,
    Settled,
    Stopped,
    Ticked,
    TokenRefused,
    TopicsUnreadable,
)
from softstate.client.machine.state import Statistics
from softstate.client.requests import posting
from softstate.client.requests.reply import HttpFailed
from softstate.client.shell.bell import Bell
from softstate.client.shell.clock import Clock
from softstate.client.shell.http import HttpClient, authorization
from softstate.client.shell.reader import drive
from softstate.client.shell.sockets import CLOSE_TIMEOUT_S, Gone, HandshakeFailed, Tasks, WebSocket
from softstate.client.shell.token_provider import fetch_token
from softstate.client.shell.websocket import open_websocket
from softstate.client.tokens import TokenProvider, TokenRequest
from softstate.client.url import NodeUrl, parse_url
from softstate.errors import Invalid, RequestError, SoftstateError, Unauthenticated, Unsupported
from softstate.http_client.streams import OpenStream
from softstate.model import Change, Mode
from softstate.position import Position
from softstate.wire import Codec
from softstate.wire.levels import fit
from softstate.wire.messages import ClientMessage, Welcome

SEND_QUEUE_MAX = 4_096
"""Messages that may wait to be written to one connection. A node that takes none for so long is given up."""

MESSAGES_TOGETHER = 16
"""Messages that are written at once, at most."""

JUMP_CHECK_S = 1.0
"""How often the clocks are compared: Trio's, on which tasks wait, stands still in suspend."""

_IDLE: frozenset[Mode] = frozenset({"closed", "stopped"})

WAIT_S_MIN = 0.001
"""Shortest wait of the timer: rounding, or a machine that is never content, cannot make it spin."""

ToApplication: TypeAlias = (
    Deliver | Reset | ModeChanged | NodeRefused | TopicsUnreadable | NamesDenied | Settled | Stopped
)


class Driven(Protocol):
    """The machine, as the shell and the API use it."""

    @property
    def mode(self) -> Mode:
        """The state it is in."""
        ...

    @property
    def position(self) -> Position | None:
        """The newest position it has heard of."""
        ...

    @property
    def value_bytes_max(self) -> int:
        """The longest value that may be published, as CBOR."""
        ...

    @property
    def newest_error(self) -> SoftstateError | None:
        """The newest failure of a connection or a request, or refusal by a node."""
        ...

    @property
    def url(self) -> str | None:
        """The node that it talks to, or talked to last."""
        ...

    @property
    def bound_s(self) -> float:
        """How old what is known becomes at most until a node counts as silent."""
        ...

    def handle(self, event: Event, now: float) -> Sequence[Action]:
        """Take one event and return what to do."""
        ...

    def deadline(self) -> float:
        """Return when to send `Ticked` at the latest."""
        ...

    def age(self, now: float, names: Iterable[str] | None = None) -> float:
        """Return the greatest age of what is known of `names`, in seconds."""
        ...

    def unreadable(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the topics among those of `names` whose stored records are damaged."""
        ...

    def known(self, name: str) -> list[Change]:
        """Return the newest known state of every topic that `name` covers."""
        ...

    def refusal(self, ticket: int) -> RequestError | None:
        """Return why a publish is still waiting if it is certain not to be applied, else None."""
        ...

    def statistics(self) -> Statistics:
        """Return its counters."""
        ...


class Application(Protocol):
    """The receiver of actions that are meant for the application."""

    def perform(self, action: ToApplication) -> None:
        """Take one action. Must not call back into the shell."""
        ...

    def advanced(self) -> None:
        """Note that the machine has taken an event and all its actions were performed."""
        ...


@final
class _Connection:
    """One connection, from `Connect` to its end."""

    def __init__(self, conn: int, token: str | None) -> None:
        self.conn = conn
        self.token = token
        """Its handshake presents it, and its `hello`."""
        self.scope = anyio.CancelScope()
        self._queue: deque[ClientMessage] = deque()
        self._changed = Bell()
        self._ended = False
        self.written = anyio.Event()
        self.opened = False
        self.left = False
        self.failure = ""
        self.level = 0
        """The protocol level of the node at the other end; until its welcome, what its URL told last."""

    def send(self, message: ClientMessage) -> None:
        """Put a message into the queue; fail the connection if it is full."""
        if self._ended or self.left:
            return  # it is ending: about to be reported as lost, or cancelled together with the application
        if len(self._queue) >= SEND_QUEUE_MAX:
            self.failure = f"{SEND_QUEUE_MAX} messages wait to be written"
            self.scope.cancel()
            return
        self._queue.append(message)
        self._changed.ring()

    async def queued(self, count_max: int) -> list[ClientMessage]:
        """Wait for messages in the queue, and take them: at most so many. None: it has been left, and is empty."""
        await anyio.lowlevel.checkpoint()
        while not self._queue and not self.left:
            await self._changed.wait()
        return [self._queue.popleft() for _ in range(min(count_max, len(self._queue)))]

    def end(self) -> None:
        """Take no more messages: the connection has ended."""
        self._ended = True

    def leave(self) -> None:
        """Write what is queued, then close, all within `CLOSE_TIMEOUT_S`; report nothing more."""
        self.left = True
        self._changed.ring()
        if self.opened:
            self.scope.deadline = anyio.current_time() + CLOSE_TIMEOUT_S
        else:
            self.scope.cancel()


@final
class Shell:
    """Runs one machine, in tasks of the group given to `open`. No method waits."""

    def __init__(
        self,
        machine: Driven,
        application: Application,
        open_stream: OpenStream,
        http: HttpClient,
        clock: Clock,
        provider: TokenProvider | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._machine = machine
        self._application = application
        self._open_stream = open_stream
        self._http = http
        self._provider = provider
        self._headers = headers
        self.codec: Codec = http.codec
        """How messages are written."""
        self._clock = clock
        self._pid = os.getpid()
        self._opened = 0
        self._connections: dict[int, _Connection] = {}
        self._requests: dict[int, anyio.CancelScope] = {}
        self._group: Tasks | None = None
        self._closed = False
        self._token_changed = Bell()
        self._wake = Bell()
        self._waking_at = -math.inf
        self._comparing = False

    @property
    def forked(self) -> bool:
        """Whether this process is a child of fork() of the one that opened the client: its loop is the parent's."""
        return self._opened != 0 and os.getpid() != self._opened

    def open(self, tasks: Tasks) -> None:
        """Begin. A bug in the machine ends the group of tasks; if it is cancelled, every stream is closed at once."""
        self._group = tasks
        self._opened = os.getpid()
        tasks.start_soon(self._tick)
        self.handle(Opened())

    def close(self) -> None:
        """Say goodbye and end: every task that is left ends within `CLOSE_TIMEOUT_S`."""
        if self._closed:
            return
        try:
            self.handle(Closed())
        finally:  # also when a bug ends the machine
            self._closed = True
            for connection in self._connections.values():
                connection.leave()
            for scope in self._requests.values():
                scope.cancel()
            self._tell_token()
            self._connections.clear()
            self._requests.clear()
            self._wake.ring()

    def handle(self, event: Event) -> None:
        """Give the machine an event and do what it answers. Nothing happens any more once closed."""
        if self._closed:
            return
        if (pid := os.getpid()) != self._pid:
            self._pid = pid
            self.handle(Forked(secrets.randbits(128)))
        for action in self._machine.handle(event, self._clock.now()):
            self._execute(action)
        self._application.advanced()
        if self._machine.deadline() < self._waking_at or (self._machine.mode not in _IDLE) != self._comparing:
            self._wake.ring()

    @property
    def _tasks(self) -> Tasks:
        assert self._group is not None, "a machine acts only once it was opened"
        return self._group

    def _execute(self, action: Action) -> None:
        match action:
            case Send():
                if (connection := self._connections.get(action.conn)) is not None:
                    connection.send(action.message)
            case Connect():
                connection = self._connections[action.conn] = _Connection(action.conn, self._http.cell.token)
                self._tasks.start_soon(self._connection, action, connection)
            case Disconnect():
                if (connection := self._connections.pop(action.conn, None)) is not None:
                    connection.leave()
            case SendPoll() | SendPublish():
                scope = self._requests[action.request] = anyio.CancelScope()
                self._tasks.start_soon(self._request, action, scope)
            case FetchToken():
                scope = self._requests[action.number] = anyio.CancelScope()
                self._tasks.start_soon(self._fetch_token, action, scope)
            case Abandon():
                if (scope_ := self._requests.pop(action.request, None)) is not None:
                    scope_.cancel()
            case _:
                self._application.perform(action)

    # Time ------------------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        try:
            await self._keep_time()
        finally:
            await self._http.aclose()

    async def _keep_time(self) -> None:
        jumps = JumpDetector(self._clock.now(), anyio.current_time())
        while not self._closed:
            self._comparing = self._machine.mode not in _IDLE
            self._waking_at = self._machine.deadline()
            wait_s = max(self._waking_at - self._clock.now(), WAIT_S_MIN)
            with anyio.move_on_after(min(wait_s, JUMP_CHECK_S) if self._comparing else wait_s):
                await self._wake.wait()
            if jumps.jumped(self._clock.now(), anyio.current_time()) and self._comparing:
                await self._http.drop_idle()  # their ends may have been lost in sleep
                self.handle(Jumped())
            if self._clock.now() >= self._machine.deadline():
                self.handle(Ticked())

    # Connections -----------------------------------------------------------------------------------------------------

    async def _connection(self, action: Connect, connection: _Connection) -> None:
        ending: ConnectFailed | Lost | None = None
        try:
            with connection.scope:
                async with anyio.create_task_group() as tasks:
                    ending = await self._converse(tasks, action, connection)
                    tasks.cancel_scope.cancel()
        finally:
            connection.end()
        if self._connections.get(connection.conn) is not connection:
            return
        del self._connections[connection.conn]
        self.handle(ending or Lost(connection.conn, None, connection.failure))

    async def _converse(self, tasks: Tasks, action: Connect, connection: _Connection) -> ConnectFailed | Lost:
        url, headers = parse_url(action.url), [*self._headers, *authorization(connection.token)]
        try:
            websocket = await open_websocket(tasks, url, self.codec, self._open_stream, action.timeout_s, headers)
        except HandshakeFailed as error:
            return ConnectFailed(
                connection.conn, error.reason, error.status, error.retry_ms, error.error, unsent=error.unsent
            )
        connection.opened = True
        connection.level = self._http.levels.of(url)
        try:
            self._report(connection, Connected(connection.conn))
            tasks.start_soon(self._write, connection, websocket)
            while True:
                self._read(url, connection, await websocket.receive())
        except Gone as gone:
            if connection.left:
                await connection.written.wait()  # the closing handshake may still be under way
            return Lost(connection.conn, gone.code, gone.reason)
        except Invalid as error:
            return Lost(connection.conn, None, f"the node sent a message that cannot be understood: {error.message}")
        finally:
            with anyio.CancelScope() as at_once:
                at_once.cancel()
                await websocket.aclose()

    def _read(self, url: NodeUrl, connection: _Connection, data: bytes | str) -> None:
        if connection.left:
            return
        try:
            message = self.codec.server_message(data)
        except Unsupported:
            return  # an operation of a later protocol, which by its rules cannot matter to us
        if isinstance(message, Welcome):
            connection.level = message.level
            self._http.levels.told(url, message.level)
        self._report(connection, Arrived(connection.conn, message))

    def _report(self, connection: _Connection, event: Event) -> None:
        if not connection.left:
            self.handle(event)

    async def _write(self, connection: _Connection, websocket: WebSocket) -> None:
        try:
            # The first messages of a connection are queued together (P-CLI-16).
            while messages := await connection.queued(MESSAGES_TOGETHER):
                fitting = [fitted for each in messages if (fitted := fit(each, connection.level)) is not None]
                encoded = map(self.codec.encode, fitting)
                if fitting:
                    await websocket.send(*(data.decode() if self.codec.text else data for data in encoded))
            await websocket.aclose()
        except Gone:
            pass  # the reading task meets the same end, and reports it
        finally:
            connection.written.set()

    # HTTP ------------------------------------------------------------------------------------------------------------

    async def _request(self, action: SendPoll | SendPublish, scope: anyio.CancelScope) -> None:
        answer: Event | None = None
        with scope:
            try:
                if isinstance(action, SendPoll):
                    page = await drive(posting.poll(action, self.codec, self._http.levels), self._http)
                    answer = PollAnswered(action.request, page)
                else:
                    results = await drive(posting.publish(action, self.codec, self._http.levels), self._http)
                    answer = PublishAnswered(action.request, results)
            except RequestError as error:
                answer = RequestFailed(action.request, str(error), error)
            except HttpFailed as failure:
                answer = RequestFailed(action.request, str(failure), failure.error, unsent=failure.unsent)
        if answer is not None and self._requests.get(action.request) is scope:
            del self._requests[action.request]
            self.handle(answer)

    async def _fetch_token(self, action: FetchToken, scope: anyio.CancelScope) -> None:
        assert self._provider is not None, "a machine without a provider fetches no token"
        answer: Event | None = None
        with scope:
            request = TokenRequest(action.rejected, action.attempt)
            answer = await fetch_token(self._provider, action.number, request)
        if answer is not None and self._requests.get(action.number) is scope:
            del self._requests[action.number]
            self.handle(answer)
            self._tell_token()

    def _tell_token(self) -> None:
        self._token_changed.ring()

    async def first(self) -> None:
        """See `Tokens`."""
        while self._http.cell.token is None and self._machine.mode not in _IDLE:
            await self._token_changed.wait()

    async def after(self, refused: str | None, error: Unauthenticated) -> None:
        """See `Tokens`."""
        self.handle(TokenRefused(refused, error))
        if self._http.cell.token == refused and self._machine.mode not in _IDLE:
            await self._token_changed.wait()
        if self._http.cell.token == refused:
            raise error
