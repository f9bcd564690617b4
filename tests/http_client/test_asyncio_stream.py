"""Streams under asyncio: they raise what callers know."""

from __future__ import annotations

import ssl

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from softstate.http_client.streams import STREAM_ERRORS, cause, open_secured


def test_an_end_within_the_handshake_of_tls_is_an_error_of_streams() -> None:
    async def hang_up(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()

    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, hang_up)
            with pytest.raises(STREAM_ERRORS) as raised:
                await open_secured("127.0.0.1", port, ssl.create_default_context())
            tasks.cancel_scope.cancel()
        assert "closed the connection" in str(cause(raised.value))

    anyio.run(main, backend="asyncio")
