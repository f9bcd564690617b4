"""Checks of `Store.dump`, `Store.adopt` and `Store.destroy`: moving all that a store holds to another one.

One backend is enough: the other end of every move is a `MemoryStore`.
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
from softstate.testing.conformance.copies import FEW, Replayed, dump_of, story, whole
from softstate.testing.conformance.history import everything_raises
from softstate.testing.conformance.stage import Stage, an, equal, must, one, put, raises, refused, state


async def dump_is_all_there_is(stage: Stage) -> None:
    """Check that the pages of a dump are joined and bounded, and add up to all that the store holds."""
    store = await stage.open()
    empty = await store.dump(0)
    equal((list(empty.records), list(empty.keys), empty.more), ([], [], False), "the dump of an empty store")
    equal(list(empty.rows), [await store.head()], "it has the lineage row of its opening")
    head = await story(store)
    found = [page async for page in pages(store, limit=FEW)]
    equal([page.after for page in found], [0, *(page.upto for page in found[:-1])], "each page begins where one ended")
    equal([page.more for page in found], [True] * (len(found) - 1) + [False], "only the last has no `more`")
    equal(found[-1].upto, head.revision, "the last reaches the head")
    for page in found:
        must(max(len(page.records), len(page.keys)) <= FEW, "a page holds at most `limit` records, and as many keys")
        versions = [
            *(r.version for r in page.records),
            *(k.version for k in page.keys),
            *(r.revision for r in page.rows),
        ]
        must(all(page.after < version <= page.upto for version in versions), "a page holds what is above `after`")
        equal(sorted(record.version for record in page.records), [r.version for r in page.records], "in version order")
    dump = await dump_of(store)
    alive = {topic: record for topic, record in dump.records.items() if not record.deleted}
    equal(alive, await state(store), "the records that are alive")
    equal(len(dump.records) - len(alive), (await store.info()).tombstones, "tombstones are in a dump")
    equal({key.key for key in dump.keys}, {f"key {number}" for number in range(FEW + 2)}, "so are idempotency keys")
    lineages = await store.lineage_at([row.revision for row in dump.rows])
    equal([row.lineage for row in dump.rows], list(lineages), "and lineage rows")
    equal((dump.position, dump.floor > 0), (head, True), "and the floor")


async def dump_goes_on_while_others_commit(stage: Stage) -> None:
    """Check that pages add up to the state at the last one, when somebody else commits and compacts in between."""
    store, other = await stage.open(), await stage.open()
    await story(store)
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
        found = await whole(dump)
    must(not changes, "the dump has several pages")
    alive = {topic: record for topic, record in found.records.items() if not record.deleted}
    equal(alive, await state(store), "what the pages add up to")
    equal(found.position, await store.head(), "the position of the last page")


async def copy_has_everything(stage: Stage) -> None:
    """Check that a copy has the epoch, versions, tombstones, keys, lineages and floor of its source."""
    source, store = MemoryStore(), await stage.open()
    head = await story(source)
    wanted = await dump_of(source)
    adopted = await store.adopt(pages(source, limit=FEW), replace=False)
    equal((adopted.epoch, adopted.revision), (head.epoch, head.revision + 1), "a lineage row follows what was copied")
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
    """Check that what was dumped here is at home in another store."""
    store, copy = await stage.open(), MemoryStore()
    await story(store)
    adopted = await copy.adopt(pages(store, limit=PAGE_RECORDS_MAX), replace=False)
    wanted, found = await dump_of(store), await dump_of(copy)
    equal((found.records, found.keys, found.floor), (wanted.records, wanted.keys, wanted.floor), "all that it holds")
    equal(list(found.rows), [*wanted.rows, adopted], "its lineage rows")


async def copy_knows_its_clients(stage: Stage) -> None:
    """Check that a position of the source is on the copy's history, and one above what was copied is not."""
    source, store = MemoryStore(), await stage.open()
    early = await story(source)
    await source.reopen()
    await put(source, "late")
    late = await source.head()
    copy = [page async for page in pages(source, limit=FEW)]
    adopted = await store.adopt(Replayed(copy), replace=False)
    lost = [(await source.publish([Write("lost", b"\x01")])).position for _ in range(2)]
    for position in (early, late, adopted):
        await one(store, Query(witness=position))
    for when in ("at once", "after the copy has gone beyond it"):
        for position in lost:
            (found,) = await store.read([Query(witness=position)])
            an(Rewound, found, f"a client that has seen more than was copied is told so, {when}")
        while (await store.head()).revision <= lost[-1].revision:
            await put(store, "other")


async def copy_spares_what_was_published(stage: Stage) -> None:
    """Check that without `replace` only a store is overwritten that nothing was ever published to."""
    source, store = MemoryStore(), await stage.open()
    await story(source)
    await put(store, "a")
    await put(store, "a", None)
    await store.compact(tombstones=(await store.head()).revision, keys=0)
    head = await store.head()
    copy = [page async for page in pages(source)]
    await raises(StoreRefused, lambda: store.adopt(Replayed(copy), replace=False), "`adopt` without `replace`")
    equal(await state(store), {}, "nothing is copied")
    await one(store, Query(witness=head))
    await store.adopt(Replayed(copy), replace=True)
    equal(await state(store), await state(source), "`adopt` with `replace`")
    await raises(StoreRefused, lambda: store.adopt(Replayed(copy), replace=False), "`adopt` onto a copy")


async def copy_rewinds_who_has_seen_more(stage: Stage) -> None:
    """Check that a store which is open while an older copy is put back notices, whether or not it was gone beyond."""
    store, other = await stage.open(), await stage.open()
    await story(store)
    backup, kept = [page async for page in pages(store)], await state(store)
    seen = await put(other, "lost")
    adopted = await store.adopt(Replayed(backup), replace=True)
    equal(await state(store), kept, "the store that adopts shows what it has adopted")
    while await put(store, "b") <= seen:
        pass
    await everything_raises(other)
    equal((await other.reopen()).epoch, adopted.epoch, "the epoch after reopening")
    equal(await state(other), await state(store), "reopened, it shows what was put back, and what came since")
    await store.adopt(pages(MemoryStore()), replace=True)
    await raises(StoreRewound, other.head, "the head of a store that was replaced by another epoch's")


async def broken_copy_changes_nothing(stage: Stage) -> None:
    """Check that pages which fail, break off, have a hole or are cancelled leave all as it was."""
    source, store, other = MemoryStore(), await stage.open(), await stage.open()
    await story(source)
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
        raise AssertionError("what the pages raise comes through")
    for bad in ([], copy[:2], [copy[0], *copy[2:]], copy[1:]):
        await raises(Unavailable, partial(store.adopt, Replayed(bad), replace=True), "pages that are not whole")
    with trio.CancelScope() as scope:

        async def cancelled() -> AsyncIterator[Dump]:
            yield copy[0]
            scope.cancel()
            await trio.lowlevel.checkpoint()

        await store.adopt(cancelled(), replace=True)
    must(scope.cancelled_caught, "`adopt` can be cancelled while it waits for a page")
    for witness in (store, other):
        equal(await state(witness), kept, "what the store held before")
        await one(witness, Query(witness=seen))
    (verdict,) = (await store.publish([Write("mine", b"\x01", key="key", digest=b"d")])).verdicts
    an(Applied, verdict, "an idempotency key from before")
    must(verdict == Applied(kept["mine"].version, repeated=True), "it stands for what it did before")


async def copy_begins_anew_when_the_pages_do(stage: Stage) -> None:
    """Check that pages which start again at 0 replace all that came before them."""
    stale, source, store = MemoryStore(), MemoryStore(), await stage.open()
    await put(stale, "stale", key="key", digest=b"d")
    await put(stale, "t/3", b"\x18\xff")
    await story(source)
    begun = [page async for page in pages(source, limit=FEW)][:2]
    copy = [*[page async for page in pages(stale)], *begun, *[page async for page in pages(source, limit=FEW)]]
    adopted = await store.adopt(Replayed(copy), replace=False)
    wanted, found = await dump_of(source), await dump_of(store)
    equal((found.records, found.keys, found.floor), (wanted.records, wanted.keys, wanted.floor), "only the last counts")
    equal(list(found.rows), [*wanted.rows, adopted], "its lineage rows too")


async def destroyed_store_is_gone(stage: Stage) -> None:
    """Check that after `destroy` one that opens it finds a new one. Left out where the engine offers no such thing."""
    store = await stage.open()
    await story(store)
    before = await store.head()
    try:
        await store.destroy()
    except StoreRefused:
        return
    anew = await stage.open()
    must((await anew.head()).epoch != before.epoch, "the epoch is another")
    equal(await state(anew), {}, "nothing is left")
    equal((await anew.info()).keys, 0, "no idempotency key is left")


CHECKS = (
    dump_is_all_there_is,
    dump_goes_on_while_others_commit,
    copy_has_everything,
    copy_can_be_copied,
    copy_knows_its_clients,
    copy_spares_what_was_published,
    copy_rewinds_who_has_seen_more,
    broken_copy_changes_nothing,
    copy_begins_anew_when_the_pages_do,
    destroyed_store_is_gone,
)
