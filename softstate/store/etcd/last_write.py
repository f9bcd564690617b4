"""The state that this node's last write has left: enough to write again without reading first, if no other node wrote.

Reading before each write doubles the time that a publish takes. A write compares the head anyway, and no two writes
leave the same one: so the state of topics that is remembered for a head is right exactly if that comparison holds. An
idempotency key is compared too: it must be new, as most are; and where a verdict depends on the rows of a topic, that
they are as this node has written them, since other programs may have damaged them.
"""

from __future__ import annotations

from collections.abc import Sequence

from softstate.store.base import Publisher, Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.messages import NESTED_MAX, Op, unchanged
from softstate.store.etcd.schema import Data, StoredHead
from softstate.store.etcd.transaction import EtcdTransaction, Known
from softstate.store.rules.judge import TopicState, is_verified

LAST_WRITE_TOPICS_MAX = 4_096
"""How many topics are remembered at most; beyond it, remembering starts over."""


LAST_WRITE_PUBLISHERS_MAX = 256
"""How many publishers are remembered at most; a publisher may have a thousand numbers in flight."""


COMPARES_MAX = NESTED_MAX - 2
"""How many comparisons a write makes at most beside those of the head and the inbox: etcd limits them as operations."""


class LastWrite:
    """The state of topics at the head that was written last, over a connection that is still in use."""

    def __init__(self) -> None:
        self._known: StoredHead | None = None
        self._connection: Connection | None = None
        self._topics: dict[str, TopicState] = {}
        self._at: dict[str, int] = {}
        self._publishers: dict[str, Publisher] = {}

    def remember(
        self, connection: Connection, base: StoredHead, stored: StoredHead, transaction: EtcdTransaction, at: int
    ) -> None:
        """Note a write that has made `stored` of `base`, at etcd's revision `at`."""
        if self._known is None or self._known.raw != base.raw or len(self._topics) > LAST_WRITE_TOPICS_MAX:
            self._topics, self._at = {}, {}
        if not self._topics or len(self._publishers) > LAST_WRITE_PUBLISHERS_MAX:
            self._publishers = {}
        self._topics |= transaction.written
        self._at |= dict.fromkeys(transaction.written, at)
        self._publishers |= transaction.publishers
        self._known, self._connection = stored, connection

    def forget(self) -> None:
        """Forget it: another node has written, or another program has changed a row."""
        self._known = self._connection = None
        self._topics, self._at, self._publishers = {}, {}, {}

    def base_for(self, connection: Connection, group: Sequence[Write], newest: int) -> tuple[StoredHead, Known] | None:
        """Return the head and what is known of a group's topics and publishers, if that is all that judging takes.

        `newest` is the highest revision that this node has met or was notified of.
        """
        stored = self._known
        if stored is None or stored.head.revision < newest:
            return None
        if self._connection is not connection or not connection.covered:
            return None
        if sum((publish.key is not None) + 2 * is_verified(publish) for publish in group) > COMPARES_MAX:
            return None
        if any(publish.witness is not None or publish.topic not in self._topics for publish in group):
            return None
        publishers = {publish.number.publisher for publish in group if publish.number is not None}
        if not publishers <= self._publishers.keys():
            return None
        topics = {publish.topic: self._topics[publish.topic] for publish in group}
        return stored, Known(topics, publishers={name: self._publishers[name] for name in publishers})

    def compares(self, data: Data, group: Sequence[Write]) -> list[Op]:
        """Return what is compared beside the head when a group is written that `base_for` had all of.

        Idempotency keys that stand for no request yet, and the rows that a verdict relied on, as they were written.
        """
        keys = {data.key(publish.topic, publish.key) for publish in group if publish.key is not None}
        relied_on = {publish.topic for publish in group if is_verified(publish)}
        rows = {data.topic(topic): self._at[topic] for topic in relied_on}
        rows |= {data.at("log", self._topics[topic].version): self._at[topic] for topic in relied_on}
        return [unchanged(key, 0) for key in keys] + [unchanged(key, at) for key, at in rows.items()]
