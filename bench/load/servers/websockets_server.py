"""The server that a user of the `websockets` package would write: it broadcasts what ``/publish`` receives.

``python -m bench.load.servers.websockets_server --port PORT``. It runs on uvloop if that is installed, without
pings and without compression.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

subscribers: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    """Serve one connection as publisher or subscriber, by its path."""
    if connection.request is not None and connection.request.path == "/publish":
        async for message in connection:
            broadcast(subscribers, message)
        return
    subscribers.add(connection)
    try:
        with suppress(ConnectionClosed):
            await connection.wait_closed()
    finally:
        subscribers.discard(connection)


async def main(port: int) -> None:
    """Serve until killed."""
    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096) as server:
        await server.serve_forever()


def loop_factory() -> Callable[[], Any] | None:
    """Return the function that makes uvloop's loop, or None without uvloop."""
    try:
        made: Callable[[], Any] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(parser.parse_args().port))
