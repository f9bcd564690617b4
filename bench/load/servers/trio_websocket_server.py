"""The floor of a session: a bare trio-websocket server holds, opens and renews it.

``python -m bench.load.servers.trio_websocket_server --port PORT --replies 600,180,240``: each message is answered with
prepared bytes, as many as softstate's answer to the first, the second, and all later messages has. It does not parse
messages and keeps no state of a connection beyond that of `serve_websocket`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from softstate.wire import CBOR


async def main(port: int, sizes: Sequence[int]) -> None:
    """Serve until killed."""
    *firsts, last = (b"r" * size for size in sizes)

    async def handle(request: WebSocketRequest) -> None:
        connection = await request.accept(subprotocol=CBOR.protocol)
        try:
            for reply in firsts:
                await connection.get_message()
                await connection.send_message(reply)
            while True:
                await connection.get_message()
                await connection.send_message(last)
        except ConnectionClosed:
            pass

    await serve_websocket(handle, "127.0.0.1", port, None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--replies", required=True)
    words = parser.parse_args()
    trio.run(main, words.port, [int(size) for size in words.replies.split(",")])
