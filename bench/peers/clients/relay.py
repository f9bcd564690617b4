"""A relay between clients and a server that can lose all packets, without that a connection ends: a silent partition.

``python -m bench.peers.clients.relay --to PORT``, driven over `bench.load.process`: ``port``, ``lose``, ``heal``.

While it loses, nothing passes, neither side is told, and new connections are not even accepted: the listener's queue is
full, so that the kernel drops their SYNs, and clients try again as TCP does. What was sent meanwhile arrives after the
heal when TCP would have sent it again: 200 ms after it was sent first, then after twice as long, and so on. So a
connection that outlives a long partition is not used at once.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import trio

from bench.peers.clients.lines import Command, serve

RETRANSMIT_S = 0.2
"""The first timeout of a retransmission, Linux' least; each further one is twice as long."""
RETRANSMIT_S_MAX = 120.0
CHUNK_BYTES = 64 * 1024
BACKLOG = 4096

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


def retransmitted_at(sent_at: float, healed_at: float) -> float:
    """Return when a segment that was sent first at a time is sent again, at or after the heal."""
    timeout_s, at = RETRANSMIT_S, sent_at
    while at < healed_at:
        at += timeout_s
        timeout_s = min(2 * timeout_s, RETRANSMIT_S_MAX)
    return at


class Relay:
    """Passes TCP connections on to a port of this machine. `port` is where it listens. Times are of Trio's clock."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = trio.socket.socket()
        self._accepting = trio.CancelScope()
        self._filler: socket.socket | None = None
        self._passing = trio.Event()
        self._passing.set()
        self._healed_at = 0.0
        self.port = 0
        self.holding = 0
        """Directions of connections on which something was lost that waits to be sent again."""

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled; started once it listens."""
        with self._listener:
            await self._listener.bind(("127.0.0.1", 0))
            self._listener.listen(BACKLOG)
            self.port = self._listener.getsockname()[1]
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    await self._passing.wait()
                    with trio.CancelScope() as self._accepting:
                        while True:
                            near, _ = await self._listener.accept()
                            nursery.start_soon(self._relay, trio.SocketStream(near))

    def lose(self) -> None:
        """Lose everything from now on."""
        self._passing = trio.Event()
        self._accepting.cancel()
        self._listener.listen(0)
        # One connection fills a queue of length 0.
        self._filler = socket.create_connection(("127.0.0.1", self.port))

    def heal(self) -> None:
        """Let everything pass again."""
        self._healed_at = trio.current_time()
        if self._filler is not None:
            self._filler.close()
        self._listener.listen(BACKLOG)
        self._passing.set()

    async def _relay(self, near: trio.SocketStream) -> None:
        with suppress(*_BROKEN):
            async with near, await trio.open_tcp_stream("127.0.0.1", self._to) as far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, near, far, nursery.cancel_scope)
                nursery.start_soon(self._pass_on, far, near, nursery.cancel_scope)

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        """Pass bytes on; when either side ends, and that arrives, both do."""
        data: bytes | bytearray = b"-"
        while data:
            try:
                data = await source.receive_some(CHUNK_BYTES)
            except _BROKEN:
                data = b""
            if not self._passing.is_set():
                sent_at = trio.current_time()
                self.holding += 1
                await self._passing.wait()
                await trio.sleep_until(retransmitted_at(sent_at, self._healed_at))
                self.holding -= 1
            try:
                await sink.send_all(data)
            except _BROKEN:
                break
        both.cancel()


async def main(to: int) -> None:
    """Serve commands until stdin ends."""
    async with trio.open_nursery() as nursery:
        relay = Relay(to)
        await nursery.start(relay.serve)

        def command(act: Callable[[], None]) -> Command:
            async def answered() -> Mapping[str, Any]:
                act()
                return {"port": relay.port}

            return answered

        acts = {"port": lambda: None, "lose": relay.lose, "heal": relay.heal}
        await serve({name: command(act) for name, act in acts.items()})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=int, required=True)
    trio.run(main, parser.parse_args().to)
