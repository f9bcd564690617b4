"""The answer to a handshake, by the example of RFC 6455 section 1.3."""

from __future__ import annotations

import h11

from softstate.server.http.upgrade import answer_upgrade, check_upgrade
from softstate.wire import JSON

HEADERS = [
    ("Host", "example"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("X-Before", "Sec-WebSocket-Key: bm90IHRoaXMgb25lISEhIQ=="),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Protocol", f"other, {JSON.protocol}"),
]


def test_the_key_is_answered_and_frames_behind_the_head_are_kept() -> None:
    codec, head = check_upgrade(h11.Request(method="GET", target="/v1/ws", headers=HEADERS))
    answer, behind = answer_upgrade(head + b"\x81\x00\r\n\r\n", codec)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\r\n\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert f"\r\nSec-WebSocket-Protocol: {JSON.protocol}\r\n".encode() in answer
    assert behind == b"\x81\x00\r\n\r\n"
