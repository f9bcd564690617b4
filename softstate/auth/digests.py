"""Digests of who somebody is, and of tokens and keys: they name these where the name itself would tell too much."""

from __future__ import annotations

from binascii import b2a_base64
from hashlib import sha256

DIGEST_CHARS = 22
"""Characters of a digest: 132 bits of SHA-256, in the alphabet of base64url, which topics may hold."""


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def digest_of(*parts: str) -> str:
    """Return the digest of texts, with a NUL between two of them. Takes about 1 us."""
    return digest_text(sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest())


def digest_text(sha: bytes) -> str:
    """Write a SHA-256 as a digest."""
    return b2a_base64(sha)[:DIGEST_CHARS].translate(_URL_SAFE).decode()
