r"""The rows of a store in etcd: the value of each key, with a checksum in it, and what it decodes to.

Other programs, tools and people can put anything anywhere, so nothing here raises: what is damaged decodes to what
`softstate.store.rules.checksum` says, and a key that is not of our form to None.
"""

from __future__ import annotations

import re
from hashlib import sha256

import msgspec

from softstate.errors import Invalid
from softstate.model import Record
from softstate.names import check_topic
from softstate.position import REVISION_MAX
from softstate.store.base import Key, Publisher
from softstate.store.etcd.errors import NOT_JSON
from softstate.store.rules.checksum import CHECKSUM_BYTES, UNRANKED, checksum, read_record, row_checksum
from softstate.store.rules.judge import KeyUse, TopicState
from softstate.store.rules.publishers import pack, unpack

DAMAGED = TopicState(0, live=True, readable=False)
"""The state of a topic whose row is damaged, so that its version is not known."""

_VERSION = re.compile(rb"[0-9a-f]{16}")
VERSION_DIGITS = 16
"""The digits of a version in a key."""

_CHECK_DIGITS = 2 * CHECKSUM_BYTES


def version_in(key: bytes, begins: int) -> int | None:
    """Return the version that a key of ``log``, ``tomb``, ``lineage`` or ``keylog`` has at `begins`, its end."""
    digits = key[begins:]
    version = int(digits, 16) if _VERSION.fullmatch(digits) else REVISION_MAX + 1
    return version if version <= REVISION_MAX else None


def topic_in(name: bytes) -> str | None:
    """Return the topic that a part of a key is, None if it is none."""
    try:
        return check_topic(name.decode())
    except (UnicodeDecodeError, Invalid):
        return None


def write_topic(topic: str, state: TopicState) -> bytes:
    """Encode the value of ``topic/TOPIC``: the version, "+" or "-" for a tombstone, a checksum."""
    begins = b"%016x%c" % (state.version, b"+" if state.live else b"-")
    return begins + _topic_check(topic, begins)


def read_topic(topic: str, value: bytes, head: int) -> TopicState:
    """Decode the value of ``topic/TOPIC``; `DAMAGED` if it is not what was written for a revision up to `head`."""
    begins = value[: VERSION_DIGITS + 1]
    if value[VERSION_DIGITS + 1 :] != _topic_check(topic, begins):
        return DAMAGED
    version = version_in(begins[:VERSION_DIGITS], 0)
    if version is None or not 0 < version <= head:
        return DAMAGED
    return TopicState(version, live=begins.endswith(b"+"))


def _topic_check(topic: str, begins: bytes) -> bytes:
    # The row that is read most, thousands of times for a list, so not by `row_checksum`; `begins` is of one length.
    return sha256(b"topic" + begins + topic.encode()).hexdigest()[:_CHECK_DIGITS].encode()


def write_record(record: Record) -> bytes:
    """Encode the value of ``log/VERSION``: checksum, topic, NUL, then "+" and the value, or nothing for a tombstone.

    An unreadable record gets a checksum that is wrong.
    """
    check = checksum(record.topic, record.version, record.cbor)
    if record.unreadable:
        check = bytes(byte ^ 0xFF for byte in check)
    return check + record.topic.encode() + b"\0" + (b"" if record.cbor is None else b"+" + record.cbor)


def read_log(version: int, value: bytes, head: int) -> Record | None:
    """Decode the value of ``log/VERSION``; None if it names no topic. No topic holds a NUL: the first one ends it."""
    name, nul, stored = value[CHECKSUM_BYTES:].partition(b"\0")
    try:
        topic = name.decode() if nul else None
    except UnicodeDecodeError:
        return None
    cbor = None if not stored else stored[1:] if stored.startswith(b"+") else stored.decode(errors="replace")
    found = read_record(topic, version, cbor, value[:CHECKSUM_BYTES], head)
    return None if found is not None and found.version == UNRANKED != version else found


def record_at(topic: str, version: int, value: bytes | None, head: int) -> Record:
    """Return the value that ``log/VERSION`` holds, also of another topic; if there is none, `topic` is unreadable."""
    found = None if value is None else read_log(version, value, head)
    return Record(topic, version, None, unreadable=True) if found is None or found.cbor is None else found


def record_of(topic: str, version: int, value: bytes | None, head: int) -> Record:
    """Return the record that ``topic/TOPIC`` names: an unreadable one unless ``log/VERSION`` holds a value for it."""
    found = record_at(topic, version, value, head)
    return found if found.topic == topic else Record(topic, version, None, unreadable=True)


def write_lineage(revision: int, nonce: str) -> bytes:
    """Encode the value of ``lineage/START``: the nonce, a space, a checksum."""
    return b"%s %s" % (nonce.encode(), _check("lineage", revision, nonce))


def read_lineage(revision: int, value: bytes) -> str | None:
    """Decode the value of ``lineage/START``, None if it is damaged."""
    nonce = value.partition(b" ")[0].decode(errors="replace")
    return nonce if write_lineage(revision, nonce) == value else None


def write_use(key: Key) -> bytes:
    """Encode the request that an idempotency key stands for: version, checksum, digest."""
    check = _check("key", key.topic, key.key, key.version, key.digest)
    return b"%016x%s%s" % (key.version, check, key.digest)


def read_use(topic: str, key: str, value: bytes) -> KeyUse | None:
    """Decode the request that an idempotency key stands for: digest, version. None if it is damaged."""
    version = version_in(value[:VERSION_DIGITS], 0)
    if version is None:
        return None
    digest = value[VERSION_DIGITS + _CHECK_DIGITS :]
    return (digest, version) if write_use(Key(topic, key, digest, version)) == value else None


def write_keylog(key: Key) -> bytes:
    """Encode the value of ``keylog/VERSION``."""
    check = _check("keylog", key.topic, key.key, key.version, key.digest).decode()
    return msgspec.json.encode((key.topic, key.key, key.digest, check))


def read_keylog(version: int, value: bytes) -> Key | None:
    """Decode the value of ``keylog/VERSION``, None if it is damaged."""
    try:
        topic, name, digest, _ = msgspec.json.decode(value, type=tuple[str, str, bytes, str])
    except NOT_JSON:
        return None
    key = Key(topic, name, digest, version)
    return key if write_keylog(key) == value else None


def write_publisher(publisher: Publisher) -> bytes:
    """Encode the value of ``publisher/ID``: what is settled, when it was touched, a checksum, the uses."""
    settled, touched, uses = publisher.settled, publisher.touched, pack(publisher.uses)
    check = _check("publisher", publisher.publisher, settled, touched, uses)
    return b"%016x%016x%s%s" % (settled, touched, check, uses)


def read_publisher(name: str, value: bytes) -> Publisher | None:
    """Decode the value of ``publisher/ID``, None if it is damaged."""
    settled, touched = version_in(value[:VERSION_DIGITS], 0), version_in(value[VERSION_DIGITS : 2 * VERSION_DIGITS], 0)
    if settled is None or touched is None:
        return None
    try:
        uses = unpack(value[2 * VERSION_DIGITS + _CHECK_DIGITS :])
        publisher = Publisher(name, settled, touched, uses)
        return publisher if write_publisher(publisher) == value else None
    except ValueError:
        return None


def _check(*parts: str | bytes | int) -> bytes:
    return row_checksum(*parts).hex().encode()
