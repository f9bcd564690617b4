"""Bytes for a server, and all that its side of HTTP/1.1 makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from softstate.server.config import ServerConfig
from softstate.server.http1 import Conversation, Refused, Reply, RequestHead

CONFIG = ServerConfig(head_bytes_max=1_000, headers_max=8, body_bytes_max=500)


@dataclass
class Seen:
    """The requests that were whole, as (method, target, body); then the status of a refusal, or None."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    refused: int | None = None
    why: str = ""
    headers: list[dict[bytes, bytes]] = field(default_factory=list)
    unfinished: bool = False
    """Whether the bytes ended within a request."""


def _fed(conversation: Conversation, data: bytes) -> RequestHead | bytes | Refused | None:
    """Feed bytes, in as many calls as that takes."""
    event = conversation.feed(data)
    while event is None and conversation.behind:
        event = conversation.feed()
    return event


def converse(raw: bytes, chunk: int = 1 << 20, config: ServerConfig = CONFIG, *, end: bool = False) -> Seen:
    """Feed bytes, `chunk` at a time, and answer each request once it is whole."""
    conversation, seen = Conversation(config), Seen()
    head: RequestHead | None = None
    closes = False
    for at in range(0, max(len(raw), 1), chunk):
        event = _fed(conversation, raw[at : at + chunk])
        while event is not None:
            if isinstance(event, Refused):
                seen.refused, seen.why = event.status, event.error.message
                return seen
            if isinstance(event, RequestHead):
                head = event
            body = event if isinstance(event, bytes) else conversation.body
            assert head is not None
            if body is None:
                try:
                    conversation.go_on()
                except Refused as refused:
                    seen.refused, seen.why = refused.status, refused.error.message
                    return seen
            else:
                target = (f"//{head.authority}" if head.authority is not None else "") + head.path
                seen.requests.append((head.method, target + (f"?{head.query}" if head.query else ""), body))
                seen.headers.append(head.headers)
                closes = b"Connection: close" in conversation.reply(Reply(200), "")
            event = _fed(conversation, b"")
    if end:
        last = conversation.end()
        if isinstance(last, Refused):
            seen.refused, seen.why = last.status, last.error.message
            return seen
    seen.unfinished = conversation.begun or not (conversation.reusable or closes)
    return seen
