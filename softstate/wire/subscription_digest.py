"""The subscription digest, by which both sides check cheaply that they hold the same set of names (P-REN-1).

The digest of a set is the sum, modulo 2^64, of the 64-bit FNV-1a of each name's UTF-8 (a prefix ends in ``/``). A sum
does not depend on order, and one name more or less changes it by that name's hash, so no side walks its set.
FNV-1a: Fowler, Noll, Vo; draft-eastlake-fnv. The idea of a registration digest is Thialfi's (SOSP 2011).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

MASK = 0xFFFF_FFFF_FFFF_FFFF
_OFFSET = 0xCBF2_9CE4_8422_2325
_PRIME = 0x0000_0100_0000_01B3

NAMES_CACHED = 65_536
"""Names whose hash is kept: a name subscribed by thousands is hashed once."""


@lru_cache(maxsize=NAMES_CACHED)
def fnv1a(name: str) -> int:
    """Return the 64-bit FNV-1a of a name."""
    value = _OFFSET
    for byte in name.encode():
        value = ((value ^ byte) * _PRIME) & MASK
    return value


def digest_of(names: Iterable[str]) -> int:
    """Return the digest of a set of names."""
    return sum(map(fnv1a, names)) & MASK


def digest_text(digest: int) -> str:
    """Write a digest as it goes over the wire: 16 lower-case hex digits."""
    return f"{digest:016x}"
