"""Looking for rows that no list shows: those that have vanished, keys of others, and entries that were refused.

Every commit counts the topics in the head, so that rows which are gone can be told, though nothing is left of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from softstate.store.etcd.messages import Op, span
from softstate.store.etcd.schema import Data, Layout, prefix_end
from softstate.store.etcd.snapshot import EtcdSnapshot

_TABLES = {"topic": "rows of topics", "log": "records of topics", "tomb": "rows of tombstones"}


def audit_ops(layout: Layout, data: Data) -> list[Op]:
    """Count what `audit` compares."""
    begins = [*(data.table(table) for table in _TABLES), layout.refused(b"")]
    return [span(begin, prefix_end(begin), count_only=True) for begin in begins]


def audit(layout: Layout, snapshot: EtcdSnapshot) -> list[str]:
    """Return what is wrong, each a sentence with what to do. The snapshot was begun with `audit_ops`."""
    topics, records, tombstones, refused = (answer.count for answer in snapshot.answers)
    written = snapshot.stored.head.topics
    found = [*_differs(_TABLES["topic"], topics, written), *_differs(_TABLES["log"], records, written)]
    if tombstones > topics:
        found.append(f"{tombstones} {_TABLES['tomb']} are more than there are topics: delete the keys of others")
    if refused:
        found.append(
            f"{refused} entries of the inbox were refused: read the reasons below {layout.namespace}/refused/, put them"
            " right, and delete them there"
        )
    return found


def _differs(what: str, count: int, written: int) -> Sequence[str]:
    if count < written:
        return [f"{written - count} {what} have vanished: publish those topics again, or restore a backup"]
    if count > written:
        return [f"{count - written} keys of others lie among the {what}: delete them, or restore a backup"]
    return []
