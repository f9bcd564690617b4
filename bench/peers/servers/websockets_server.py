"""The server that a user of the `websockets` package would write: ``… websockets_server --port PORT [--no-pings]``.

Messages of text: ``subscribe TOPIC…`` is answered ``subscribed``; ``publish TOPIC VALUE`` is broadcast to the topic's
subscribers, the value alone, and answered ``published``. Nothing is stored. It runs on uvloop, without compression.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
from collections import defaultdict
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

PING_S = 20.0
"""The default of the package."""

topics: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def handle(connection: ServerConnection) -> None:
    """Serve one connection until it ends."""
    followed: list[str] = []
    try:
        with suppress(ConnectionClosed):
            async for message in connection:
                word, *rest = str(message).split(" ")
                if word == "subscribe":
                    followed += rest
                    for topic in rest:
                        topics[topic].add(connection)
                    await connection.send("subscribed")
                else:
                    broadcast(topics[rest[0]], rest[1])
                    await connection.send("published")
    finally:
        for topic in followed:
            topics[topic].discard(connection)


async def main(port: int, *, pings: bool) -> None:
    """Serve until killed."""
    interval = PING_S if pings else None
    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=interval, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--no-pings", action="store_true")
    words = parser.parse_args()
    with asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop) as runner:
        runner.run(main(words.port, pings=not words.no_pings))
