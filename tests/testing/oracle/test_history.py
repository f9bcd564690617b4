"""The histories that the oracle builds from events."""

from __future__ import annotations

from softstate.testing.oracle.history import Histories
from softstate.testing.trace import ChangeCommitted, HistoryReplaced, LineageCommitted


def test_a_backup_whose_lineage_rows_were_compacted_still_holds_the_commits_below_them() -> None:
    histories = Histories()
    histories.opened(LineageCommitted(0.0, 1, "e", "first"))
    histories.committed(ChangeCommitted(1.0, 2, "a", 1, deleted=False, key=None))
    histories.opened(LineageCommitted(2.0, 3, "e", "second"))
    histories.committed(ChangeCommitted(3.0, 4, "b", 1, deleted=False, key=None))
    histories.committed(ChangeCommitted(4.0, 5, "lost", 1, deleted=False, key=None))
    topics = (("a", 2, False), ("b", 4, False))
    histories.replaced(HistoryReplaced(5.0, "restored", "e", 4, ((3, "second"),), topics))
    assert histories.current.rows == [(1, "first"), (3, "second")]
    assert sorted(histories.current.topics) == ["a", "b"]
