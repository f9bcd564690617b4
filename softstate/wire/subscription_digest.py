"""The subscription digest, by which both sides check cheaply that they hold the same set of names (P-REN-1).

The digest of a set is the sum, modulo 2^64, of one number for each name: the first 8 bytes, big-endian, of the SHA-256
of its UTF-8 (a prefix ends in ``/``). A sum does not depend on order, and one name more or less changes it by that
name's number, so no side walks its set. SHA-256 (FIPS 180-4) is in every standard library: C in Python, where the
loop of FNV-1a over the bytes of a name took up to 30 us, and one call in a browser. Sums of FNV-1a also collide by
themselves: ``{"a", "x"}`` and ``{"t", "u"}`` had the same. The idea of a registration digest is Thialfi's (SOSP 2011).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

MASK = 0xFFFF_FFFF_FFFF_FFFF

_HASH_BYTES = 8


def name_hash(name: str) -> int:
    """Return the number of 64 bits that a name adds to a digest: 1.6 us for a short name, 2.4 for one of 250 bytes."""
    return int.from_bytes(sha256(name.encode(), usedforsecurity=False).digest()[:_HASH_BYTES], "big")


def digest_of(names: Iterable[str]) -> int:
    """Return the digest of a set of names."""
    return sum(map(name_hash, names)) & MASK


def digest_text(digest: int) -> str:
    """Write a digest as it goes over the wire: 16 lower-case hex digits."""
    return f"{digest:016x}"
