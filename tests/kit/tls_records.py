"""Records of TLS 1.3 as a client may send them and Python's never does: sealed here, by the secret of a connection."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, DATA = 22, 23

KEY_UPDATE = bytes([24, 0, 0, 1])
"""The message (RFC 8446, 4.6.3), but for whether it asks the other end to do the same."""


class Records:
    """Seals records in the place of a client whose context wrote its secrets into a file of keys.

    The client may not have sent anything since the handshake, and sends nothing more by itself. By
    TLS_AES_256_GCM_SHA384 alone.
    """

    def __init__(self, keylog: Path) -> None:
        lines = [line.split() for line in keylog.read_text().splitlines()]
        self._secret = next(bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0")
        self._begin()

    def _begin(self) -> None:
        self._number = 0
        self._aead = AESGCM(self._expand("key", 32))
        self._iv = self._expand("iv", 12)

    def _expand(self, label: str, size: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = struct.pack(">HB", size, len(name)) + name + b"\0"
        return HKDFExpand(hashes.SHA384(), size, info).derive(self._secret)

    def data(self, data: bytes, padding: int = 0) -> bytes:
        """Seal data, with so many bytes of padding."""
        return self._seal(data, DATA, padding)

    def key_update(self, *, asked: bool = True) -> bytes:
        """Seal a KeyUpdate; what is sealed next is by other keys."""
        record = self._seal(KEY_UPDATE + bytes([asked]), HANDSHAKE)
        self._secret = self._expand("traffic upd", 48)
        self._begin()
        return record

    def _seal(self, data: bytes, kind: int, padding: int = 0) -> bytes:
        inner = data + bytes([kind]) + bytes(padding)
        head = struct.pack(">BHH", DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self._iv) ^ self._number).to_bytes(12)
        self._number += 1
        return head + self._aead.encrypt(nonce, inner, head)
