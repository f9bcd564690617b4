"""Checks of `Store.feed` and `Store.wait`, of several stores on one backend, and of rewinding."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio
import trio.testing

from softstate.errors import Compacted, Rewound, StoreRefused, StoreRewound
from softstate.model import Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Store, Write
from softstate.testing.conformance.stage import (
    Rewindable,
    Stage,
    equal,
    expect,
    must,
    names,
    off_history,
    put,
    raises,
    read_page,
    state,
)

WRITERS = 4
COMMITS_EACH = 8
"""Commits of each writer; the writers share two stores while a third follows the feed."""

WAIT_S: float = 10.0
"""Seconds that a check waits for an event. Only a failure takes that long."""


@contextmanager
def soon(rule: str) -> Iterator[None]:
    """Raise AssertionError with the rule if the body is not done after `WAIT_S`."""
    with trio.move_on_after(WAIT_S) as scope:
        yield
    must(not scope.cancelled_caught, rule)


async def feed_returns_all_in_order(stage: Stage) -> None:
    """Check that the feed returns the commits after a position, without superseded records."""
    store = await stage.open()
    start = await store.head()
    empty = await store.feed(start)
    equal((list(empty.records), list(empty.lineages), empty.upto, empty.more), ([], [], start, False), "at the head")
    await store.publish([Write("a", b"\x01"), Write("b", b"\x01"), Write("a", b"\x02"), Write("b", None)])
    other = await stage.open()
    opened = await other.head()
    last = await put(store, "c")
    feed = await other.feed(start)
    equal(names(feed.records), [("a", 4), ("b", 5), ("c", last)], "superseded records are left out, tombstones not")
    equal(list(feed.lineages), [opened], "lineage rows are in the feed, as the positions that they begin")
    equal((feed.upto, feed.more), (opened.at(last), False), "the feed reaches the head")


async def feed_resumes_where_it_ended(stage: Stage) -> None:
    """Check that pages of the feed join without a gap, each ending at a position of its own lineage."""
    store = await stage.open()
    start = await store.head()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(3)])
    opened = await (await stage.open()).head()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(3, 6)])
    after = start
    topics: list[str] = []
    lineages: list[Position] = []
    while True:
        feed = await store.feed(after, limit=2)
        must(len(feed.records) <= 2, "a page of the feed holds at most `limit` records")
        equal([feed.upto.lineage], list(await store.lineage_at([feed.upto.revision])), "`upto` is on the history")
        topics += [record.topic for record in feed.records]
        lineages += feed.lineages
        after = feed.upto
        if not feed.more:
            break
    equal(topics, [f"t/{number}" for number in range(6)], "nothing is missing, nothing comes twice")
    equal(lineages, [opened], "each lineage row comes once")
    equal(after, await store.head(), "the last page reaches the head")


async def feed_announces_gaps(stage: Stage) -> None:
    """Check that a position off the history, or below the floor, is an error and not a silent gap."""
    store = await stage.open()
    start = await store.head()
    await put(store, "a")
    floor = await put(store, "a", None)
    head = await store.head()
    for foreign in off_history(head):

        async def ask() -> object:
            return await store.feed(foreign)  # noqa: B023 (awaited before the loop goes on)

        await raises(StoreRewound, ask, f"the feed after {foreign}, which is not on the history")
    equal(names((await store.feed(start)).records), [("a", floor)], "the feed from the start, before compacting")
    await store.compact(tombstones=floor, keys=0)
    await raises(Compacted, lambda: store.feed(start), "the feed from below the floor")
    equal(list((await store.feed(head)).records), [], "the feed from the floor on")


async def stores_share_one_backend(stage: Stage) -> None:
    """Check that a commit that one store has acknowledged can be read from another at once."""
    one_store, other = await stage.open(), await stage.open()
    for number in range(3):
        version = await put(one_store, "a", bytes([number]))
        equal((await other.head()).revision, version, "the other's head")
        equal(await state(other), {"a": Record("a", version, bytes([number]))}, "the other's state")
        one_store, other = other, one_store
    lineages = await one_store.lineage_at(range(8))
    equal(list(lineages), list(await other.lineage_at(range(8))), "both know the same lineages")


async def commits_become_visible_in_order(stage: Stage) -> None:
    """Check that a follower of the feed misses nothing: once r is visible, every revision below r is.

    A store that draws revisions before the commit, as from a database's sequence, fails here: of two concurrent
    transactions, the one with the higher revision may become visible first, and then a follower skips the other.
    """
    stores = [await stage.open(), await stage.open()]
    follower = await stage.open()
    start = after = await follower.head()
    writing = WRITERS
    seen: list[tuple[str, int]] = []

    async def write(writer: int) -> None:
        nonlocal writing
        for number in range(COMMITS_EACH):
            await put(stores[writer % 2], f"t/{writer}/{number}")
        writing -= 1

    async with trio.open_nursery() as nursery:
        for writer in range(WRITERS):
            nursery.start_soon(write, writer)
        at_rest = False
        while not at_rest:
            at_rest = not writing
            feed = await follower.feed(after)
            seen += names(feed.records)
            after = feed.upto
            at_rest = at_rest and not feed.more
    everything = names((await follower.feed(start)).records)
    equal(sorted(seen), sorted(everything), "a follower of the feed sees every commit once")
    equal(len(seen), WRITERS * COMMITS_EACH, "every commit is in the feed")


async def wait_ends_with_the_next_commit(stage: Stage) -> None:
    """Check that `wait` returns at once if there is something, else when this store or another commits."""
    store, other = await stage.open(), await stage.open()
    with soon("`wait` returns when something has been committed"):
        await store.wait((await store.head()).revision - 1)
        for writer in (store, other) * 2:
            head = (await store.head()).revision
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_more, store, head)
                nursery.start_soon(wait_for_more, other, head)
                await trio.testing.wait_all_tasks_blocked()
                await put(writer, "a")


async def wait_for_more(store: Store, revision: int) -> None:
    """Wait until the head is above a revision, allowing for early returns."""
    await store.wait(revision)
    while (await store.head()).revision <= revision:
        await store.wait(revision)


async def reopening_begins_a_lineage(stage: Stage) -> None:
    """Check that `reopen` commits a lineage row that every store sees, and changes nothing else."""
    store, other = await stage.open(), await stage.open()
    await put(store, "a")
    before, kept = await store.head(), await state(store)
    position = await store.reopen()
    equal(position.revision, before.revision + 1, "the row takes one revision")
    must(position.lineage != before.lineage, "the lineage is new")
    equal(await store.head(), position, "it is the head")
    equal(list((await other.feed(before)).lineages), [position], "other stores see it in their feed")
    equal(await state(store), kept, "the records are as they were")


async def lineage_rows_are_compacted(stage: Stage) -> None:
    """Check that `compact` forgets the lineage rows below the floor, except the one in force there."""
    store = await stage.open()
    opened = await store.head()
    await put(store, "a")
    forgotten = await (await stage.open()).head()
    kept = await (await stage.open()).head()
    floor = await put(store, "a", None)
    last = await (await stage.open()).head()
    lineages = await store.lineage_at([opened.revision, forgotten.revision, kept.revision, floor, last.revision])
    wanted = [opened.lineage, forgotten.lineage, kept.lineage, kept.lineage, last.lineage]
    equal(list(lineages), wanted, "before compacting, every row is there")
    await store.compact(tombstones=floor, keys=0)
    for each in (store, await stage.open()):
        equal(list((await each.dump(0)).rows)[:2], [kept, last], "the rows left: that in force at the floor, and later")
        (found,) = await each.lineage_at([floor])
        equal(found, kept.lineage, "the lineage in force at the floor")
        for gone in (opened, forgotten):
            (page,) = await each.read([Query(witness=gone)])
            expect(Rewound, page, f"{gone}, whose row was forgotten, is not on the history")
        for known in (kept.at(floor), last):
            await read_page(each, Query(witness=known))


async def reading_begins_no_lineage(stage: Stage) -> None:
    """Check that a store which is opened to read commits no lineage row, sees everything, and refuses to change it."""
    store = await stage.open()
    version = await put(store, "a")
    head = await store.head()
    reader = await stage.open_to_read()
    if reader is None:
        return
    equal(await reader.head(), head, "the head, as before")
    equal(await state(reader), {"a": Record("a", version, b"\x01")}, "the state, as it is")
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "publish": lambda: reader.publish([Write("a", b"\x02")]),
        "compact": lambda: reader.compact(tombstones=version, keys=version),
        "reopen": reader.reopen,
        "destroy": reader.destroy,
    }
    for name, call in calls.items():
        await raises(StoreRefused, call, f"{name} on a store that was opened to read")
    equal(await put(store, "a", b"\x02"), head.revision + 1, "no revision was taken")
    equal(await state(reader), {"a": Record("a", head.revision + 1, b"\x02")}, "a reader sees what is committed later")


async def rewinding_is_noticed(stage: Stage) -> None:
    """Check that after an older copy was restored, every method raises `StoreRewound` until `reopen`."""
    backend = stage.backend
    if not isinstance(backend, Rewindable):
        return
    store = await stage.open()
    await put(store, "a", b"\x01")
    backup = await backend.snapshot()
    kept = await store.head()
    await backend.restore(backup)
    equal(await store.head(), kept, "restoring the current state is no rewind")
    await put(store, "a", b"\x02")
    seen = await store.head()
    await backend.restore(backup)
    await every_method_raises(store)
    with soon("`wait` returns when the store was rewound"):
        await store.wait(seen.revision)
    reopened = await store.reopen()
    equal(reopened.revision, kept.revision + 1, "a reopened store continues from the backup")
    equal(await state(store), {"a": Record("a", kept.revision, b"\x01")}, "with the records of the backup")
    (found,) = await store.read([Query(witness=seen)])
    expect(Rewound, found, "a client that has seen the lost commit gets `Rewound`, though the revision exists again")
    await read_page(store, Query(witness=kept))


async def rewinding_is_noticed_from_beyond(stage: Stage) -> None:
    """Check that a rewind is noticed also after others have advanced the restored copy past the revision seen."""
    backend = stage.backend
    if not isinstance(backend, Rewindable):
        return
    store = await stage.open()
    backup = await backend.snapshot()
    seen = await put(store, "a")
    await backend.restore(backup)
    other = await stage.open()
    while await put(other, "b") <= seen:
        pass
    await every_method_raises(store)
    equal(sorted(await state(other)), ["b"], "the other store keeps working")
    await store.reopen()
    equal(sorted(await state(store)), ["b"], "a reopened store works again")


async def every_method_raises(store: Store) -> None:
    """Check that every method of a rewound store raises `StoreRewound`."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "publish": lambda: store.publish([Write("z", b"\x01")]),
        "read": lambda: store.read([Query(prefixes={ALL: 0})]),
        "head": store.head,
        "lineage_at": lambda: store.lineage_at([1]),
        "compact": lambda: store.compact(tombstones=1, keys=1),
        "info": store.info,
        "dump": lambda: store.dump(0),
    }
    for name, call in calls.items():
        await raises(StoreRewound, call, f"{name} on a store that was rewound")


REWINDS = (rewinding_is_noticed, rewinding_is_noticed_from_beyond)
"""The checks that do nothing unless the backend is `Rewindable`."""

CHECKS = (
    feed_returns_all_in_order,
    feed_resumes_where_it_ended,
    feed_announces_gaps,
    stores_share_one_backend,
    commits_become_visible_in_order,
    wait_ends_with_the_next_commit,
    reopening_begins_a_lineage,
    lineage_rows_are_compacted,
    reading_begins_no_lineage,
    *REWINDS,
)
