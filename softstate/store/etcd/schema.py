r"""The layout in etcd: the keys, the one value that every write compares, and the small encodings.

All of it is below ``NAMESPACE/``, and nothing outside is ever touched::

    head                          the newest commit, as `Head`: compared and rewritten by every write of softstate
    inbox/TOPIC                   JSON text that another program wants published; empty to delete
    refused/TOPIC                 an entry of the inbox that cannot be published: a line with the reason, then the entry
    data/GENERATION/log/VERSION   a record: topic, NUL, value as `softstate.store.remote.encoding` has it
    data/GENERATION/topic/TOPIC   the version of a topic's record, with "+", or "-" for a tombstone
    data/GENERATION/tomb/VERSION  the topic of a tombstone
    data/GENERATION/lineage/START the nonce of the lineage that begins at revision START
    data/GENERATION/key/TOPIC\0KEY  the request that an idempotency key stands for: version, digest
    data/GENERATION/keylog/VERSION  the idempotency key that was made at a version: [topic, key, digest]

Versions are 16 hex digits, so their order is that of the keys: the change feed is one range, and reading a record one
get. A generation is what `adopt` fills beside the current one, and then puts in its place by writing `head`. The names
sort so that one range (`Layout.watched`) covers the head and the inbox, and nothing else.

Revisions are softstate's own and not etcd's: those count every write to the server, foreign ones too, and a backup
that was restored continues them as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import msgspec

from softstate.errors import StoreRefused
from softstate.model import Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Key
from softstate.store.remote.encoding import from_stored, to_stored
from softstate.store.rules.judge import KeyUse, TopicState

LAYOUT_VERSION = 1
"""In `Head.layout`. A head with a higher one is from a newer softstate."""

MARK = "softstate"
"""In `Head.application`: tells a key of ours from another one of that name."""


class Head(msgspec.Struct, frozen=True):
    """The newest commit, in JSON at the key ``head``. Two writes never leave the same bytes: `token` is random.

    So a write that compares these bytes knows all that is below ``data/`` to be as it was when they were read, even if
    something was restored or repeated in between. `since` is the revision at which `lineage` begins, `keys` how many
    idempotency keys are held.
    """

    epoch: str
    lineage: str
    since: int
    revision: int
    generation: str
    token: str
    floor: int = 0
    keys: int = 0
    application: str = MARK
    layout: int = LAYOUT_VERSION

    @property
    def position(self) -> Position:
        """The position of the newest commit."""
        return Position(self.epoch, self.lineage, self.revision)


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A head as it is stored: a write compares `raw`."""

    head: Head
    raw: bytes


def read_head(raw: bytes, name: str) -> StoredHead:
    """Decode the value of the key ``head``. Raises `StoreRefused` when it is not ours, or of a newer softstate."""
    try:
        head = msgspec.json.decode(raw, type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        layout = _layout_of(raw)
        if layout is None or layout <= LAYOUT_VERSION:
            raise StoreRefused(
                f"{name}: its key 'head' was not written by softstate; nothing was changed: choose another ?namespace="
            ) from None
    else:
        layout = head.layout
    if layout != LAYOUT_VERSION:
        raise StoreRefused(
            f"{name} has layout version {layout}, this softstate knows {LAYOUT_VERSION}:"
            " install the softstate that wrote it, or choose another ?namespace="
        )
    return StoredHead(head, raw)


class _AnyHead(msgspec.Struct):
    application: str
    layout: int


def _layout_of(raw: bytes) -> int | None:
    try:
        found = msgspec.json.decode(raw, type=_AnyHead)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found.layout if found.application == MARK else None


def write_head(head: Head, random: Random) -> StoredHead:
    """Encode a head with a token of its own."""
    head = msgspec.structs.replace(head, token=f"{random.getrandbits(64):016x}")
    return StoredHead(head, msgspec.json.encode(head))


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of one namespace."""

    namespace: str
    root: bytes = field(init=False)
    head: bytes = field(init=False)
    inbox: bytes = field(init=False)

    def __post_init__(self) -> None:
        root = f"{self.namespace}/".encode()
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "head", root + b"head")
        object.__setattr__(self, "inbox", root + b"inbox/")

    @property
    def watched(self) -> tuple[bytes, bytes]:
        """The range that holds the head and the inbox."""
        return self.head, prefix_end(self.inbox)

    def refused(self, topic: bytes) -> bytes:
        """Return the key for an entry that was refused, whose topic may be invalid."""
        return self.root + b"refused/" + topic

    @property
    def generations(self) -> bytes:
        """The prefix of the keys of every generation."""
        return self.root + b"data/"

    def data(self, generation: str) -> Data:
        """Return the keys of one generation."""
        return Data(self.generations + generation.encode() + b"/")


@dataclass(frozen=True, slots=True)
class Data:
    """The keys of one generation; `root` is the prefix of them all. The module lists its tables."""

    root: bytes

    def table(self, table: str) -> bytes:
        """Return the prefix of the keys of a table."""
        return b"%s%s/" % (self.root, table.encode())

    def at(self, table: str, version: int) -> bytes:
        """Return the key of a version in the table ``log``, ``tomb``, ``lineage`` or ``keylog``."""
        return b"%s%s/%016x" % (self.root, table.encode(), version)

    def topic(self, topic: str) -> bytes:
        """Return the key with a topic's version."""
        return b"%stopic/%s" % (self.root, topic.encode())

    def key(self, topic: str, key: str) -> bytes:
        """Return the key of an idempotency key."""
        return b"%skey/%s\0%s" % (self.root, topic.encode(), key.encode())

    def under(self, prefix: str) -> tuple[bytes, bytes]:
        """Return the range of the topics that a prefix covers."""
        begin = self.table("topic") if prefix == ALL else self.topic(prefix)
        return begin, prefix_end(begin)

    def between(self, table: str, after: int, upto: int) -> tuple[bytes, bytes]:
        """Return the range of the versions above `after` and at or below `upto` in a table."""
        return self.at(table, after + 1), self.at(table, max(after, upto) + 1)


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of keys that begin with `prefix`, which ends in a slash."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def version_of(key: bytes) -> int:
    """Return the version that a key of ``log``, ``tomb``, ``lineage`` or ``keylog`` ends in."""
    return int(key[-16:], 16)


def write_topic(state: TopicState) -> bytes:
    """Encode the value of ``topic/TOPIC``."""
    return b"%016x%c" % (state.version, b"+" if state.live else b"-")


def read_topic(value: bytes) -> TopicState:
    """Decode the value of ``topic/TOPIC``."""
    return TopicState(int(value[:16], 16), value[16:] == b"+")


def write_record(record: Record) -> bytes:
    """Encode the value of ``log/VERSION``."""
    return record.topic.encode() + b"\0" + to_stored(record.cbor)


def read_record(key: bytes, value: bytes) -> Record:
    """Decode a key of ``log/`` and its value. No topic holds a NUL, so the first one ends it."""
    topic, _, stored = value.partition(b"\0")
    name, version = topic.decode(), version_of(key)
    return Record(name, version, from_stored(stored, name, version))


def write_use(key: Key) -> bytes:
    """Encode the request that an idempotency key stands for."""
    return b"%016x%s" % (key.version, key.digest)


def read_use(value: bytes) -> KeyUse:
    """Decode the request that an idempotency key stands for: digest, version."""
    return value[16:], int(value[:16], 16)


def write_keylog(key: Key) -> bytes:
    """Encode the value of ``keylog/VERSION``."""
    return msgspec.json.encode((key.topic, key.key, key.digest))


def read_keylog(key: bytes, value: bytes) -> Key:
    """Decode a key of ``keylog/`` and its value."""
    topic, name, digest = msgspec.json.decode(value, type=tuple[str, str, bytes])
    return Key(topic, name, digest, version_of(key))
