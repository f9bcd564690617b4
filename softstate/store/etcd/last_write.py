"""What the last write of this node has left: enough to write again without reading first, if nobody else has written.

Reading before each write doubles the time that a publish takes. A write compares the head anyway, and no two writes
leave the same one: so whatever is known of the topics at a head is true exactly if that comparison holds. That an
idempotency key is new, which is what most are, is compared too.
"""

from __future__ import annotations

from collections.abc import Sequence

from softstate.store.base import Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.messages import NESTED_MAX, unchanged
from softstate.store.etcd.schema import Known
from softstate.store.etcd.transaction import EtcdTransaction
from softstate.store.rules.judge import TopicState

RECALL_TOPICS_MAX = 4_096
"""Where so many topics stand is remembered, at most; then it begins anew."""


class Recall:
    """Where topics stand at the head that was written last, over a connection that is still in use."""

    def __init__(self) -> None:
        self._known: Known | None = None
        self._connection: Connection | None = None
        self._topics: dict[str, TopicState] = {}

    def remember(self, connection: Connection, base: Known, known: Known, transaction: EtcdTransaction) -> None:
        """Note a write that has made `known` of `base`."""
        if self._known is None or self._known.raw != base.raw or len(self._topics) > RECALL_TOPICS_MAX:
            self._topics = {}
        self._topics |= transaction.topics
        self._known, self._connection = known, connection

    def forget(self) -> None:
        """Know nothing: somebody else has written."""
        self._known = self._connection = None
        self._topics = {}

    def base_for(
        self, connection: Connection, group: Sequence[Write], newest: int
    ) -> tuple[Known, dict[str, TopicState]] | None:
        """Return the head and where the topics of a group stand, if all that is asked about them is known.

        `newest` is the highest revision that this node has heard of, from anyone.
        """
        known = self._known
        if known is None or known.head.revision < newest:
            return None
        if self._connection is not connection or not connection.covered:
            return None
        if sum(publish.key is not None for publish in group) >= NESTED_MAX:
            return None
        if any(publish.witness is not None or publish.topic not in self._topics for publish in group):
            return None
        return known, {publish.topic: self._topics[publish.topic] for publish in group}


def compare_new_keys(transaction: EtcdTransaction, group: Sequence[Write]) -> None:
    """Have the write of a transaction fail if an idempotency key of the group stands for something already."""
    keys = {transaction.data.key(publish.topic, publish.key) for publish in group if publish.key is not None}
    transaction.compares += [unchanged(key, 0) for key in keys]
