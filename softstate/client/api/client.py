"""The client as an application sees it: `connect`, and the `Client` that it gives.

::

    async with softstate.connect("ws://127.0.0.1:8700") as client:
        async with client.subscribe("orders/42", "prices/") as updates:
            async for change in updates:              # newest value per topic, never a backlog
                print(change.topic, change.version, change.value, updates.age, client.mode)

A client never fails because a node does. It goes on by whatever path works (push, polling, another node), and says at
any moment how old its knowledge may be: `Updates.age`. Only what no waiting mends is raised: refused credentials.
"""

from __future__ import annotations

import random as random_module
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeAlias, final

import trio

from softstate.client.api.updates import Handles, Updates
from softstate.client.machine.events import (
    Deliver,
    Denied,
    ModeChanged,
    PublishAsked,
    PublishDropped,
    Reset,
    Settled,
    Stopped,
    Unwanted,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.client.shell.clock import Clock, system_clock
from softstate.client.shell.http import HttpClient
from softstate.client.shell.reader import Reader
from softstate.client.shell.shell import Driven, Shell, ToApplication
from softstate.client.url import NodeUrl, parse_url
from softstate.errors import ClientClosed, ConfigError, Invalid, SoftstateError
from softstate.http_client.streams import OpenStream, open_tcp
from softstate.model import Change, Mode, Value
from softstate.names import check_prefix, check_topic, is_prefix
from softstate.position import REVISION_MAX, Position
from softstate.wire import CBOR, JSON, decode_value, encode_value
from softstate.wire.messages import DURATION_MS_MAX, KEY_CHARS_MAX, NAME_CHARS_MAX, TOKEN_CHARS_MAX, Published

Changes: TypeAlias = list[Change]

SENT_VALUE_BYTES_MAX = 512 * 1024
"""Longest value that is sent at all, as CBOR: below what makes a message too long (1 MiB), which would cost the
connection. The node's own limit on values is lower, 64 KiB by default, and answered with `TooLarge`."""

READ_TIMEOUT_S = 10.0
"""How long reads over HTTP try, unless told otherwise."""


@final
class Receipt:
    """A publish on its way. `Client.publish_soon` makes these."""

    def __init__(self, drop: Callable[[], None]) -> None:
        self.drop = drop
        """Call this to send it no more. If it was sent already, it may be applied all the same."""
        self._outcome: Published | SoftstateError | None = None
        self._settled = trio.Event()

    @property
    def settled(self) -> bool:
        """Whether the outcome is known, so that `wait` would not wait."""
        return self._settled.is_set()

    async def wait(self) -> Published:
        """Wait until the change is durable, and return the answer, with its `version`.

        Raises what `Client.publish` raises. If cancelled, the publish goes on, and may be waited for again.
        """
        await self._settled.wait()
        if isinstance(self._outcome, Published):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome.with_traceback(None)

    def settle(self, outcome: Published | SoftstateError) -> None:
        """Take the outcome."""
        self._outcome = outcome
        self._settled.set()


@final
class Client:
    """A client of one or more nodes of one store. `connect` makes these; all methods are for one Trio loop."""

    def __init__(
        self, machine: Driven, urls: Sequence[NodeUrl], http: HttpClient, open_stream: OpenStream,
        random: random_module.Random, clock: Clock,
    ) -> None:  # fmt: skip
        self._machine = machine
        self._clock = clock
        self._random = random
        self._reader = Reader(http, urls, random)
        self._shell = Shell(machine, self, open_stream, http, clock)
        self._handles = Handles()
        self._receipts: dict[int, Receipt] = {}
        self._tickets = 0
        self._over: SoftstateError | None = None
        self._progress = trio.lowlevel.ParkingLot()
        self._mode_changes = trio.lowlevel.ParkingLot()

    # Knowing where one stands ----------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What the client is doing: connecting, syncing, live, suspect, polling, offline, stopped or closed."""
        return self._machine.mode

    @property
    def age(self) -> float:
        """The greatest age of all its subscriptions, in seconds, as of now (see `Updates.age`)."""
        return self._machine.age(self._clock.now())

    @property
    def position(self) -> Position | None:
        """The newest point of the store's history that the client has heard of, None before the first answer."""
        return self._machine.position

    def statistics(self) -> Any:
        """Return counters of what happened so far: repairs by kind, reconnects, polls, resets, drops."""
        return self._machine.statistics()

    def modes(self) -> AsyncIterator[Mode]:
        """Iterate over `mode`: the present one at once, then the newest whenever it is another. Ends when closed."""
        return _Modes(self, self._mode_changes)

    # Following topics ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def subscribe(self, *names: str) -> AsyncIterator[Updates]:
        """Follow topics (``orders/42``) and prefixes (``prices/``, or ``/`` for everything) for as long as the block.

        What is known of a name already, because another handle is on it, is there at once. Raises `softstate.Invalid`
        for a malformed name or none at all, and what iterating raises if the client is closed or was stopped.
        """
        for name in names:
            check_prefix(name, "a prefix") if isinstance(name, str) and is_prefix(name) else check_topic(name, "a name")
        if not names:
            raise Invalid("subscribe needs at least one topic or prefix")
        await trio.lowlevel.checkpoint()
        self._check_open()
        updates = Updates(names, self._age_of, self._progress)
        for name in updates.names:
            for change in self._machine.known(name):
                if change.version > 0 and not change.deleted:
                    updates.push(change)
        if new := self._handles.add(updates):
            self._shell.handle(Wanted(new))
        try:
            yield updates
        finally:
            if freed := self._handles.remove(updates):
                self._shell.handle(Unwanted(freed))
            updates.close()

    # Publishing ------------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, value: Value, *, expect: int | None = None, key: str | None = None) -> int:
        """Set a topic's value; return its version once it is durable.

        With `expect`, only if the topic is at that version now (0: if it does not exist). `key` is an idempotency key:
        publishing again with the same key, also from another client, has no further effect and returns the first
        version, for as long as nodes remember it (10 minutes by default); without one, a random one is made.

        It is sent again, with its key, for as long as it takes to get an answer. Raises `softstate.Conflict`,
        `softstate.Invalid`, `softstate.TooLarge`, `softstate.Denied`, `softstate.KeyReused`, `softstate.Overloaded`
        (too many are waiting here), `softstate.OutcomeUnknown` (sent, and not answered for as long as its key lives),
        `softstate.ClientClosed`. If cancelled, it may or may not be applied.
        """
        return await self._finish(self.publish_soon(topic, value, expect=expect, key=key))

    async def delete(self, topic: str, *, expect: int | None = None, key: str | None = None) -> int:
        """Delete a topic; return the version of its tombstone. Everything else is as for `publish`."""
        return await self._finish(self.delete_soon(topic, expect=expect, key=key))

    def publish_soon(self, topic: str, value: Value, *, expect: int | None = None, key: str | None = None) -> Receipt:
        """Begin to publish, and return at once. Publishes of one topic are applied in the order of these calls.

        This is how to have many on their way at once. Raises `softstate.Invalid` or `softstate.TooLarge` for what can
        be checked here, and `softstate.ClientClosed`; the rest comes from `Receipt.wait`.
        """
        cbor = encode_value(value, SENT_VALUE_BYTES_MAX)
        if isinstance(value, dict | list):
            value = decode_value(cbor)  # the application may change its own while this waits to be sent
        return self._ask(topic, value, deleted=False, expect=expect, key=key)

    def delete_soon(self, topic: str, *, expect: int | None = None, key: str | None = None) -> Receipt:
        """Begin to delete, and return at once; as `publish_soon`."""
        return self._ask(topic, None, deleted=True, expect=expect, key=key)

    def _ask(self, topic: str, value: Value, *, deleted: bool, expect: int | None, key: str | None) -> Receipt:
        check_topic(topic)
        if expect is not None and not 0 <= expect <= REVISION_MAX:
            raise Invalid(f"expect must be a version, 0 to {REVISION_MAX}")
        if key is not None and not 1 <= len(key) <= KEY_CHARS_MAX:
            raise Invalid(f"key must have 1 to {KEY_CHARS_MAX} characters")
        self._check_open()
        self._tickets += 1
        receipt = self._receipts[self._tickets] = Receipt(partial(self._drop, self._tickets))
        key = key or f"{self._random.getrandbits(128):032x}"
        self._shell.handle(PublishAsked(self._tickets, topic, value, deleted, expect, key))
        return receipt

    async def _finish(self, receipt: Receipt) -> int:
        try:
            return (await receipt.wait()).version
        finally:
            receipt.drop()

    def _drop(self, ticket: int) -> None:
        if (receipt := self._receipts.pop(ticket, None)) is not None:
            receipt.settle(ClientClosed("this publish was dropped; if it was sent, it may be applied all the same"))
            self._shell.handle(PublishDropped(ticket))

    # Reading ---------------------------------------------------------------------------------------------------------

    async def get(self, topic: str, *, at_least: int | None = None, timeout_s: float = READ_TIMEOUT_S) -> Change | None:
        """Read one topic from a node, without subscribing.

        With `at_least`, a version, the answer is no older than that on whichever node: give it the version that
        `publish` returned to read your own write. Returns None for a topic of which nothing is known, and a change
        that says `deleted` if its tombstone is. Other nodes are tried when one fails. When `timeout_s` is over, raises
        `softstate.Behind` or `softstate.Unavailable`. Always safe to cancel.
        """
        check_topic(topic)
        self._check_open()
        return await self._reader.get(topic, at_least, timeout_s)

    async def status(self, *, timeout_s: float = READ_TIMEOUT_S) -> dict[str, object]:
        """Return a node's account of what it holds. Raises `softstate.Unavailable` when `timeout_s` is over."""
        self._check_open()
        return await self._reader.status(timeout_s)

    async def list(self, prefix: str, *, timeout_s: float = READ_TIMEOUT_S) -> Changes:
        """Read all topics below a prefix (``/``: all there are), sorted by name. Raises and retries as `get` does."""
        check_prefix(prefix)
        self._check_open()
        return await self._reader.listing(prefix, timeout_s)

    # What the shell tells it -----------------------------------------------------------------------------------------

    def perform(self, action: ToApplication) -> None:
        """Take an action of the machine. For the shell only."""
        match action:
            case Deliver():
                self._handles.deliver(action.change)
            case Settled():
                if (receipt := self._receipts.pop(action.ticket, None)) is not None:
                    receipt.settle(action.outcome)
            case Reset():
                for updates in self._handles.all():
                    updates.reset(action)
            case ModeChanged():
                for updates in self._handles.all():
                    updates.mode_changed(action)
                self._mode_changes.unpark_all()
            case Denied():
                self._handles.deny(action.names)
            case Stopped():
                self._finish_all(action.error)

    def advanced(self) -> None:
        """Look who waited for what has come. For the shell only."""
        self._progress.unpark_all()

    def open(self, nursery: trio.Nursery) -> None:
        """Begin, in tasks of that nursery. For `connect` only."""
        self._shell.open(nursery)

    def close(self) -> None:
        """Close the client, as leaving the block of `connect` does: whoever waits for it gets `ClientClosed`."""
        try:
            self._shell.close()
        finally:
            self._finish_all(ClientClosed("the client was closed; what it had sent may be applied all the same"))

    def _finish_all(self, error: SoftstateError) -> None:
        if isinstance(error, ClientClosed) or self._over is None:
            self._over = error
        for updates in self._handles.all():
            updates.end(error)
        for receipt in self._receipts.values():
            receipt.settle(error)
        self._receipts.clear()
        self._mode_changes.unpark_all()

    def _check_open(self) -> None:
        if self._over is not None:
            raise self._over.with_traceback(None)

    def _age_of(self, names: Iterable[str]) -> float:
        return self._machine.age(self._clock.now(), names)


@final
class _Modes:
    """The iterator of `Client.modes`."""

    def __init__(self, client: Client, changes: trio.lowlevel.ParkingLot) -> None:
        self._client = client
        self._changes = changes
        self._last: Mode | None = None

    def __aiter__(self) -> AsyncIterator[Mode]:
        return self

    async def __anext__(self) -> Mode:
        await trio.lowlevel.checkpoint()
        while self._client.mode == self._last:
            if self._last == "closed":
                raise StopAsyncIteration
            await self._changes.park()
        self._last = self._client.mode
        return self._last


@final
class _Connecting:
    """The block of `connect`. It gives the block's own exceptions back as they are, in no group."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks = trio.open_nursery()

    async def __aenter__(self) -> Client:
        # Nothing may wait, and so be cancelled, between here and the block: the nursery would stay open.
        self._client.open(await self._tasks.__aenter__())
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            self._client.close()
        finally:  # the nursery is left whatever happens
            swallowed = await self._leave(kind, error, trace)
        return swallowed

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, trio.Cancelled):
            return bool(await self._tasks.__aexit__(kind, error, trace))
        try:
            await self._tasks.__aexit__(None, None, None)
        except (trio.Cancelled, BaseExceptionGroup) as ending:
            if error is None or not _only_cancelled(ending):
                raise
        return False


def _only_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


def connect(
    urls: str | Sequence[str],
    *,
    push: bool = True,
    codec: Literal["cbor", "json"] = "cbor",
    name: str = "",
    token: str | None = None,
    ttl_ms: int | None = None,
    open_stream: OpenStream | None = None,
    random: random_module.Random | None = None,
    clock: Clock | None = None,
) -> AbstractAsyncContextManager[Client]:
    """Begin to talk to a node, or to any of several nodes of one store, for as long as the block.

    It does not wait for a connection, and no node has to be there yet. Leaving the block says goodbye, so that nodes
    forget the lease at once; that takes a second at most. Cancelling it just closes everything.

    Args:
        urls: Where the nodes are, such as ``ws://127.0.0.1:8700``. ``http``, ``wss`` and ``https`` work too.
        push: Use WebSocket, where a node offers it; else only poll.
        codec: How messages are written. ``json`` is for people looking over the wire's shoulder.
        name: What nodes call this client in their logs; up to 128 characters.
        token: Credentials, sent in ``hello`` and as ``Authorization: Bearer``.
        ttl_ms: Longest lease wanted, in milliseconds; None leaves it to the node.
        open_stream: Opens every stream instead of TCP; for simulation, proxies, Unix sockets.
        random: Source of jitter and of idempotency keys; for reproducible tests.
        clock: What ages are measured by; it should run while the host is suspended.

    Raises:
        ConfigError: An argument is wrong.

    """
    parsed = list(dict.fromkeys(parse_url(url) for url in ([urls] if isinstance(urls, str) else urls)))
    if not parsed:
        raise ConfigError("connect needs the URL of at least one node")
    if codec not in ("cbor", "json"):
        raise ConfigError(f"codec must be 'cbor' or 'json', not {codec!r}")
    if len(name) > NAME_CHARS_MAX:
        raise ConfigError(f"name must have at most {NAME_CHARS_MAX} characters")
    if token is not None and not (token.isascii() and token.isprintable() and 0 < len(token) <= TOKEN_CHARS_MAX):
        raise ConfigError(f"token must be 1 to {TOKEN_CHARS_MAX} printable ASCII characters")
    if ttl_ms is not None and not 0 < ttl_ms <= DURATION_MS_MAX:
        raise ConfigError(f"ttl_ms must be 1 to {DURATION_MS_MAX}")
    open_stream = open_stream or open_tcp
    random = random or random_module.Random()
    clock = clock or system_clock()
    options = MachineOptions(urls=tuple(str(url) for url in parsed), push=push, name=name, token=token, ttl_ms=ttl_ms)
    http = HttpClient(open_stream, CBOR if codec == "cbor" else JSON, token)
    return _Connecting(Client(Machine(options, random), parsed, http, open_stream, random, clock))
