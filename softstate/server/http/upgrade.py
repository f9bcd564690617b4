"""WebSocket handshakes: validation and answer (RFC 6455 section 4.2, P-HTTP-10), sans-I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from softstate.errors import Invalid, Unsupported
from softstate.server.http1 import Refused, RequestHead
from softstate.wire import CODECS, Codec

VERSION = "13"

_OFFER = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Handshake:
    """A valid handshake: the codec that it selects, the answer to send, and the bytes received behind it: frames.

    `token` is what it presents as credentials, if anything.
    """

    codec: Codec
    answer: bytes
    behind: bytes = b""
    token: str | None = field(default=None, repr=False)


def check_upgrade(head: RequestHead) -> Handshake:
    """Return the handshake that a request is, with its answer. Raises `Refused` for any other request.

    Of the subprotocols offered, the first that is known here is selected. Offers of extensions are ignored: nothing is
    sent compressed.
    """
    if head.method != "GET":
        raise Refused(405, Invalid("a WebSocket handshake is a GET"), [("Allow", "GET")])
    if head.minor == 0:
        raise Refused(400, Invalid("a WebSocket handshake needs HTTP/1.1"))
    if "websocket" not in _tokens(head, b"upgrade") or "upgrade" not in _tokens(head, b"connection"):
        message = "this route speaks WebSocket only: send Upgrade: websocket and Connection: Upgrade"
        raise Refused(426, Unsupported(message), _OFFER)
    if _value(head, b"sec-websocket-version") != VERSION:
        message = f"Sec-WebSocket-Version must be {VERSION}"
        raise Refused(426, Unsupported(message), [("Sec-WebSocket-Version", VERSION), *_OFFER])
    if head.body_bytes != 0:
        raise Refused(400, Invalid("a WebSocket handshake has no body"))
    key = _key(head)
    codec = _codec(head)
    return Handshake(codec, _answer(key, codec))


def _answer(key: str, codec: Codec) -> bytes:
    digest = hashlib.sha1((key + _GUID).encode("ascii"), usedforsecurity=False).digest()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode('ascii')}\r\n"
        f"Sec-WebSocket-Protocol: {codec.protocol}\r\n\r\n"
    ).encode("ascii")


def _value(head: RequestHead, name: bytes) -> str:
    return head.headers.get(name, b"").decode("latin-1")


def _tokens(head: RequestHead, name: bytes) -> list[str]:
    return [token.strip() for token in _value(head, name).lower().split(",")]


def _key(head: RequestHead) -> str:
    key = _value(head, b"sec-websocket-key")
    try:
        # One that came twice is joined by a comma, which is no base64.
        if len(base64.b64decode(key, validate=True)) == 16:
            return key
    except (binascii.Error, ValueError):
        pass
    raise Refused(400, Invalid("Sec-WebSocket-Key must be given once, as 16 bytes in base64"))


def _codec(head: RequestHead) -> Codec:
    for protocol in _value(head, b"sec-websocket-protocol").split(","):
        codec = CODECS.get(protocol.strip())
        if codec is not None:
            return codec
    raise Refused(400, Unsupported(f"Sec-WebSocket-Protocol must offer {' or '.join(CODECS)}"))
