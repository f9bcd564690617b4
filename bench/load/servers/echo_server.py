"""The least that a WebSocket server on Trio can do: trio-websocket sends each message back.

``python -m bench.load.servers.echo_server --port PORT``.
"""

from __future__ import annotations

import argparse
from contextlib import suppress

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    """Serve one connection."""
    connection = await request.accept()
    with suppress(ConnectionClosed):
        while True:
            await connection.send_message(await connection.get_message())


async def main(port: int) -> None:
    """Serve until killed."""
    await serve_websocket(echo, "127.0.0.1", port, None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    trio.run(main, parser.parse_args().port)
