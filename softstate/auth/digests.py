"""Digests of who somebody is, and of tokens and keys: they name these where the name itself would tell too much."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256

DIGEST_CHARS = 22
"""Characters of a digest: 132 bits of SHA-256, in the alphabet of base64url, which topics may hold."""


def digest_of(*parts: str) -> str:
    """Return the digest of texts, with a NUL between two of them. Takes about 1 us."""
    return digest_text(sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest())


def digest_text(sha: bytes) -> str:
    """Write a SHA-256 as a digest."""
    return urlsafe_b64encode(sha)[:DIGEST_CHARS].decode()
