"""Checksums of stored rows, and the one door through which a topic's row becomes a `Record`.

A disk, a person with SQL or an older tool may change a row in ways that no type of the engine forbids. The checksum
binds a value to its topic and version, so that none is ever served under another name, or as newer than it is. It
guards against damage, not against a person who computes it: all who may write to the store may publish.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from softstate.errors import Invalid
from softstate.model import Record
from softstate.names import check_topic

CHECKSUM_BYTES = 8
"""Leading bytes of the hash that are stored: one damaged row in 2^64 passes."""

UNRANKED = 1
"""The version of an unreadable record whose own is not one of this history: every list from 0 names it first."""

Hash = Callable[[bytes], Any]
"""A constructor of `hashlib`."""


def checksum(topic: str, version: int, cbor: bytes | None, hash_of: Hash = sha256) -> bytes:
    """Return the checksum of a topic's row; `cbor` is None for a tombstone.

    It is over the length of the topic (4 bytes, big-endian), the topic (UTF-8), the version (8 bytes, big-endian),
    then 00 for a tombstone, or 01 and the value. Redis computes it with SHA-1, the others with SHA-256: each what the
    engine itself has.
    """
    name = topic.encode()
    value = b"\0" if cbor is None else b"\1" + cbor
    digest: bytes = hash_of(len(name).to_bytes(4, "big") + name + version.to_bytes(8, "big") + value).digest()
    return digest[:CHECKSUM_BYTES]


def row_checksum(*parts: str | bytes | int, hash_of: Hash = sha256) -> bytes:
    """Return the checksum of any other row: over its parts in order, each as its length (4 bytes) and its bytes.

    Text counts as UTF-8, an integer as 8 bytes, signed; all big-endian.
    """
    fed = bytearray()
    for part in parts:
        match part:
            case str():
                data = part.encode()
            case int():
                data = part.to_bytes(8, "big", signed=True)
            case _:
                data = part
        fed += len(data).to_bytes(4, "big") + data
    digest: bytes = hash_of(bytes(fed)).digest()
    return digest[:CHECKSUM_BYTES]


def read_record(
    topic: object, version: object, cbor: object, stored: object, head: int, hash_of: Hash = sha256
) -> Record | None:
    """Return a topic's row as a record: an unreadable one if anything about it is wrong; None if it has no valid name.

    Takes what an engine found, of any type; `stored` is the checksum, `head` the newest revision of the snapshot.
    """
    if not isinstance(topic, str):
        return None
    try:
        check_topic(topic)
    except Invalid:
        return None
    if type(version) is not int or not 0 < version <= head:
        return Record(topic, UNRANKED, None, unreadable=True)
    if (cbor is None or type(cbor) is bytes) and stored == checksum(topic, version, cbor, hash_of):
        return Record(topic, version, cbor)
    return Record(topic, version, None, unreadable=True)
