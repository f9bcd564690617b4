"""Checks of `Store.publish`: revisions, verdicts, idempotency keys."""

from __future__ import annotations

import trio

from softstate.errors import Conflict, KeyReused, Overloaded
from softstate.model import Record
from softstate.store.base import EXISTS, Applied, Store, Write
from softstate.testing.conformance.stage import Stage, equal, expect, must, names, off_history, put, refused, state

RACERS: int = 4
"""Tasks for each store in the race of `compare_and_set_has_one_winner`."""

LAPS: int = 4
"""Increments that each task makes."""


async def revisions_follow_commits(stage: Stage) -> None:
    """Check that a group takes the next revisions, in order, and moves the head to the last."""
    store = await stage.open()
    opened = await store.head()
    equal(opened.revision, 1, "opening an empty backend commits a lineage row at revision 1")
    done = await store.publish([Write("a", b"\x01"), Write("b", b"\x02"), Write("a", None)])
    equal(done.before, 1, "`before` is the head before the group")
    equal(list(done.verdicts), [Applied(2), Applied(3), Applied(4)], "each publish has its own verdict and revision")
    wanted = [Record("a", 2, b"\x01"), Record("b", 3, b"\x02"), Record("a", 4, None)]
    equal(list(done.records), wanted, "the records are the applied changes, superseded ones too, in revision order")
    equal(done.position, opened.at(4), "the position is that of the last revision")
    equal(await store.head(), done.position, "the head is the last revision")
    equal(await state(store), {"b": Record("b", 3, b"\x02")}, "only the newest record of each topic is there")


async def nothing_applied_takes_no_revision(stage: Stage) -> None:
    """Check that an empty group, and one in which nothing wins, leave the head as it is."""
    store = await stage.open()
    head = await store.head()
    for group in ([], [Write("a", b"\x01", expect=9)]):
        done = await store.publish(group)
        equal(len(done.verdicts), len(group), "there is a verdict for each publish")
        equal((done.before, list(done.records), done.position), (head.revision, [], head), "nothing was applied")
    equal(await store.head(), head, "the head did not move")


async def compare_and_set_compares(stage: Stage) -> None:
    """Check that `expect` is 0 for an absent topic, else the exact version, also of a tombstone."""
    store = await stage.open()
    lost = await refused(store, Conflict, Write("a", b"\x01", expect=7), "expecting a version of nothing")
    equal(lost.current, 0, "`current` is 0 where there is no record")
    first = await put(store, "a", expect=0)
    lost = await refused(store, Conflict, Write("a", b"\x01", expect=0), "expecting nothing where there is a value")
    equal(lost.current, first, "`current` is the version that won")
    second = await put(store, "a", expect=first)
    lost = await refused(store, Conflict, Write("a", None, expect=first), "expecting a version that was replaced")
    equal(lost.current, second, "`current` is the version that won")
    deleted = await put(store, "a", None, expect=second)
    lost = await refused(store, Conflict, Write("a", b"\x01", expect=second), "expecting a version that was deleted")
    equal(lost.current, deleted, "`current` is the tombstone's version")
    third = await put(store, "a", expect=0)
    await put(store, "a", None, expect=third)
    await put(store, "a", expect=third + 1)


async def group_sees_itself(stage: Stage) -> None:
    """Check that an earlier change of a group is visible to the compare-and-set of a later one."""
    store = await stage.open()
    before = (await store.head()).revision
    done = await store.publish(
        [
            Write("a", b"\x01", expect=0),
            Write("a", b"\x02", expect=0),
            Write("a", b"\x03", expect=before + 1),
            Write("b", b"\x04"),
        ]
    )
    lost = expect(Conflict, done.verdicts[1], "two publishes of a group that both expect nothing: one wins")
    equal(lost.current, before + 1, "the loser gets the version that the same group made")
    equal(
        [done.verdicts[0], done.verdicts[2], done.verdicts[3]],
        [Applied(before + 1), Applied(before + 2), Applied(before + 3)],
        "a loser takes no revision, and the next publish takes it",
    )


async def compare_and_set_has_one_winner(stage: Stage) -> None:
    """Check that tasks on two stores count together on one topic, and lose no increment."""
    stores = [await stage.open(), await stage.open()]

    async def count(store: Store) -> None:
        version, value = 0, 0
        for _ in range(LAPS):
            while True:
                (verdict,) = (await store.publish([Write("n", bytes([value + 1]), expect=version)])).verdicts
                if isinstance(verdict, Applied):
                    version, value = verdict.version, value + 1
                    break
                version = expect(Conflict, verdict, "a publish that lost").current or 0
                record = (await state(store))["n"]
                version, value = record.version, (record.cbor or b"\0")[0]

    async with trio.open_nursery() as nursery:
        for store in stores * RACERS:
            nursery.start_soon(count, store)
    counted = (await state(stores[0]))["n"]
    equal(counted.cbor, bytes([2 * RACERS * LAPS]), "every increment that was acknowledged is counted")


async def key_returns_the_first_success(stage: Stage) -> None:
    """Check that a repeated request gets the version of the first, also after later changes."""
    store = await stage.open()
    request = Write("a", b"\x01", expect=0, key="k", digest=b"d")
    version = await put(store, "a", b"\x01", expect=0, key="k", digest=b"d")
    await put(store, "a", b"\x02")
    for again in (store, await stage.open()):
        done = await again.publish([request])
        equal(list(done.verdicts), [Applied(version, repeated=True)], "the same request gets its first version")
        equal(list(done.records), [], "a repeated request applies nothing")
    await refused(store, KeyReused, Write("a", b"\x09", key="k", digest=b"other"), "a key used for another request")
    await put(store, "b", key="k", digest=b"other")
    done = await store.publish([Write("c", b"\x01", key="k", digest=b"d")] * 2)
    equal([getattr(verdict, "repeated", None) for verdict in done.verdicts], [False, True], "twice in one group")


async def key_is_kept_for_successes_only(stage: Stage) -> None:
    """Check that a request that lost may be changed and sent again with the same key."""
    store = await stage.open()
    await refused(store, Conflict, Write("a", b"\x01", expect=5, key="k", digest=b"5"), "expecting a wrong version")
    await put(store, "a", key="k", digest=b"0", expect=0)


async def keys_are_limited(stage: Stage) -> None:
    """Check that beyond `keys_max`, keyed publishes are refused until `compact` forgets keys; others succeed."""
    store = await stage.open(keys_max=2)
    equal(store.keys_max, 2, "the store has its limit as an attribute")
    first = await put(store, "a", key="1")
    await put(store, "a", key="2")
    full = await refused(store, Overloaded, Write("a", b"\x01", key="3"), "a key beyond the limit")
    must(full.retry_ms, "`Overloaded` has a `retry_ms`")
    await put(store, "a")
    (again,) = (await store.publish([Write("a", b"\x01", key="1")])).verdicts
    equal(again, Applied(first, repeated=True), "a key that is held is answered even when no more fit")
    equal((await store.info()).keys, 2, "`info` counts the keys")
    await store.compact(tombstones=0, keys=first)
    equal((await store.info()).keys, 1, "compacting forgets the keys made at or below the revision given")
    await put(store, "a", key="1")
    await refused(store, Overloaded, Write("a", b"\x01", key="3"), "a key beyond the limit")


async def witness_must_be_on_the_history(stage: Stage) -> None:
    """Check that a compare-and-set whose witness is of another history loses, even if the version is right."""
    store = await stage.open()
    version = await put(store, "a")
    head = await store.head()
    for witness in off_history(head):
        publish = Write("a", b"\x02", expect=version, witness=witness)
        lost = await refused(store, Conflict, publish, f"witness {witness} is not on the history")
        equal(lost.current, version, "`current` is the version that won")
    await put(store, "a", expect=version, witness=head)


async def commits_outlive_the_store(stage: Stage) -> None:
    """Check that acknowledged commits are there, under a new lineage, when the backend is opened again."""
    store = await stage.open()
    await put(store, "a/ä", b"\x41\x00")
    await put(store, "b")
    await put(store, "b", None)
    before = await store.head()
    kept = await state(store)
    await store.aclose()
    await store.aclose()
    again = await stage.open()
    after = await again.head()
    equal(await state(again), kept, "every record is there, to the byte")
    equal((after.epoch, after.revision), (before.epoch, before.revision + 1), "opening takes one revision")
    must(after.lineage != before.lineage, "opening begins a new lineage")
    equal(
        list(await again.lineage_at([0, 1, before.revision, after.revision, after.revision + 1])),
        [None, before.lineage, before.lineage, after.lineage, None],
        "each revision has the lineage it was made under",
    )
    info = await again.info()
    equal((info.topics, info.tombstones, info.keys), (1, 1, 0), "`info` counts topics, tombstones and keys")
    equal(names(kept.values()), [("a/ä", 2)], "versions are kept")


async def existence_is_a_condition(stage: Stage) -> None:
    """Check that `EXISTS` wins where there is a value, at any version, and nowhere else."""
    store = await stage.open()
    for topic, left in (("never", 0), ("deleted", (await store.head()).revision + 2)):
        if left:
            await put(store, topic)
            await put(store, topic, None)
        lost = await refused(store, Conflict, Write(topic, b"\x01", expect=EXISTS), f"expecting a value where {topic}")
        equal(lost.current, left, "`current` is that of the tombstone, 0 without one")
        await refused(store, Conflict, Write(topic, None, expect=EXISTS), f"deleting what must exist, where {topic}")
    done = await store.publish([Write("a", b"\x01"), *[Write("a", b"\x02", expect=EXISTS)] * 3])
    equal([isinstance(verdict, Applied) for verdict in done.verdicts], [True] * 4, "every one of a group wins")
    await put(store, "a", None, expect=EXISTS)


async def deleting_nothing_changes_nothing(stage: Stage) -> None:
    """Check that a deletion where there is no value takes no revision and leaves no tombstone."""
    store = await stage.open()
    head = await store.head()
    for expected in (None, 0):
        done = await store.publish([Write("never", None, expect=expected)])
        equal(list(done.verdicts), [Applied(0, changed=False)], "deleting what never existed has no version")
        equal((list(done.records), done.position), ([], head), "nothing was applied")
    await put(store, "a")
    tombstone = await put(store, "a", None)
    done = await store.publish([Write("a", None), Write("b", b"\x01"), Write("b", None), Write("b", None)])
    wanted = [
        Applied(tombstone, changed=False),
        Applied(tombstone + 1),
        Applied(tombstone + 2),
        Applied(tombstone + 2, changed=False),
    ]
    equal(list(done.verdicts), wanted, "a deletion has the version of the tombstone that is there")
    lost = await refused(store, Conflict, Write("a", None, expect=tombstone), "deleting a version that is a tombstone")
    equal(lost.current, tombstone, "`current` is the tombstone's version")
    info = await store.info()
    equal((info.topics, info.tombstones), (0, 2), "no tombstone is made of nothing")


CHECKS = (
    revisions_follow_commits,
    nothing_applied_takes_no_revision,
    compare_and_set_compares,
    existence_is_a_condition,
    deleting_nothing_changes_nothing,
    group_sees_itself,
    compare_and_set_has_one_winner,
    key_returns_the_first_success,
    key_is_kept_for_successes_only,
    keys_are_limited,
    witness_must_be_on_the_history,
    commits_outlive_the_store,
)
