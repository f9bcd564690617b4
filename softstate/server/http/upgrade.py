"""WebSocket handshakes: validation and answer (RFC 6455 section 4.2.1, P-HTTP-10), sans-I/O.

`check_upgrade` writes a new head with the parts that are needed; `answer_upgrade` answers it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

import h11

from softstate.errors import Invalid, Unsupported
from softstate.server.http.message import Refused
from softstate.wire import CODECS, Codec

VERSION = "13"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_HEADER = b"\r\nSec-WebSocket-Key: "

_REPLACED = frozenset(
    {
        b"upgrade", b"connection", b"host", b"content-length",
        b"sec-websocket-version", b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-extensions",
    }
)  # fmt: skip


def check_upgrade(request: h11.Request) -> tuple[Codec, bytes]:
    """Return the codec that a handshake selects, and a new head for it. Raises `Refused` for any other request.

    Of the subprotocols offered, the first that is known here is selected, and the only one in the new head. Offers of
    extensions are left out: nothing is sent compressed.
    """
    if request.method != b"GET":
        raise Refused(405, Invalid("a WebSocket handshake is a GET"), [("Allow", "GET")])
    if request.http_version != b"1.1":
        raise Refused(400, Invalid("a WebSocket handshake needs HTTP/1.1"))
    if "websocket" not in _tokens(request, b"upgrade") or "upgrade" not in _tokens(request, b"connection"):
        message = "this route speaks WebSocket only: send Upgrade: websocket and Connection: Upgrade"
        raise Refused(426, Unsupported(message), [("Upgrade", "websocket")])
    if _values(request, b"sec-websocket-version") != [VERSION]:
        message = f"Sec-WebSocket-Version must be {VERSION}"
        raise Refused(426, Unsupported(message), [("Sec-WebSocket-Version", VERSION), ("Upgrade", "websocket")])
    if _values(request, b"transfer-encoding") or _values(request, b"content-length") not in ([], ["0"]):
        raise Refused(400, Invalid("a WebSocket handshake has no body"))
    key = _key(request)
    host = _host(request)
    codec = _codec(request)
    head: list[tuple[bytes, bytes]] = [
        (b"Host", host),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", VERSION.encode()),
        (b"Sec-WebSocket-Key", key),
        (b"Sec-WebSocket-Protocol", codec.protocol.encode()),
        *((name, value) for name, value in request.headers if name not in _REPLACED),
    ]
    return codec, _write(request.target, head)


def answer_upgrade(replayed: bytes, codec: Codec) -> tuple[bytes, bytes]:
    """Return the answer to a head that `check_upgrade` wrote, and the bytes behind that head: frames."""
    head, _, behind = replayed.partition(b"\r\n\r\n")
    # The first such header is ours: it is written before those of the peer.
    key = head.partition(_KEY_HEADER)[2].partition(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    lines = (
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept,
        b"Sec-WebSocket-Protocol: " + codec.protocol.encode(),
        b"\r\n",
    )
    return b"\r\n".join(lines), behind


def _write(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    lines = [b"GET " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers), b"", b""]
    return b"\r\n".join(lines)


def _values(request: h11.Request, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in request.headers if key == name]


def _tokens(request: h11.Request, name: bytes) -> list[str]:
    return [token.strip().lower() for value in _values(request, name) for token in value.split(",")]


def _key(request: h11.Request) -> bytes:
    keys = _values(request, b"sec-websocket-key")
    try:
        if len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16:
            return keys[0].encode("ascii")
    except (binascii.Error, ValueError):
        pass
    raise Refused(400, Invalid("Sec-WebSocket-Key must be given once, as 16 bytes in base64"))


def _host(request: h11.Request) -> bytes:
    host = next(value for name, value in request.headers if name == b"host")
    try:
        host.decode("idna")
    except UnicodeError:
        raise Refused(400, Invalid("Host is not a valid name")) from None
    return host


def _codec(request: h11.Request) -> Codec:
    offered = [token.strip() for value in _values(request, b"sec-websocket-protocol") for token in value.split(",")]
    for protocol in offered:
        if protocol in CODECS:
            return CODECS[protocol]
    raise Refused(400, Unsupported(f"Sec-WebSocket-Protocol must offer {' or '.join(CODECS)}"))
