"""softstate for threads: the same client behind calls that block, for Django, Flask, Celery and scripts.

::

    soft = softstate.sync.connect("ws://127.0.0.1:8700", max_age=2.0)
    soft.follow("sessions/revoked/")
    if soft.known("sessions/revoked/" + session_id):
        raise PermissionDenied

One client may be used from any number of threads. It runs in a daemon thread of its own, which starts at the first use
in each process: a child of fork() has a client of its own, which follows the same names, and knows nothing at first.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, final

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from softstate.client.api.block import Blocking
from softstate.client.api.client import READ_TIMEOUT_S, Client as AsyncClient
from softstate.client.api.connect import connect as connect_async
from softstate.client.api.knowing import Known
from softstate.client.api.updates import Updates
from softstate.client.machine.state import Statistics
from softstate.client.requests.reading import Listing
from softstate.errors import ClientClosed, SoftstateError
from softstate.model import Change, Mode, Value

T = TypeVar("T")

__all__ = ["SyncClient", "connect"]

_USAGE = """softstate.sync is for threads, without async and await (`softstate.connect` is with them):
    soft = softstate.sync.connect("ws://127.0.0.1:8700")
    soft.follow("sessions/")                       # and then soft.known("sessions/7")
    for change in soft.watch("orders/"):
        ..."""


@final
class _Loop(asyncio.SelectorEventLoop):
    """A loop that finds hosts also once the main thread has ended while others go on: executors are closed by then."""

    async def getaddrinfo(
        self, host: Any, port: Any, *,
        family: int = 0, type: int = 0, proto: int = 0, flags: int = 0,  # noqa: A002 - asyncio's names
    ) -> Any:  # fmt: skip
        look_up = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        return await anyio.to_thread.run_sync(look_up, abandon_on_cancel=True)


@final
class _Running:
    """A client in a thread: everything that has to end with it is on `stack`."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[AsyncClient]]) -> None:
        self.stack = ExitStack()
        portal = start_blocking_portal("asyncio", {"loop_factory": _Loop}, name="softstate")
        self.portal: BlockingPortal = self.stack.enter_context(portal)
        self.stack.callback(self._stop)
        try:
            self.client: AsyncClient = self.stack.enter_context(self.portal.wrap_async_context_manager(opening()))
        except BaseException:
            self.stack.close()
            raise

    def follow(self, names: tuple[str, ...]) -> None:
        """Subscribe for as long as the client lives."""
        self.stack.enter_context(self.portal.wrap_async_context_manager(self.client.subscribe(*names)))

    def _stop(self) -> None:
        """Cancel what is left: iterators of `watch` that nobody ends, and calls that no node has answered yet."""
        with suppress(RuntimeError):  # it has ended by itself
            self.portal.call(self.portal.stop, True)


_OF_PARENTS: list[object] = []
"""In a child of fork(): its parents' clients and their subscriptions. They are not freed, which would wait for threads
that are not here."""

_CLIENTS: weakref.WeakSet[SyncClient] = weakref.WeakSet()


@final
class SyncClient(Blocking):
    """A client for threads. `connect` makes these.

    Methods of the same name as those of `softstate.Client` do the same, and raise the same. A call that Ctrl-C
    interrupts is given up.
    """

    _HINT = _USAGE

    def __init__(self, urls: tuple[str, ...], options: dict[str, Any]) -> None:
        self._urls = urls
        self._options = options
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._followed: dict[str, None] = {}
        self._closed = False
        _CLIENTS.add(self)

    # Knowing ---------------------------------------------------------------------------------------------------------

    def follow(self, *names: str) -> None:
        """Follow topics and prefixes from now on; those that are followed already stay so.

        Raises what `softstate.Client.subscribe` and entering its block raise.
        """
        running = self._run()
        with self._lock, self._ending(running):
            new = tuple(name for name in dict.fromkeys(names) if name not in self._followed)
            if new:
                running.follow(new)
                self._followed.update(dict.fromkeys(new))

    def known(self, topic: str, *, max_age: float | None = None) -> Known | None:
        """See `softstate.Client.known`. It waits for no network."""
        return self._call(lambda client: _now(client.known(topic, max_age=max_age)))

    def read(self, topic: str, *, max_age: float | None = None, timeout_s: float = READ_TIMEOUT_S) -> Known | None:
        """See `softstate.Client.read`."""
        return self._call(lambda client: client.read(topic, max_age=max_age, timeout_s=timeout_s))

    def get(self, topic: str, *, at_least: int | None = None, timeout_s: float = READ_TIMEOUT_S) -> Change | None:
        """See `softstate.Client.get`."""
        return self._call(lambda client: client.get(topic, at_least=at_least, timeout_s=timeout_s))

    def list(self, prefix: str, *, timeout_s: float = READ_TIMEOUT_S) -> Listing:
        """See `softstate.Client.list`."""
        return self._call(lambda client: client.list(prefix, timeout_s=timeout_s))

    def watch(self, *names: str, timeout_s: float = math.inf) -> Iterator[Change]:
        """Iterate over changes as a subscription does; end when none has come for `timeout_s` seconds.

        Raises `softstate.ClientClosed` once the client was closed; and in a child of fork(), which calls it again.
        """
        return _Watch(self._watch(names, timeout_s))

    def _watch(self, names: tuple[str, ...], timeout_s: float) -> Iterator[Change]:
        running, opened = self._run(), os.getpid()
        block = running.portal.wrap_async_context_manager(running.client.subscribe(*names))
        with self._ending(running):
            updates = block.__enter__()
        try:
            while (change := self._next(running, updates, timeout_s, opened)) is not None:
                yield change
        finally:
            if os.getpid() != opened:
                _OF_PARENTS.append(block)
            else:
                with suppress(RuntimeError, CancelledError):  # the client was closed, and this with it
                    block.__exit__(None, None, None)

    # Publishing ------------------------------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        value: Value,
        *,
        expect: int | None = None,
        key: str | None = None,
        timeout_s: float = math.inf,
    ) -> int:
        """See `softstate.Client.publish`."""
        return self._call(lambda client: client.publish(topic, value, expect=expect, key=key, timeout_s=timeout_s))

    def update(self, topic: str, change: Callable[[Value], Value], *, timeout_s: float = math.inf) -> int:
        """See `softstate.Client.update`. `change` is called in the client's thread: it must not use this client."""
        return self._call(lambda client: client.update(topic, change, timeout_s=timeout_s))

    def delete(
        self, topic: str, *, expect: int | None = None, key: str | None = None, timeout_s: float = math.inf
    ) -> int:
        """See `softstate.Client.delete`."""
        return self._call(lambda client: client.delete(topic, expect=expect, key=key, timeout_s=timeout_s))

    # Its life --------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """The client's mode, ``closed`` before its first use in this process."""
        running = self._running
        return "closed" if running is None else running.client.mode

    @property
    def age(self) -> float:
        """See `softstate.Client.age`: infinite before its first use in this process, and when nothing is followed."""
        return math.inf if self._running is None else self._call(lambda client: _now(client.age))

    @property
    def last_error(self) -> SoftstateError | None:
        """See `softstate.Client.last_error`."""
        running = self._running
        return None if running is None else running.client.last_error

    def statistics(self) -> Statistics:
        """See `softstate.Client.statistics`; of this process."""
        return self._call(lambda client: _now(client.statistics()))

    def close(self) -> None:
        """Say goodbye to nodes, and end the thread. Calls that wait, and later ones, raise `softstate.ClientClosed`."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None:
            running.stack.close()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<softstate.sync.SyncClient {', '.join(self._urls)}, {self.mode}>"

    def _run(self) -> _Running:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client was closed")
            if self._running is None:
                running = _Running(lambda: connect_async(self._urls, **self._options))
                if self._followed:
                    running.follow(tuple(self._followed))
                self._running = running
            return self._running

    def _call(self, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        running = self._run()
        with self._ending(running):
            return self._wait(running.portal.start_task_soon(_asked, ask, running.client))

    def _next(self, running: _Running, updates: Updates, timeout_s: float, opened: int) -> Change | None:
        if os.getpid() != opened:
            raise ClientClosed("this iterator was made before fork(): call watch again in the child")
        with self._ending(running):
            return self._wait(running.portal.start_task_soon(_next, updates, timeout_s))

    @contextmanager
    def _ending(self, running: _Running) -> Iterator[None]:
        """Have calls that fail because the client is closed meanwhile say so."""
        try:
            yield
        except (RuntimeError, CancelledError, asyncio.CancelledError) as error:
            if self._running is running:
                raise
            raise ClientClosed("the client was closed") from error

    @staticmethod
    def _wait(answer: Future[T]) -> T:
        try:
            return answer.result()
        except BaseException:
            answer.cancel()
            raise

    def _forget(self) -> None:
        """Begin again in a child of fork(), which has no thread but its own."""
        self._lock = threading.Lock()
        if self._running is not None:
            _OF_PARENTS.append(self._running)
        self._running = None


@final
class _Watch(Blocking):
    """The iterator of `SyncClient.watch`; it unsubscribes when it ends, or is no longer referred to."""

    _HINT = _USAGE

    def __init__(self, changes: Iterator[Change]) -> None:
        self._changes = changes

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        return next(self._changes)


def connect(*urls: str, **options: Any) -> SyncClient:
    """Return a client of one or more nodes of one store, for threads.

    It connects at its first use in each process. `options` are those of `softstate.connect`; a provider of tokens is an
    async function, which runs in the client's thread under asyncio. Raises `softstate.ConfigError` for wrong ones.
    """
    connect_async(urls, **options)  # checks them
    return SyncClient(urls, options)


async def _asked(ask: Callable[[AsyncClient], Awaitable[T]], client: AsyncClient) -> T:
    return await ask(client)


async def _now(found: T) -> T:
    return found


async def _next(updates: Updates, timeout_s: float) -> Change | None:
    with anyio.move_on_after(timeout_s):
        return await anext(updates)
    return None


def _after_fork() -> None:
    for client in list(_CLIENTS):
        client._forget()  # noqa: SLF001 - this module's own


def _at_exit() -> None:
    with ExitStack() as all_of_them:  # one that raises keeps no other from closing
        for client in list(_CLIENTS):
            all_of_them.callback(client.close)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
