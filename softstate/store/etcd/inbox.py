"""The inbox: another program publishes with one etcd put, and a node moves that into the store.

``etcdctl put NAMESPACE/inbox/TOPIC '{"state":"paid"}'`` publishes, an empty value deletes the topic. It may be part of
a transaction of the program's own. Any node's store takes it from there, in a transaction that deletes it from the
inbox if it is unchanged since it was read, so exactly one of several nodes does, exactly once. A second put to the same
topic before that replaces the first: states are last-value.

Entries under the reserved first segment are moved before any other write of any node (`softstate.store.etcd.write`). No
topic is of that name yet, so all of them are put where refused entries are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import structlog

from softstate.errors import Invalid, RequestError
from softstate.names import check_topic
from softstate.store.base import Write
from softstate.store.etcd.messages import KeyValue, Op, RangeAnswer, get, none_since, span, unchanged
from softstate.store.etcd.plan import Plan, verified
from softstate.store.etcd.schema import RESERVED, Layout, prefix_end
from softstate.store.etcd.snapshot import EtcdSnapshot, topics_in
from softstate.store.etcd.transaction import REQUEST_BYTES_MAX, EtcdTransaction, Known, size_of
from softstate.store.remote.encoding import cbor_of_json

INBOX_MAX = 32
"""How many entries are moved in one transaction at most. Each may be as large as etcd takes, until it is refused."""

REFUSED_BYTES_MAX = 512 * 1024
"""How much is kept of an entry that is refused."""

NAME_BYTES_MAX = 1024
"""The longest name that a refused entry keeps, in bytes."""

CUT_NAME_BYTES = 200
"""How much is kept of a longer name; a digest stands for the rest."""

KEY_BYTES_MAX = 256 * 1024
"""The longest key that a transaction names, in bytes. It does so twice, beside what is kept of the entry."""

SPAN_BYTES = 64 * 1024
"""How much of a longer key stands for it: a transaction takes away all keys that begin so."""

log = structlog.get_logger("softstate.store")


@dataclass(frozen=True, slots=True)
class DrainResult:
    """The outcome of a batch of entries: how many were taken, why others were refused, whether there are more."""

    taken: int
    refused: Sequence[tuple[str, str]]
    more: bool

    def report(self) -> None:
        """Log the refusals, once they are committed."""
        for topic, because in self.refused:
            log.warning("direct publish refused", topic=topic, because=because)


def entries_op(begins: bytes) -> Op:
    """Read the oldest entries of a part of the inbox."""
    return span(begins, prefix_end(begins), limit=INBOX_MAX, sort_order="ASCEND", sort_target="MOD")


def plan_drain(layout: Layout) -> Plan[DrainResult]:
    """Plan to move the oldest entries of the inbox into the store, or to where refused ones are kept."""

    async def draft(snapshot: EtcdSnapshot, transaction: EtcdTransaction) -> DrainResult:
        return await move(layout, snapshot, transaction, snapshot.answers[0])

    return Plan(draft, lambda _data: [entries_op(layout.inbox)])


async def move(
    layout: Layout, snapshot: EtcdSnapshot, transaction: EtcdTransaction, entries: RangeAnswer
) -> DrainResult:
    """Draft a transaction that moves entries of the inbox, as many of the first as it can hold."""
    publishes: list[Write] = []
    refused: list[tuple[str, str]] = []
    fitting = _fitting(entries.kvs)
    for kv in fitting:
        topic = kv.key[len(layout.inbox) :]
        try:
            publishes.append(_publish(topic, kv.value))
        except RequestError as error:
            name, because = _cut_name(topic), error.message
            transaction.changes[layout.refused(name)] = f"{because}\n".encode() + kv.value[:REFUSED_BYTES_MAX]
            refused.append((name.decode(errors="replace"), because))
        _take_away(transaction, kv, snapshot.at)
    topics = [publish.topic for publish in publishes]
    found = await snapshot.ranges([get(transaction.data.topic(topic)) for topic in topics])
    states = topics_in(topics, found, snapshot.position.revision)
    transaction.apply(publishes, snapshot.fetched(), Known(await verified(snapshot, publishes, states)))
    return DrainResult(len(fitting), refused, entries.count > len(fitting))


def _cut_name(topic: bytes) -> bytes:
    if len(topic) <= NAME_BYTES_MAX:
        return topic
    kept = topic[:CUT_NAME_BYTES].decode(errors="ignore")
    return f"{kept}...{sha256(topic).hexdigest()[:16]}".encode()


def _take_away(transaction: EtcdTransaction, kv: KeyValue, at: int) -> None:
    """Delete an entry from the inbox if nothing has changed it since etcd's revision `at`."""
    if len(kv.key) <= KEY_BYTES_MAX:
        transaction.compares.append(unchanged(kv.key, kv.mod_revision))
        transaction.changes[kv.key] = None
        return
    begins = kv.key[:SPAN_BYTES]
    transaction.compares.append(none_since(begins, prefix_end(begins), at))
    transaction.spans[begins] = prefix_end(begins)


def _publish(topic: bytes, value: bytes) -> Write:
    name = check_topic(topic.decode(errors="surrogateescape"))
    if name.partition("/")[0] == RESERVED:
        raise Invalid(f"{RESERVED} is reserved as the first segment of a topic: choose another name")
    return Write(name, cbor_of_json(value) if value else None)


def _bytes_of_names(key: bytes) -> int:
    if len(key) > KEY_BYTES_MAX:
        return 4 * SPAN_BYTES
    return 2 * len(key) + 2 * min(len(key), NAME_BYTES_MAX)


def _fitting(kvs: Sequence[KeyValue]) -> Sequence[KeyValue]:
    """Return as many entries as fit one transaction."""
    size = 0
    for at, kv in enumerate(kvs):
        size += size_of(Write("", kv.value[:REFUSED_BYTES_MAX])) + _bytes_of_names(kv.key)
        if at and size > REQUEST_BYTES_MAX:
            return kvs[:at]
    return kvs
