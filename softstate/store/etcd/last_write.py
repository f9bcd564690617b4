"""The state that this node's last write has left: enough to write again without reading first, if no other node wrote.

Reading before each write doubles the time that a publish takes. A write compares the head anyway, and no two writes
leave the same one: so the state of topics that is remembered for a head is right exactly if that comparison holds. An
idempotency key is compared too: it must be new, as most are.
"""

from __future__ import annotations

from collections.abc import Sequence

from softstate.store.base import Publisher, Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.messages import NESTED_MAX, unchanged
from softstate.store.etcd.schema import StoredHead
from softstate.store.etcd.transaction import EtcdTransaction, Known
from softstate.store.rules.judge import TopicState

LAST_WRITE_TOPICS_MAX = 4_096
"""How many topics are remembered at most; beyond it, remembering starts over."""


LAST_WRITE_PUBLISHERS_MAX = 256
"""How many publishers are remembered at most; a publisher may have a thousand numbers in flight."""


class LastWrite:
    """The state of topics at the head that was written last, over a connection that is still in use."""

    def __init__(self) -> None:
        self._known: StoredHead | None = None
        self._connection: Connection | None = None
        self._topics: dict[str, TopicState] = {}
        self._publishers: dict[str, Publisher] = {}

    def remember(
        self, connection: Connection, base: StoredHead, stored: StoredHead, transaction: EtcdTransaction
    ) -> None:
        """Note a write that has made `known` of `base`."""
        if self._known is None or self._known.raw != base.raw or len(self._topics) > LAST_WRITE_TOPICS_MAX:
            self._topics = {}
        if not self._topics or len(self._publishers) > LAST_WRITE_PUBLISHERS_MAX:
            self._publishers = {}
        self._topics |= transaction.written
        self._publishers |= transaction.publishers
        self._known, self._connection = stored, connection

    def forget(self) -> None:
        """Forget it: another node has written."""
        self._known = self._connection = None
        self._topics, self._publishers = {}, {}

    def base_for(self, connection: Connection, group: Sequence[Write], newest: int) -> tuple[StoredHead, Known] | None:
        """Return the head and what is known of a group's topics and publishers, if that is all that judging takes.

        `newest` is the highest revision that this node has met or was notified of.
        """
        stored = self._known
        if stored is None or stored.head.revision < newest:
            return None
        if self._connection is not connection or not connection.covered:
            return None
        if sum(publish.key is not None for publish in group) >= NESTED_MAX:
            return None
        if any(publish.witness is not None or publish.topic not in self._topics for publish in group):
            return None
        publishers = {publish.number.publisher for publish in group if publish.number is not None}
        if not publishers <= self._publishers.keys():
            return None
        topics = {publish.topic: self._topics[publish.topic] for publish in group}
        return stored, Known(topics, publishers={name: self._publishers[name] for name in publishers})


def compare_new_keys(transaction: EtcdTransaction, group: Sequence[Write]) -> None:
    """Have a transaction fail if an idempotency key of the group stands for a request already."""
    keys = {transaction.data.key(publish.topic, publish.key) for publish in group if publish.key is not None}
    transaction.compares += [unchanged(key, 0) for key in keys]
