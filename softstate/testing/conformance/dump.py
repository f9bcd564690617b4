"""Checks of `Store.dump`, `Store.adopt` and `Store.destroy`: copying the contents of a store to another.

One backend is enough: the other end of every copy is a `MemoryStore`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

import trio

from softstate.errors import Compacted, KeyReused, Rewound, StoreRefused, StoreRewound, Unavailable
from softstate.model import PAGE_RECORDS_MAX, Query
from softstate.store.base import Applied, Dump, Write
from softstate.store.memory.store import MemoryStore
from softstate.store.rules.dump import pages
from softstate.testing.conformance.copies import FEW, ReplayedPages, collect, dump_of, fill
from softstate.testing.conformance.history import every_method_raises
from softstate.testing.conformance.stage import Stage, equal, expect, must, put, raises, read_page, refused, state


async def dump_is_complete(stage: Stage) -> None:
    """Check that the pages of a dump are contiguous and bounded, and add up to the contents of the store."""
    store = await stage.open()
    empty = await store.dump(0)
    equal((list(empty.records), list(empty.keys), empty.more), ([], [], False), "the dump of an empty store")
    equal(list(empty.rows), [await store.head()], "it has the lineage row of its opening")
    head = await fill(store)
    found = [page async for page in pages(store, limit=FEW)]
    equal(
        [page.after for page in found],
        [0, *(page.upto for page in found[:-1])],
        "each page begins where the one before ended",
    )
    equal([page.more for page in found], [True] * (len(found) - 1) + [False], "only the last has no `more`")
    equal(found[-1].upto, head.revision, "the last reaches the head")
    for page in found:
        must(max(len(page.records), len(page.keys)) <= FEW, "a page holds at most `limit` records, and as many keys")
        versions = [
            *(r.version for r in page.records),
            *(k.version for k in page.keys),
            *(r.revision for r in page.rows),
        ]
        must(all(page.after < version <= page.upto for version in versions), "a page holds revisions above `after`")
        equal(sorted(record.version for record in page.records), [r.version for r in page.records], "in version order")
    dump = await dump_of(store)
    alive = {topic: record for topic, record in dump.records.items() if not record.deleted}
    equal(alive, await state(store), "the records that are not deleted")
    equal(len(dump.records) - len(alive), (await store.info()).tombstones, "tombstones are in a dump")
    equal({key.key for key in dump.keys}, {f"key {number}" for number in range(FEW + 2)}, "so are idempotency keys")
    lineages = await store.lineage_at([row.revision for row in dump.rows])
    equal([row.lineage for row in dump.rows], list(lineages), "and lineage rows")
    equal((dump.position, dump.floor > 0), (head, True), "and the floor")


async def dump_continues_while_others_commit(stage: Stage) -> None:
    """Check that pages add up to the state at the last one, when another store commits and compacts in between."""
    store, other = await stage.open(), await stage.open()
    await fill(store)
    changes = [
        [Write("t/3", None), Write("t/4", b"\x01"), Write("new/1", b"\x01")],
        [Write("t/39", b"\x01"), Write("new/1", b"\x02", key="key", digest=b"d")],
        [Write("t/5", None), Write("t/38", None)],
    ]

    async def disturbed(limit: int) -> AsyncGenerator[Dump, None]:
        async with aclosing(pages(store, limit=limit)) as dump:
            async for page in dump:
                yield page
                if changes:
                    made = await other.publish(changes.pop())
                    await other.compact(tombstones=made.position.revision, keys=0)

    async with aclosing(disturbed(FEW)) as dump:
        found = await collect(dump)
    must(not changes, "the dump has several pages")
    alive = {topic: record for topic, record in found.records.items() if not record.deleted}
    equal(alive, await state(store), "the sum of the pages")
    equal(found.position, await store.head(), "the position of the last page")


async def copy_is_complete(stage: Stage) -> None:
    """Check that a copy has the epoch, versions, tombstones, keys, lineages and floor of its source."""
    source, store = MemoryStore(), await stage.open()
    head = await fill(source)
    wanted = await dump_of(source)
    adopted = await store.adopt(pages(source, limit=FEW), replace=False)
    equal(
        (adopted.epoch, adopted.revision), (head.epoch, head.revision + 1), "a lineage row follows the copied commits"
    )
    must(adopted.lineage not in [row.lineage for row in wanted.rows], "its lineage is new")
    equal(await store.head(), adopted, "it is the head")
    found = await dump_of(store)
    equal(found.records, wanted.records, "the records, tombstones included")
    equal(found.keys, wanted.keys, "the idempotency keys")
    equal((list(found.rows), found.floor), ([*wanted.rows, adopted], wanted.floor), "the lineage rows, and the floor")
    equal(await put(store, "next"), adopted.revision + 1, "the next change has the next revision")
    key = min(wanted.keys, key=lambda key: key.version)
    again = Write(key.topic, b"\x01", key=key.key, digest=key.digest)
    (verdict,) = (await store.publish([again])).verdicts
    equal(verdict, Applied(key.version, repeated=True), "a request of the source that is repeated at the copy")
    await refused(store, KeyReused, Write(key.topic, b"\x01", key=key.key, digest=b"x"), "a key of the source")
    await raises(Compacted, lambda: store.feed(wanted.rows[0]), "the feed of the copy from below the floor")
    equal(await state(await stage.open()), await state(store), "a store that is opened later")


async def copy_can_be_copied(stage: Stage) -> None:
    """Check that a dump of this store can be adopted by another store."""
    store, copy = await stage.open(), MemoryStore()
    await fill(store)
    adopted = await copy.adopt(pages(store, limit=PAGE_RECORDS_MAX), replace=False)
    wanted, found = await dump_of(store), await dump_of(copy)
    equal(
        (found.records, found.keys, found.floor),
        (wanted.records, wanted.keys, wanted.floor),
        "the contents of the copy",
    )
    equal(list(found.rows), [*wanted.rows, adopted], "its lineage rows")


async def copy_recognises_its_clients(stage: Stage) -> None:
    """Check that a position of the source is on the copy's history, and one above the copied revisions is not."""
    source, store = MemoryStore(), await stage.open()
    early = await fill(source)
    await source.reopen()
    await put(source, "late")
    late = await source.head()
    copy = [page async for page in pages(source, limit=FEW)]
    adopted = await store.adopt(ReplayedPages(copy), replace=False)
    lost = [(await source.publish([Write("lost", b"\x01")])).position for _ in range(2)]
    for position in (early, late, adopted):
        await read_page(store, Query(witness=position))
    for when in ("at once", "after the copy has gone beyond it"):
        for position in lost:
            (found,) = await store.read([Query(witness=position)])
            expect(Rewound, found, f"a client that has seen more than was copied gets `Rewound`, {when}")
        while (await store.head()).revision <= lost[-1].revision:
            await put(store, "other")


async def copy_overwrites_nothing_published(stage: Stage) -> None:
    """Check that without `replace`, `adopt` refuses a store to which something was published."""
    source, store = MemoryStore(), await stage.open()
    await fill(source)
    await put(store, "a")
    await put(store, "a", None)
    await store.compact(tombstones=(await store.head()).revision, keys=0)
    head = await store.head()
    copy = [page async for page in pages(source)]
    await raises(StoreRefused, lambda: store.adopt(ReplayedPages(copy), replace=False), "`adopt` without `replace`")
    equal(await state(store), {}, "nothing is copied")
    await read_page(store, Query(witness=head))
    await store.adopt(ReplayedPages(copy), replace=True)
    equal(await state(store), await state(source), "`adopt` with `replace`")
    await raises(StoreRefused, lambda: store.adopt(ReplayedPages(copy), replace=False), "`adopt` onto a copy")


async def copy_rewinds_stores_that_saw_more(stage: Stage) -> None:
    """Check that an open store notices that an older copy was put back, also after that copy has advanced."""
    store, other = await stage.open(), await stage.open()
    await fill(store)
    backup, kept = [page async for page in pages(store)], await state(store)
    seen = await put(other, "lost")
    adopted = await store.adopt(ReplayedPages(backup), replace=True)
    equal(await state(store), kept, "the store that adopts has the adopted records")
    while await put(store, "b") <= seen:
        pass
    await every_method_raises(other)
    equal((await other.reopen()).epoch, adopted.epoch, "the epoch after reopening")
    equal(await state(other), await state(store), "a reopened store has the copy and later changes")
    await store.adopt(pages(MemoryStore()), replace=True)
    await raises(StoreRewound, other.head, "the head of a store that was replaced by another epoch's")


async def broken_copy_changes_nothing(stage: Stage) -> None:
    """Check that pages which fail, break off, have a gap or are cancelled change nothing."""
    source, store, other = MemoryStore(), await stage.open(), await stage.open()
    await fill(source)
    await put(store, "mine", key="key", digest=b"d")
    seen, kept = await other.head(), await state(other)
    copy = [page async for page in pages(source, limit=FEW)]

    class Broken(Exception):
        pass

    async def failing() -> AsyncIterator[Dump]:
        for page in copy[:3]:
            yield page
        raise Broken

    try:
        await store.adopt(failing(), replace=True)
    except Broken:
        pass
    else:
        raise AssertionError("an error of the pages is passed on")
    for bad in ([], copy[:2], [copy[0], *copy[2:]], copy[1:]):
        await raises(Unavailable, partial(store.adopt, ReplayedPages(bad), replace=True), "incomplete pages")
    with trio.CancelScope() as scope:

        async def cancelled() -> AsyncIterator[Dump]:
            yield copy[0]
            scope.cancel()
            await trio.lowlevel.checkpoint()

        await store.adopt(cancelled(), replace=True)
    must(scope.cancelled_caught, "`adopt` can be cancelled while it waits for a page")
    for witness in (store, other):
        equal(await state(witness), kept, "the contents from before")
        await read_page(witness, Query(witness=seen))
    (verdict,) = (await store.publish([Write("mine", b"\x01", key="key", digest=b"d")])).verdicts
    expect(Applied, verdict, "an idempotency key from before")
    must(verdict == Applied(kept["mine"].version, repeated=True), "the key still stands for its first success")


async def copy_restarts_when_the_pages_do(stage: Stage) -> None:
    """Check that pages which start again at 0 replace all pages before them."""
    stale, source, store = MemoryStore(), MemoryStore(), await stage.open()
    await put(stale, "stale", key="key", digest=b"d")
    await put(stale, "t/3", b"\x18\xff")
    await fill(source)
    begun = [page async for page in pages(source, limit=FEW)][:2]
    copy = [*[page async for page in pages(stale)], *begun, *[page async for page in pages(source, limit=FEW)]]
    adopted = await store.adopt(ReplayedPages(copy), replace=False)
    wanted, found = await dump_of(source), await dump_of(store)
    equal(
        (found.records, found.keys, found.floor),
        (wanted.records, wanted.keys, wanted.floor),
        "only the last run of pages counts",
    )
    equal(list(found.rows), [*wanted.rows, adopted], "its lineage rows too")


async def destroyed_store_is_gone(stage: Stage) -> None:
    """Check that after `destroy` opening makes a new store. Does nothing if the engine refuses `destroy`."""
    store = await stage.open()
    await fill(store)
    before = await store.head()
    try:
        await store.destroy()
    except StoreRefused:
        return
    fresh = await stage.open()
    must((await fresh.head()).epoch != before.epoch, "the epoch is another")
    equal(await state(fresh), {}, "nothing is left")
    equal((await fresh.info()).keys, 0, "no idempotency key is left")


CHECKS = (
    dump_is_complete,
    dump_continues_while_others_commit,
    copy_is_complete,
    copy_can_be_copied,
    copy_recognises_its_clients,
    copy_overwrites_nothing_published,
    copy_rewinds_stores_that_saw_more,
    broken_copy_changes_nothing,
    copy_restarts_when_the_pages_do,
    destroyed_store_is_gone,
)
