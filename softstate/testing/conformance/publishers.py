"""Checks of numbered publishes (P-PUB-9): repeats, late copies, the bound on publishers, and copies of a store."""

from __future__ import annotations

from collections.abc import AsyncIterator

from softstate.errors import Conflict, KeyReused, Overloaded
from softstate.store.base import Applied, Dump, Number, Publisher, Use, Write
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import Stage, equal, put, refused

ONE, OTHER = b"1" * 16, b"2" * 16
"""Digests of two requests."""

FEW = 3
"""Records of a page, where a check needs a dump of several pages."""


def numbered(seq: int, settled: int = 0, *, publisher: str = "p", digest: bytes = ONE, topic: str = "a") -> Write:
    """Return a publish of `topic` with this number."""
    return Write(topic, b"\x01", digest=digest, number=Number(publisher, seq, settled))


async def number_returns_the_first_success(stage: Stage) -> None:
    """Check that a repeated number gets the first success, in one group or later, on any store of the backend."""
    store = await stage.open()
    done = await store.publish([numbered(1), numbered(1), numbered(2), numbered(1, digest=OTHER)])
    first, repeated, second, reused = done.verdicts
    assert isinstance(first, Applied)
    equal(repeated, Applied(first.version, repeated=True), "twice in one group")
    equal(second, Applied(first.version + 1), "the next number is a publish of its own")
    equal(type(reused), KeyReused, "one number for two requests")
    await put(store, "a", b"\x02")
    other = await stage.open()
    done = await other.publish([numbered(1), numbered(1, publisher="q")])
    equal(done.verdicts[0], Applied(first.version, repeated=True), "after a newer change, on another store")
    equal(done.verdicts[1], Applied(done.before + 1), "the same number of another publisher")
    equal((await store.info()).publishers, 2, "`info` counts publishers")


async def settled_number_never_comes_back(stage: Stage) -> None:
    """Check that what a publisher has settled is refused, however late the copy, and conflicts are not remembered."""
    store = await stage.open()
    await store.publish([numbered(1), numbered(2), numbered(4, settled=3)])
    for seq in (1, 2, 3):
        await refused(store, KeyReused, numbered(seq), f"a copy of {seq} after 3 was settled")
    await store.publish([numbered(5, settled=1)])
    await refused(store, KeyReused, numbered(3), "`settled` does not go back")
    lost = Write("a", b"\x01", expect=1, digest=ONE, number=Number("p", 6, 5))
    await refused(store, Conflict, lost, "a compare-and-set with a number")
    await refused(store, Conflict, lost, "the same, judged again")


async def names_of_clients_may_hold_any_text(stage: Stage) -> None:
    """Check that publishers and keys are told apart to the last character, with any text in them."""
    store = await stage.open()
    names = ["n", "n\0", "n\0x", "n\0y", "\0", "n'", 'n"', "n\n", "n%", "n ", "N", "n\u0301", "\u00f1", "\U0001f600"]
    group = [numbered(1, publisher=name) for name in names]
    group += [Write("b", b"\x01", key=name, digest=ONE) for name in names]
    first = [verdict for verdict in (await store.publish(group)).verdicts if isinstance(verdict, Applied)]
    equal(len({verdict.version for verdict in first}), len(group), "each of them is another")
    again = (await (await stage.open()).publish(group)).verdicts
    equal(list(again), [Applied(verdict.version, repeated=True) for verdict in first], "each is known again")
    equal((await store.info()).publishers, len(names), "each publisher is counted once")


async def deletion_of_nothing_is_remembered_by_its_number(stage: Stage) -> None:
    """Check that a late copy of a deletion that found nothing deletes nothing."""
    store = await stage.open()
    deletion = Write("a", None, digest=ONE, number=Number("p", 1, 0))
    equal(list((await store.publish([deletion])).verdicts), [Applied(0, changed=False)], "there is nothing to delete")
    await put(store, "a")
    done = await store.publish([deletion])
    equal(list(done.verdicts), [Applied(0, repeated=True, changed=False)], "the first verdict is repeated")
    equal((await store.info()).topics, 1, "what was published since is there")


async def publishers_are_limited(stage: Stage) -> None:
    """Check that unknown publishers, and only they, are refused at the limit, until compaction forgets silent ones."""
    store = await stage.open()
    store.publishers_max = 2
    done = await store.publish([numbered(1, publisher=name) for name in "pqr"])
    equal([type(verdict) for verdict in done.verdicts], [Applied, Applied, Overloaded], "the third is one too many")
    await refused(store, Overloaded, numbered(1, publisher="s"), "the limit holds in the next group too")
    done = await store.publish([numbered(2, settled=1, publisher="p"), Write("b", b"\x01", key="k")])
    equal([type(verdict) for verdict in done.verdicts], [Applied, Applied], "known publishers and keys go on")
    await store.compact(tombstones=0, keys=done.before)
    equal((await store.info()).publishers, 1, "the silent one is forgotten, the one touched since is not")
    done = await store.publish([numbered(1, publisher="r"), numbered(2, settled=1, publisher="p")])
    equal([type(verdict) for verdict in done.verdicts], [Applied, Applied], "there is room again")


async def publishers_are_copied(stage: Stage) -> None:
    """Check that a dump has every publisher, once each at its newest, and that the copy knows them."""
    store = await stage.open()
    for seq in range(1, 4):
        await store.publish([numbered(seq, max(0, seq - 2), publisher=name, topic=name) for name in "abcdefg"])
    head = (await store.head()).revision
    found: dict[str, Publisher] = {}
    copied = [page async for page in pages(store, limit=FEW)]
    for page in copied:
        found.update({publisher.publisher: publisher for publisher in page.publishers})
    wanted = {
        name: Publisher(
            name,
            1,
            head - 6 + index,
            {2: Use(ONE, head - 13 + index, changed=True), 3: Use(ONE, head - 6 + index, changed=True)},
        )
        for index, name in enumerate("abcdefg")
    }
    equal(found, wanted, "every publisher, without what is settled")

    async def replay() -> AsyncIterator[Dump]:
        for page in copied:
            yield page

    await store.adopt(replay(), replace=True)
    done = await store.publish([numbered(2, publisher="c", topic="c"), numbered(1, publisher="c", topic="c")])
    equal(done.verdicts[0], Applied(head - 11, repeated=True), "the copy repeats the first success")
    equal(type(done.verdicts[1]), KeyReused, "the copy knows what was settled")


CHECKS = (
    number_returns_the_first_success,
    settled_number_never_comes_back,
    names_of_clients_may_hold_any_text,
    deletion_of_nothing_is_remembered_by_its_number,
    publishers_are_limited,
    publishers_are_copied,
)
