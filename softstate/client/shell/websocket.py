"""Opening a WebSocket to a node, by the library for the loop that runs."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from softstate.client.shell.sockets import HandshakeFailed, Tasks, WebSocket
from softstate.client.shell.trust import mistrust
from softstate.client.url import NodeUrl
from softstate.errors import RequestError
from softstate.http_client.loop import running_loop
from softstate.http_client.streams import STREAM_ERRORS, OpenStream, Stream, cut, reason
from softstate.wire import Codec


async def open_websocket(
    tasks: Tasks,
    url: NodeUrl,
    codec: Codec,
    open_stream: OpenStream,
    timeout_s: float,
    headers: Sequence[tuple[str, str]] = (),
) -> WebSocket:
    """Open a WebSocket to a node, speaking `codec`; if it takes a reading task, that lives in `tasks`.

    `headers` go with the handshake. Raises `HandshakeFailed`: unreachable, refused (with the HTTP status), not speaking
    the protocol, or later than `timeout_s`. The stream is closed then, as it is when this is cancelled.
    """
    stream: Stream | None = None
    opened: WebSocket | None = None
    failure = f"no handshake with {url} within {timeout_s:g} s"
    unsent = False
    told: RequestError | None = None
    try:
        with anyio.move_on_after(timeout_s):
            stream = await open_stream(url.host, url.port, url.tls)
            opened = await _handshake(tasks, url, codec, stream, headers)
    except STREAM_ERRORS as error:
        told = mistrust(url, error)
        failure = f"{url} cannot be reached: {reason(error)}" if told is None else told.message
        unsent = stream is None
    finally:
        if opened is None and stream is not None:
            await cut(stream)
    if opened is None:
        raise HandshakeFailed(failure, error=told, unsent=unsent)
    return opened


async def _handshake(
    tasks: Tasks, url: NodeUrl, codec: Codec, stream: Stream, headers: Sequence[tuple[str, str]]
) -> WebSocket:
    # Imported when it is needed: neither loop's users pay for the other's library.
    if running_loop() == "asyncio":
        from softstate.client.shell import asyncio_websockets  # noqa: PLC0415

        return await asyncio_websockets.handshake(url, codec, stream, headers)
    from softstate.client.shell import trio_websockets  # noqa: PLC0415

    return await trio_websockets.handshake(tasks, url, codec, stream, headers)
