"""One scrape of any worker of ``softstate serve --workers`` tells of all: each asks the others for their metrics.

They talk over Unix sockets in Linux's abstract namespace, which leave no file behind, and only to processes of the same
user. A worker that hangs, or is just being started again, is missing after `ANSWER_S_MAX`, and the answer says so.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import final

import trio

from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.observe.merging import merged

ANSWER_S_MAX = 1.0
"""Seconds within which another worker has to have told its metrics; Prometheus waits for ten by default."""

TEXT_BYTES_MAX = 4 * 1024 * 1024
"""Longest text of one worker: a hundred times what it is."""

_CREDENTIALS = struct.Struct("3i")
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@final
class Siblings:
    """The workers of one supervisor, as number `own` of them sees the others, from 1 to `count`.

    `family` is a name that no other supervisor on this machine has.
    """

    def __init__(self, family: str, own: int, count: int) -> None:
        self._family = family
        self._own = own
        self._count = count

    def _name(self, number: int) -> str:
        return f"\0softstate/metrics/{self._family}/{number}"

    async def run(self, metrics: Callable[[], bytes], bulkhead: Bulkhead) -> None:
        """Tell the own metrics to each of the others that asks, until cancelled."""
        while True:
            with bulkhead.contain("siblings"), suppress(OSError):
                await self._tell(metrics)
            await trio.sleep(RETRY_S)  # the name may still be that of the process before this one

    async def _tell(self, metrics: Callable[[], bytes]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
            bound.bind(self._name(self._own))  # without the thread that Trio takes for names that are files
            bound.listen(self._count)
            bound.setblocking(False)
            listener = trio.socket.from_stdlib_socket(bound)
            while True:
                connection, _ = await listener.accept()
                with connection, trio.move_on_after(ANSWER_S_MAX), suppress(*_GONE):
                    if is_own(connection):
                        await trio.SocketStream(connection).send_all(metrics())

    async def gather(self, own: bytes) -> bytes:
        """Return the metrics of all, each with a label `worker`; those of this worker are `own`. Never raises."""
        texts: dict[int, bytes | None] = dict.fromkeys(range(1, self._count + 1))
        texts[self._own] = own

        async def ask(number: int) -> None:
            texts[number] = await self._ask(number)

        async with trio.open_nursery() as nursery:
            for number in texts:
                if number != self._own:
                    nursery.start_soon(ask, number)
        return merged(texts)

    async def _ask(self, number: int) -> bytes | None:
        text = b""
        with (
            trio.move_on_after(ANSWER_S_MAX) as waiting,
            suppress(*_GONE),
            trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            await connection.connect(self._name(number))
            if not is_own(connection):
                return None
            while len(text) <= TEXT_BYTES_MAX and (data := await connection.recv(65_536)):
                text += data
        whole = not waiting.cancelled_caught and 0 < len(text) <= TEXT_BYTES_MAX and text.endswith(b"\n")
        return text if whole else None


def is_own(connection: trio.socket.SocketType) -> bool:
    """Tell whether the process at the other end is of this user: anybody may use a name of the abstract namespace."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(told)
    return bool(user == os.getuid())
