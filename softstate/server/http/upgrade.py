"""WebSocket handshakes: validation and answer (RFC 6455 section 4.2, P-HTTP-10), sans-I/O."""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass

from softstate.auth.presented import NOTHING_PRESENTED, Presented
from softstate.errors import Invalid, Unsupported
from softstate.server.http1 import Refused, RequestHead
from softstate.wire import CODECS, Codec

VERSION = "13"

_OFFER = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SIXTEEN_BYTES = re.compile(rb"[A-Za-z0-9+/]{22}==")
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "


@dataclass(slots=True)
class Handshake:
    """A valid handshake: the codec that it selects, the answer to send, and the bytes received behind it: frames.

    `presented` is what its request presents.
    """

    codec: Codec
    answer: bytes
    behind: bytes = b""
    presented: Presented = NOTHING_PRESENTED


def check_upgrade(head: RequestHead) -> Codec:
    """Check that a request is a handshake, but for its key; return the codec that it selects. Raises `Refused`.

    Of the subprotocols offered, the first that is known here is selected. Offers of extensions are ignored: nothing is
    sent compressed.
    """
    if head.method != "GET":
        raise Refused(405, Invalid("a WebSocket handshake is a GET"), [("Allow", "GET")])
    if "websocket" not in _tokens(head, b"upgrade") or "upgrade" not in _tokens(head, b"connection"):
        message = "this route speaks WebSocket only: send Upgrade: websocket and Connection: Upgrade"
        raise Refused(426, Unsupported(message), _OFFER)  # also over HTTP/1.0, as behind a proxy that changes both
    if head.minor == 0:
        raise Refused(400, Invalid("a WebSocket handshake needs HTTP/1.1"))
    if _value(head, b"sec-websocket-version") != VERSION:
        message = f"Sec-WebSocket-Version must be {VERSION}"
        raise Refused(426, Unsupported(message), [("Sec-WebSocket-Version", VERSION), *_OFFER])
    if head.body_bytes != 0:
        raise Refused(400, Invalid("a WebSocket handshake has no body"))
    for protocol in _value(head, b"sec-websocket-protocol").split(","):
        codec = CODECS.get(protocol.strip())
        if codec is not None:
            return codec
    raise Refused(400, Unsupported(f"Sec-WebSocket-Protocol must offer {' or '.join(CODECS)}"))


def answer_key(key: bytes, codec: Codec) -> bytes:
    """Return the answer to a valid handshake with this key. Raises `Refused` if that is none."""
    # One that came twice is joined by a comma, which is no base64.
    if not _SIXTEEN_BYTES.fullmatch(key):
        raise Refused(400, Invalid("Sec-WebSocket-Key must be given once, as 16 bytes in base64"))
    accept = binascii.b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return b"".join((_SWITCHING, accept[:-1], b"\r\nSec-WebSocket-Protocol: ", codec.protocol.encode(), b"\r\n\r\n"))


def _value(head: RequestHead, name: bytes) -> str:
    return head.headers.get(name, b"").decode("latin-1")


def _tokens(head: RequestHead, name: bytes) -> list[str]:
    return [token.strip() for token in _value(head, name).lower().split(",")]
