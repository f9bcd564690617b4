"""The least that a Python HTTP server on Trio can do: h11 parses a request, and a fixed body is the answer.

``python -m bench.load.servers.h11_server --port PORT``. The path, ``/STATUS/BYTES``, chooses the answer;
the rest of a request is parsed and ignored. There are no limits and no deadlines, which a real server needs.
"""

from __future__ import annotations

import argparse
from functools import partial

import h11
import trio

RECEIVE_BYTES = 16 * 1024


async def serve_connection(stream: trio.SocketStream) -> None:
    """Answer requests until the peer closes."""
    connection = h11.Connection(h11.SERVER)
    asked = h11.Request(method="GET", target="/404/0", headers=[("Host", "127.0.0.1")])
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
        elif isinstance(event, h11.Request):
            asked = event
        elif isinstance(event, h11.EndOfMessage):
            await stream.send_all(_reply(connection, asked))
            connection.start_next_cycle()
        elif not isinstance(event, h11.Data):
            await stream.aclose()
            return


def _reply(connection: h11.Connection, asked: h11.Request) -> bytes:
    _, status, size = asked.target.split(b"/")
    headers = [(b"Content-Type", b"application/cbor")]
    if status != b"304":
        headers.append((b"Content-Length", size))
    data = connection.send(h11.Response(status_code=int(status), headers=headers)) or b""
    if status != b"304":
        data += connection.send(h11.Data(data=bytes(int(size)))) or b""
    return data + (connection.send(h11.EndOfMessage()) or b"")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    trio.run(partial(trio.serve_tcp, serve_connection, parser.parse_args().port, host="127.0.0.1"))
