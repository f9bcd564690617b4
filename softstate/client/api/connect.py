"""`connect`: from arguments to a client that runs for the length of a block."""

from __future__ import annotations

import math
import random as random_module
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal, final

import anyio
from anyio.abc import TaskGroup

from softstate.client.api.arguments import check_options, check_settings, check_tls, headers_of, urls_of
from softstate.client.api.block import AsyncBlock
from softstate.client.api.client import Client
from softstate.client.api.dispatcher import Dispatcher
from softstate.client.machine.beat_watch import LATE, PATIENCE_S_MIN
from softstate.client.machine.credentials import TokenCell
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.client.machine.state import BEAT_MS
from softstate.client.requests.reading import Reading
from softstate.client.shell.clock import Clock, system_clock
from softstate.client.shell.http import HttpClient
from softstate.client.shell.reader import Reader
from softstate.client.shell.shell import Shell
from softstate.client.shell.trust import opening
from softstate.client.tokens import TokenProvider
from softstate.client.url import parse_url
from softstate.errors import ConfigError
from softstate.http_client.loop import running_loop
from softstate.http_client.streams import OpenStream, open_tcp
from softstate.wire import CBOR, JSON

_USAGE = """softstate.connect(...) is a block, entered in an async function:
    async with softstate.connect("ws://127.0.0.1:8700") as client:
        ..."""


def beat_ms_for(max_age: float) -> int:
    """Return the longest time between two beats by which ages stay below `max_age` seconds, in milliseconds.

    A late beat is waited for, so that it is less than half of a short one; at least 1.
    """
    return max(1, int(1000 * min(max_age / 2, (max_age - PATIENCE_S_MIN) / LATE)))


@final
class Block(AsyncBlock):
    """The block that `connect` makes: entered, once, by ``async with``, it gives the `Client`.

    It raises the block's own exceptions as they are, in no group.
    """

    _HINT = _USAGE

    def __init__(self, client: Client, shell: Shell) -> None:
        self._client = client
        self._shell = shell
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Client:
        running_loop()
        if self._tasks is not None:
            raise RuntimeError("this block was entered before: call softstate.connect(...) again")
        # Nothing may wait, and so be cancelled, between here and the block: the group would stay open.
        self._tasks = anyio.create_task_group()
        self._shell.open(await self._tasks.__aenter__())
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            self._client.close()
        finally:  # the group is left in every case
            swallowed = await self._leave(kind, error, trace)
        return swallowed

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._tasks is not None, "a block is left after it was entered"
        cancelled = anyio.get_cancelled_exc_class()
        if isinstance(error, cancelled):
            return bool(await self._tasks.__aexit__(kind, error, trace))
        try:
            await self._tasks.__aexit__(None, None, None)
        except (cancelled, BaseExceptionGroup) as ending:
            if error is None or not _only_cancelled(ending):
                raise
        return False


def _only_cancelled(error: BaseException) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled)[1] is None
    return isinstance(error, cancelled)


def connect(
    urls: str | Sequence[str],
    *,
    push: bool = True,
    codec: Literal["cbor", "json"] = "cbor",
    name: str = "",
    token: str | TokenProvider | None = None,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    max_age: float | None = None,
    ordered: bool = False,
    ttl_ms: int | None = None,
    beat_ms: int | None = BEAT_MS,
    connect_timeout_s: float = 5.0,
    poll_timeout_s: float = 10.0,
    open_stream: OpenStream | None = None,
    random: random_module.Random | None = None,
    clock: Clock | None = None,
) -> AbstractAsyncContextManager[Client]:
    """Begin to talk to a node, or to any of several nodes of one store, for as long as the block.

    It does not wait for a connection, and no node has to be there yet. Leaving the block says goodbye, so that nodes
    forget the lease at once; that takes a second at most. Cancelling it just closes everything. It works under Trio
    and asyncio alike; entered under neither, it raises RuntimeError, and says so.

    Args:
        urls: Where the nodes are, such as ``ws://127.0.0.1:8700``. ``http``, ``wss`` and ``https`` work too, and
            ``unix:/run/softstate.sock``, the path of a Unix socket.
        push: Use WebSocket, where a node offers it; else only poll.
        codec: How messages are written. ``json`` is readable in packet captures.
        name: This client's name in the logs of nodes; up to 128 characters.
        token: Credentials, sent as ``Authorization: Bearer``, and in ``hello``: text; or an async function that takes a
            `softstate.TokenRequest` and returns a token. It is called for the first one, well before one ends, and when
            a node refuses one; one call at a time, each for 30 s at most, again and again after a backoff if it fails.
            If it returns None or raises `softstate.Denied`, the client stops.
        tls: Which nodes to trust at ``wss`` and ``https`` URLs, and with which certificate, if any, to present this
            client; None stands for the authorities of the system. ``ssl.create_default_context(cafile="ca.pem")``
            makes one. A node whose certificate is not accepted is tried again: `Client.last_error` says why.
        headers: Sent with each request and each handshake, for a proxy in front of the nodes for example.
        max_age: The age, in seconds, that knowledge is to stay below: the client asks for beats at most half as far
            apart, and `Client.known` and `Client.read` take it where they are given none. A node may grant less: that
            is logged, and `Client.bound_s` says what holds. Nodes of default settings can keep to 2.2 s.
        ordered: Try the URLs in the order in which they are given. Else each client shuffles them, so that many clients
            do not all begin at the first.
        ttl_ms: Longest lease wanted, in milliseconds; None leaves it to the node.
        beat_ms: Longest time wanted between two beats, in milliseconds, by which ages stay young and a silent node is
            noticed; None asks for none, which spares a radio. A node grants 1,000 or more.
        connect_timeout_s: How long a connection may take, with its handshakes, before another URL is tried.
        poll_timeout_s: How long an answer over HTTP may take to a poll, or to publishes that go that way.
        open_stream: Opens every stream instead of TCP; for simulation and proxies.
        random: Source of jitter and of the id that publishes are numbered under; for reproducible tests.
        clock: Measures ages; it should run while the host is suspended.

    Raises:
        ConfigError: An argument is wrong.

    """
    parsed = list(dict.fromkeys(map(parse_url, urls_of(urls))))
    if not parsed:
        raise ConfigError("connect needs the URL of at least one node")
    check_options(max_age=max_age, connect_timeout_s=connect_timeout_s, poll_timeout_s=poll_timeout_s, ordered=ordered)
    extra = headers_of(headers, token=token is not None)
    check_settings(push=push, codec=codec, name=name, token=token, ttl_ms=ttl_ms, beat_ms=beat_ms)
    check_tls(tls, ssl.SSLContext, any(url.tls for url in parsed), own=open_stream is not None)
    open_stream = open_stream or (open_tcp if tls is None else opening(tls))
    random = random or random_module.Random()
    clock = clock or system_clock()
    if not ordered:
        random.shuffle(parsed)
    if max_age is not None:
        beat_ms = min(beat_ms or BEAT_MS, beat_ms_for(max_age))
    provider = None if token is None or isinstance(token, str) else token
    options = MachineOptions(
        urls=tuple(map(str, parsed)),
        push=push,
        name=name,
        provider=provider is not None,
        ttl_ms=ttl_ms,
        beat_ms=beat_ms,
        connect_timeout_s=connect_timeout_s,
        poll_timeout_s=poll_timeout_s,
    )
    cell = TokenCell(token if isinstance(token, str) else None)
    http = HttpClient(open_stream, CBOR if codec == "cbor" else JSON, cell, extra)
    machine, dispatcher = Machine(options, random, cell), Dispatcher()
    shell = Shell(machine, dispatcher, open_stream, http, clock, provider, extra)
    reading = Reading(parsed, random, cell, anyio.current_time, clock=clock.now, provider=provider is not None)
    reader = Reader(http, reading, shell)
    limit = math.inf if max_age is None else max_age
    return Block(Client(machine, shell, dispatcher, reader, clock, random, limit), shell)
