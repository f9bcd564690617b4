"""A digest of the request that an idempotency key stands for: the one that it was first used with (P-PUB-4).

The same key with the same digest is a retry and gets the first success; with another digest it is `KeyReused`. HTTP and
WebSocket share this function, so a publish whose answer was lost on one of them may be retried on the other.
"""

from __future__ import annotations

from hashlib import blake2b

from softstate.position import Position

DIGEST_BYTES = 16

MUST_EXIST = -1
"""Stands for ``If-Match: *`` as `expect`: the digest is of the condition as sent, not of the version it resolved to."""


def request_digest(topic: str, cbor: bytes | None, expect: int | None, witness: Position | None) -> bytes:
    """Return the `DIGEST_BYTES` bytes that identify a publish; `cbor` is None for a deletion."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    # Each part but the last is preceded by its length, so that no two requests feed the same bytes.
    for part in (topic, "" if expect is None else str(expect), "" if witness is None else str(witness)):
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    digest.update(b"deleted" if cbor is None else b"value" + cbor)
    return digest.digest()
