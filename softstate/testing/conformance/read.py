"""Checks of `Store.read` and `Store.compact`: the contents of a page, paging while the store changes, the floor."""

from __future__ import annotations

from dataclasses import replace

from softstate.errors import Rewound
from softstate.model import Query, Record
from softstate.names import ALL
from softstate.store.base import Write
from softstate.testing.conformance.stage import (
    Stage,
    equal,
    expect,
    must,
    names,
    next_query,
    off_history,
    put,
    read_page,
)

DEEP = 500
"""Topics of `pages_end_by_their_cost`."""

ALIVE = 5
"""Every so many of them stay alive."""

COST = 100
"""The cost of a page of it; engines take several records at once, so they may look at some dozens more."""


async def prefix_covers_the_topics_below_it(stage: Stage) -> None:
    """Check that a prefix covers the topics below it, but neither its own name nor names that only begin like it."""
    store = await stage.open()
    topics = ["a", "a/b", "a/b/c", "a0", "a.b", "a!", "ab/c", "a/é", "a/\U0001f600", "b/a/b"]
    await store.publish([Write(topic, b"\x01") for topic in topics])
    for prefix in (ALL, "a/", "a/b/", "c/"):
        page = await read_page(store, Query(prefixes={prefix: 0}))
        wanted = [topic for topic in topics if prefix == ALL or topic.startswith(prefix)]
        equal([record.topic for record in page.records], wanted, f"the topics that {prefix!r} covers, in version order")


async def page_holds_the_differences(stage: Stage) -> None:
    """Check that a page has the records that the client lacks, each once, with tombstones of topics it may hold."""
    store = await stage.open()
    a = await put(store, "p/a")
    b = await put(store, "p/b")
    await put(store, "q")
    gone = await put(store, "p/a", None)
    c = await put(store, "p/c", b"\x18\x2a")
    head = await store.head()

    page = await read_page(store, Query(topics={"p/b": 0}, prefixes={"p/": 0, ALL: b}, witness=head))
    wanted = [("p/b", b), ("q", b + 1), ("p/a", gone), ("p/c", c)]
    equal(names(page.records), wanted, "the union of topics and prefixes, each topic once, in version order")
    equal(page.records[-1], Record("p/c", c, b"\x18\x2a"), "values come back to the byte")
    equal((page.position, page.floor), (head, 0), "a page carries its position and the floor")
    must(not (page.more or page.restart or page.compacted), "this page is the whole answer")

    page = await read_page(store, Query(prefixes={"p/": 0}))
    equal(names(page.records), [("p/b", b), ("p/c", c)], "a client that knows nothing gets no tombstones")
    page = await read_page(store, Query(prefixes={"p/": b}))
    equal(names(page.records), [("p/a", gone), ("p/c", c)], "changes since a revision include tombstones")
    page = await read_page(store, Query(topics={"p/a": a, "p/b": b, "p/c": 0, "x": 0}))
    equal(names(page.records), [("p/a", gone), ("p/c", c)], "topics bring records newer than the version held")
    page = await read_page(store, Query(topics={"p/a": 0}, prefixes={"p/": head.revision}))
    equal(names(page.records), [], "nothing differs")
    equal(len(await store.read([Query(), Query()])), 2, "each query of a group has its answer")


async def foreign_positions_are_rewound(stage: Stage) -> None:
    """Check that a query with a position off the history gets `Rewound`, and the others of its group do not."""
    store = await stage.open()
    version = await put(store, "p/a")
    head = await store.head()
    strange = [Query(witness=witness) for witness in off_history(head)]
    strange += [
        Query(topics={"p/a": version + 1}),
        Query(topics={"never": 1}),
        Query(prefixes={"p/": head.revision + 1}),
    ]
    answers = await store.read([*strange, Query(topics={"p/a": version}, witness=head.at(version))])
    for query, found in zip(strange, answers[:-1], strict=True):
        equal(expect(Rewound, found, f"{query} is not of this history").position, head, "`Rewound` carries the head")
    must(not isinstance(answers[-1], Rewound), "a valid query in the same group is answered")


async def pages_end_at_their_limits(stage: Stage) -> None:
    """`limit` and `limit_bytes` end a page, and `more` is exact."""
    store = await stage.open()
    await store.publish([Write(f"t/{number}", bytes(100)) for number in range(6)])
    for limit, limit_bytes, sizes in (
        (2, 1000, [2, 2, 2]),
        (4, 1000, [4, 2]),
        (9, 150, [2, 2, 2]),
        (9, 1, [1] * 6),
        (6, 600, [6]),
    ):
        query = Query(prefixes={"t/": 0}, limit=limit, limit_bytes=limit_bytes)
        for at, size in enumerate(sizes):
            page = await read_page(store, query)
            equal(len(page.records), size, f"page {at} under limits of {limit} and {limit_bytes} bytes")
            equal(
                page.more, at < len(sizes) - 1, f"`more` on page {at} under limits of {limit} and {limit_bytes} bytes"
            )
            query = next_query(query, page)


async def pages_end_by_their_cost(stage: Stage) -> None:
    """Check that `limit_cost` ends a page, that each page gets further, and that nothing is missed or left out."""
    store = await stage.open()
    opened = await store.head()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(DEEP)])
    await store.publish([Write(f"t/{number}", None) for number in range(DEEP) if number % ALIVE])
    head = await store.head()
    for since, wanted in ((0, DEEP // ALIVE), (opened.revision, DEEP)):
        query = Query(prefixes={"t/": since}, limit_cost=COST)
        found: list[str] = []
        pages = 1
        while (page := await read_page(store, query)).more:
            must(page.next_after > query.after, f"page {pages} since {since} gets further")
            must(page.next_after <= head.revision, f"page {pages} since {since} ends at the head at the latest")
            found += [record.topic for record in page.records if since or not record.deleted]
            query = next_query(query, page)
            pages += 1
        found += [record.topic for record in page.records if since or not record.deleted]
        must(pages > 1, f"a page that may cost {COST} is not the whole answer about {DEEP} topics since {since}")
        equal((len(found), len(set(found))), (wanted, wanted), f"the topics of all pages since {since}, each once")


async def pages_miss_no_change(stage: Stage) -> None:
    """Check that a change made between two pages is on a later page, deletions too."""
    store = await stage.open()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(4)])
    query = Query(topics={"x": 0}, prefixes={"t/": 0}, limit=2)
    page = await read_page(store, query)
    equal([record.topic for record in page.records], ["t/0", "t/1"], "the first page")
    changed = await put(store, "t/0", b"\x02")
    gone = await put(store, "t/1", None)
    moved = await put(store, "t/2", b"\x02")
    page = await read_page(store, query := next_query(query, page))
    equal(names(page.records), [("t/3", changed - 1), ("t/0", changed)], "the second page, as of now")
    equal(page.position.revision, moved, "each page is its own snapshot")
    page = await read_page(store, next_query(query, page))
    equal(names(page.records), [("t/1", gone), ("t/2", moved)], "the last page, with the tombstone")
    must(not page.more, "this page is the last")


async def compacting_moves_the_floor(stage: Stage) -> None:
    """Check that the floor is the version of the newest tombstone removed, and never goes back."""
    store = await stage.open()
    await store.publish([Write("a", b"\x01"), Write("b", b"\x01")])
    first = await put(store, "a", None)
    second = await put(store, "b", None)
    await put(store, "c")
    equal(await store.compact(tombstones=first - 1, keys=0), 0, "without tombstones to remove, the floor stays")
    equal(await store.compact(tombstones=first, keys=0), first, "the floor is at the tombstone removed")
    equal((await store.info()).tombstones, 1, "the other tombstone is kept")
    head = await store.head()
    equal(await store.compact(tombstones=head.revision, keys=0), second, "the floor is not at the revision given")
    equal(await store.compact(tombstones=first, keys=0), second, "the floor never goes back")
    equal(await store.head(), head, "compacting does not move the head")
    equal((await read_page(await stage.open(), Query())).floor, second, "the floor is durable")
    last = await put(store, "c", None)
    equal(await store.compact(tombstones=last, keys=0), last, "the newest change may be compacted")
    equal((await store.head()).revision, last, "the head stays")
    equal(await put(store, "d"), last + 1, "no revision is used twice")


async def forgotten_topics_read_as_tombstones(stage: Stage) -> None:
    """Check that a topic unknown to the store counts as deleted at the floor."""
    store = await stage.open()
    await store.publish([Write("a", b"\x01"), Write("b", b"\x01"), Write("c", b"\x01")])
    floor = await put(store, "a", None)
    await store.compact(tombstones=floor, keys=0)
    await put(store, "d")
    page = await read_page(store, Query(topics={"a": 2, "b": 2, "x": 0, "y": floor}))
    wanted = [Record("b", 3, b"\x01"), Record("a", floor, None)]
    equal(list(page.records), wanted, "sent to those whose version is below the floor")
    (found,) = await store.read([Query(topics={"a": floor + 1})])
    expect(Rewound, found, "no client can hold a version above the floor of an unknown topic")
    await put(store, "a", expect=0)


async def prefixes_below_the_floor_are_compacted(stage: Stage) -> None:
    """Check that since a revision below the floor, a prefix is listed from 0, and named."""
    store = await stage.open()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(4)])
    floor = await put(store, "t/0", None)
    last = await put(store, "t/1", None)
    await store.compact(tombstones=floor, keys=0)
    query = Query(prefixes={"t/": floor - 1, ALL: floor}, limit=2)
    page = await read_page(store, query)
    equal(names(page.records), [("t/2", 4), ("t/3", 5)], "the prefix is listed from 0")
    equal(list(page.compacted), ["t/"], "the prefix is named, one at the floor is not")
    page = await read_page(store, next_query(query, page))
    equal(names(page.records), [("t/1", last)], "a prefix known since the floor brings tombstones")
    equal(list(page.compacted), ["t/"], "the last page names it too")


async def pages_restart_when_the_floor_passes(stage: Stage) -> None:
    """Check that a later page whose tombstones may be forgotten asks for a restart, instead of leaving them out."""
    store = await stage.open()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(5)])
    since = (await store.head()).revision
    await store.publish([Write(f"t/{number}", b"\x02") for number in range(4)])
    delta, listing = Query(prefixes={"t/": since}, limit=2), Query(prefixes={"t/": 0}, limit=2)
    first_delta, first_listing = await read_page(store, delta), await read_page(store, listing)
    buried = await put(store, "t/3", None)
    gone = await put(store, "t/0", None)

    await store.compact(tombstones=buried, keys=0)
    page = await read_page(store, replace(next_query(delta, first_delta), listed=None))
    must(page.restart and not page.records, "the floor passed the cursor of an answer that does not list from 0")
    page = await read_page(store, next_query(listing, first_listing))
    must(page.restart and not page.records, "the floor passed the first page of an answer that lists from 0")
    page = await read_page(store, replace(next_query(listing, first_listing), listed=buried))
    equal(names(page.records), [("t/1", since + 2), ("t/2", since + 3)], "but not one that was listed later")
    page = await read_page(store, replace(listing, after=buried, listed=since))
    equal(names(page.records), [("t/0", gone)], "nor one whose cursor is at the floor")


CHECKS = (
    prefix_covers_the_topics_below_it,
    page_holds_the_differences,
    foreign_positions_are_rewound,
    pages_end_at_their_limits,
    pages_end_by_their_cost,
    pages_miss_no_change,
    compacting_moves_the_floor,
    forgotten_topics_read_as_tombstones,
    prefixes_below_the_floor_are_compacted,
    pages_restart_when_the_floor_passes,
)
