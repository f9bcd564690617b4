r"""The layout in etcd: the keys, and the one value that every write compares.

`softstate.store.etcd.rows` has the values of the others.

All of it is below ``NAMESPACE/``, and nothing outside is ever touched::

    head                           the newest commit, as `Head`: compared and rewritten by every write of softstate
    inbox/TOPIC                    JSON text that another program wants published; empty to delete
    refused/TOPIC                  an entry of the inbox that cannot be published: the reason, a line feed, the entry
    store/GENERATION/log/VERSION   a record: topic and value
    store/GENERATION/topic/TOPIC   the version of a topic's record, with "+", or "-" for a tombstone
    store/GENERATION/tomb/VERSION  the topic of a tombstone
    store/GENERATION/lineage/START the nonce of the lineage that begins at revision START
    store/GENERATION/key/TOPIC\0KEY  the request that an idempotency key stands for: version, digest
    store/GENERATION/keylog/VERSION  the idempotency key that was made at a version: [topic, key, digest]
    store/GENERATION/publisher/ID  the numbers that a publisher has used, and what it has settled
    store/GENERATION/touched/VERSION/ID  a publisher, by the head after its last publish; empty

Versions are 16 hex digits, so their order is that of the keys: the change feed is one range, and reading a record one
get. A generation is what `adopt` fills beside the current one, and then puts in its place by writing `head`. The names
sort so that one range (`Layout.watched`) covers the head and the inbox, and nothing else.

Every value but the empty ones, and those of ``tomb``, has a checksum. ``tomb`` and ``touched`` are indexes: nothing is
done because of their rows but what the row that they lead to confirms. ``topic`` leads to ``log``, and a record counts
only if both agree.

Revisions are softstate's own and not etcd's: those count every write to the server, foreign ones too, and a backup
that was restored continues them as it likes.

Until layout 2 the generations were below ``data/``, without checksums (`softstate.store.etcd.migration`). A node of
that time refuses a head of layout 2, and compares the head with every write, so it cannot change what it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import msgspec

from softstate.errors import StoreRefused
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import LAYOUT
from softstate.store.etcd.errors import NOT_JSON
from softstate.store.rules.checksum import row_checksum

MARK = "softstate"
"""In `Head.application`: tells a key of ours from another one of that name."""

RESERVED = "$softstate"
"""The first segment of topics that rule over others: what lies in the inbox below it goes before every other write."""


class Head(msgspec.Struct, frozen=True):
    """The newest commit, in JSON at the key ``head``. Two writes never leave the same bytes: `token` is random.

    So a write that compares these bytes knows all that is below ``store/`` to be as it was when they were read, even if
    something was restored or repeated in between, and the layout to be `LAYOUT`. `since` is the revision at which
    `lineage` begins. `topics` (tombstones included), `rows` (of lineages), `keys` and `publishers` count the rows.
    `migrating` is the generation of layout 1 that this one is still being filled from. `check` is a checksum.
    """

    epoch: str
    lineage: str
    since: int
    revision: int
    generation: str
    token: str
    floor: int = 0
    topics: int = 0
    rows: int = 0
    keys: int = 0
    publishers: int = 0
    migrating: str = ""
    application: str = MARK
    layout: int = LAYOUT
    check: str = ""

    @property
    def position(self) -> Position:
        """The position of the newest commit."""
        return Position(self.epoch, self.lineage, self.revision)


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A head as it is stored: a write compares `raw`."""

    head: Head
    raw: bytes


class _AnyHead(msgspec.Struct):
    application: str
    layout: int


def read_head(raw: bytes, name: str) -> StoredHead:
    """Decode the value of the key ``head``.

    Raises `StoreRefused` when it is not ours, damaged, or of another layout; `layout_of` tells that before.
    """
    layout = layout_of(raw)
    if layout is None:
        raise StoreRefused(
            f"{name}: its key 'head' was not written by softstate, or is damaged; nothing was changed: choose another"
            f" ?namespace=, or, if this was a store, {REPAIR}"
        )
    if layout > LAYOUT:
        raise StoreRefused(
            f"{name} has layout version {layout}, this softstate knows {LAYOUT}:"
            " install the softstate that wrote it, or choose another ?namespace="
        )
    if layout < LAYOUT:
        raise StoreRefused(
            f"{name} has layout version {layout}, this softstate reads {LAYOUT}: start a node of this softstate on it"
            " (softstate serve), which migrates it; stop every older node first"
        )
    try:
        head = msgspec.json.decode(raw, type=Head)
    except NOT_JSON:
        head = None
    if head is None or head.check != _check(head) or msgspec.json.encode(head) != raw:
        raise damaged(name, "its key 'head' does not match its checksum")
    return StoredHead(head, raw)


REPAIR = (
    "stop every node, delete what is below the namespace (`etcdctl del --prefix NAMESPACE/`), then put a backup back"
    " (`softstate store restore`)"
)
"""The advice for a store whose head or lineage is damaged."""


def damaged(name: str, because: str) -> StoreRefused:
    """Return the error for a store that cannot be used because of a damaged row that is not of one topic."""
    return StoreRefused(f"{name} is damaged, {because}: {REPAIR}")


def layout_of(raw: bytes) -> int | None:
    """Return the layout number of a head, None if it is not one of ours."""
    try:
        found = msgspec.json.decode(raw, type=_AnyHead)
    except NOT_JSON:
        return None
    return found.layout if found.application == MARK else None


def write_head(head: Head, random: Random) -> StoredHead:
    """Encode a head with a token of its own."""
    head = msgspec.structs.replace(head, token=f"{random.getrandbits(64):016x}")
    head = msgspec.structs.replace(head, check=_check(head))
    return StoredHead(head, msgspec.json.encode(head))


def _check(head: Head) -> str:
    return row_checksum("head", msgspec.json.encode(msgspec.structs.replace(head, check=""))).hex()


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of one namespace."""

    namespace: str
    root: bytes = field(init=False)
    head: bytes = field(init=False)
    inbox: bytes = field(init=False)
    reserved: bytes = field(init=False)
    """The part of the inbox whose topics are `RESERVED`."""

    def __post_init__(self) -> None:
        root = f"{self.namespace}/".encode()
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "head", root + b"head")
        object.__setattr__(self, "inbox", root + b"inbox/")
        object.__setattr__(self, "reserved", root + f"inbox/{RESERVED}/".encode())

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
        return self.root + b"store/"

    @property
    def november(self) -> bytes:
        """The prefix of the keys of every generation of layout 1."""
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
        """Return the key of a version in a table that goes by version, or the beginning of it in ``touched``."""
        return b"%s%s/%016x" % (self.root, table.encode(), version)

    def topic(self, topic: str) -> bytes:
        """Return the key with a topic's version."""
        return b"%stopic/%s" % (self.root, topic.encode())

    def key(self, topic: str, key: str) -> bytes:
        """Return the key of an idempotency key."""
        return b"%skey/%s\0%s" % (self.root, topic.encode(), key.encode())

    def publisher(self, publisher: str) -> bytes:
        """Return the key of a publisher."""
        return b"%spublisher/%s" % (self.root, publisher.encode())

    def touched(self, revision: int, publisher: str) -> bytes:
        """Return the key that leads to a publisher which was touched at a revision."""
        return b"%s/%s" % (self.at("touched", revision), publisher.encode())

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
