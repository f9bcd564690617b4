"""One publish on a connection of its own, as bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Publishing:
    """How to publish to a server: the bytes of a whole conversation, and whether an answer acknowledges it.

    `request` gets the topic and the value.
    """

    request: Callable[[str, int], bytes]
    acknowledged: Callable[[bytes], bool]


def put(topic: str, value: int) -> bytes:
    """Return a request that publishes to a softstate node."""
    body = str(value).encode()
    head = f"PUT /v1/topics/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


PUT = Publishing(put, lambda data: data.startswith(b"HTTP/1.1 200 "))
"""To a softstate node."""
