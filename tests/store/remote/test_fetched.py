"""A snapshot of what was fetched: it answers as a store does, and never with something that was not fetched."""

from __future__ import annotations

import pytest

from softstate.errors import StoreRewound
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.history import check_seen, on_history
from softstate.store.rules.paging import answer, feed_page, scans_of

HEAD = Position("e", "l2", 9)


def test_lineages() -> None:
    rows = [Position("e", "l1", 1), Position("e", "l2", 6)]
    snapshot = FetchedSnapshot(HEAD, 0, lineage_of={3: "l1", 0: None}, rows=rows)
    assert [snapshot.lineage_at(revision) for revision in (0, 3, 9, 10)] == [None, "l1", "l2", None]
    assert list(snapshot.lineages(1, 6)) == [rows[1]]
    assert list(snapshot.lineages(0, 5)) == [rows[0]]
    assert on_history(Position("e", "l1", 3), snapshot)
    check_seen(HEAD, snapshot)
    for lost in (Position("e", "l2", 3), Position("other", "l2", 9), Position("e", "l2", 10)):
        with pytest.raises(StoreRewound):
            check_seen(lost, snapshot)


def test_what_was_not_fetched_is_a_mistake() -> None:
    snapshot = FetchedSnapshot(HEAD, 0, lineage_of={}, versions={"a": 4})
    with pytest.raises(KeyError):
        snapshot.lineage_at(3)
    with pytest.raises(KeyError):
        snapshot.scan(ALL, 0, tombstones=False)
    with pytest.raises(KeyError):
        list(snapshot.load([4]))


def test_answers() -> None:
    a, b, c = Record("a", 4, b"\x01"), Record("p/b", 5, b"\x02"), Record("p/c", 7, None)
    query = Query(topics={"a": 2, "x": 0}, prefixes={"p/": 3}, limit=2)
    (scan,) = scans_of(query, floor=0)
    snapshot = FetchedSnapshot(HEAD, 0, lineage_of={}, versions={"a": 4}, records=[a], scans={scan: [b, c]})
    page = answer(query, snapshot)
    assert isinstance(page, Page)
    assert (list(page.records), page.more) == ([a, b], True)
    assert snapshot.versions(["a", "x"]) == {"a": 4}


def test_loading_is_lazy() -> None:
    """A record beyond the page need not be fetched, but for the one that `answer` looks at behind its end."""
    versions = {f"t/{number}": number for number in range(1, 6)}
    records = [Record(f"t/{number}", number, b"\x01") for number in (1, 2, 3)]
    page = answer(
        Query(topics=dict.fromkeys(versions, 0), limit=2),
        FetchedSnapshot(HEAD, 0, lineage_of={}, versions=versions, records=records),
    )
    assert isinstance(page, Page)
    assert (list(page.records), page.more) == (records[:2], True)


def test_feed() -> None:
    start, row = Position("e", "l1", 2), Position("e", "l2", 6)
    records = [Record("a", 4, b"\x01"), Record("b", 7, None), Record("c", 9, b"\x02")]
    snapshot = FetchedSnapshot(
        HEAD, 0, lineage_of={2: "l1", 4: "l1", 7: "l2"}, rows=[row], scans={(ALL, 2, True): records}
    )
    feed = feed_page(start, 2, snapshot)
    assert (list(feed.records), list(feed.lineages), feed.upto, feed.more) == (records[:2], [row], HEAD.at(7), True)
    feed = feed_page(start, 1, snapshot)
    assert (list(feed.lineages), feed.upto) == ([], start.at(4))
