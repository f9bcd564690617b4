"""The effect of a restore, told before it: never more lost than is known, and never less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from random import Random

import pytest

from softstate.cli import exit_codes, run
from softstate.cli.commands.store.loss import Agreed, agreed_history, loss_of
from softstate.model import Record
from softstate.store import Store
from softstate.store.base import Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import put
from tests.kit.store_files import damage, fill, within


async def copy_of(store: Store, *, disk: MemoryDisk | None = None) -> MemoryStore:
    """Copy a store, as a backup does, to a new disk or in place of one that is there."""
    copy = MemoryStore(disk)
    await copy.adopt(pages(store), replace=True)
    return copy


async def compacted(store: Store) -> None:
    await store.compact(tombstones=(await store.head()).revision, keys=0)


async def test_a_backup_of_another_store_loses_everything() -> None:
    store, other = MemoryStore(), MemoryStore()
    await fill(store)
    await put(other, "x")
    loss = await loss_of(store, other)
    assert (loss.agreed, list(loss.changed), loss.published) == (Agreed(0, 0, same_epoch=False), ["a", "b", "c"], True)
    assert "created (the backup is of another store): 3 topics: a, b, c" in loss.lines()[2]


async def test_common_history_ends_where_a_copy_was_made() -> None:
    store, copy = MemoryStore(), MemoryStore()
    await fill(store)
    common = (await store.head()).revision
    await copy.adopt(pages(store), replace=False)
    assert await agreed_history(store, copy) == Agreed(common, common)
    for number in range(5):
        await put(store, f"one/{number}")
        await put(copy, f"other/{number}")
    await copy.reopen()
    assert await agreed_history(store, copy) == await agreed_history(copy, store) == Agreed(common, common)
    head = (await store.head()).revision
    assert await agreed_history(store, store) == Agreed(head, head)
    assert list((await loss_of(store, copy)).changed) == [f"one/{number}" for number in range(5)]


async def restarted_store() -> MemoryStore:
    """Return a store with forty topics, the tombstone of one more, and two lineage rows that a compaction forgets."""
    store = MemoryStore()
    for number in range(40):
        await put(store, f"t/{number}")
    await store.reopen()
    await put(store, "gone")
    await store.reopen()
    await put(store, "gone", None)
    return store


async def test_a_store_that_was_compacted_after_the_backup_loses_what_came_after_it() -> None:
    store = await restarted_store()
    common = (await store.head()).revision
    backup = await copy_of(store)
    await compacted(store)
    await put(store, "after")
    assert (await store.lineage_at([10]), await backup.lineage_at([10])) != ([None], [None])
    loss = await loss_of(store, backup)
    assert (loss.agreed, loss.changed, loss.doubtful) == (Agreed(common, common), ["after"], [])
    assert loss.lines()[2] == f"LOST: what was published after revision {common}: 1 topic: after"


async def test_a_backup_that_was_compacted_loses_what_came_after_it() -> None:
    store = await restarted_store()
    common = (await store.head()).revision
    backup = await copy_of(store)
    await compacted(backup)
    await put(store, "after")
    loss = await loss_of(store, backup)
    assert (loss.agreed, loss.changed, loss.doubtful) == (Agreed(common, common), ["after"], [])


async def test_a_store_that_has_forgotten_all_that_the_backup_knows_is_compared_by_its_records() -> None:
    store = await restarted_store()
    common = (await store.head()).revision
    backup = await copy_of(store)
    await put(store, "next")
    await put(store, "t/3", None)
    await store.reopen()
    await put(store, "later")
    await put(store, "later", None)
    await compacted(store)
    assert await agreed_history(store, backup) == Agreed(0, common + 1), "its rows say nothing of the backup's history"
    loss = await loss_of(store, backup)
    # Each used the revision above the common history, the one for a publish, the other for its lineage row.
    assert loss.agreed.most == common
    assert (loss.changed, loss.doubtful) == (["next"], ["t/3"])
    assert loss.lines()[2:4] == [
        f"LOST: what was published after revision {common}: 1 topic: next",
        (
            "PERHAPS LOST: 1 topic: t/3. The backup differs from the store there, and which of them is newer was"
            " forgotten in a compaction: make a backup of the store first, to have both"
        ),
    ]


async def test_a_deletion_that_was_forgotten_is_lost() -> None:
    """The topic comes back, though no record of the store above the common history tells of it."""
    store = MemoryStore()
    await fill(store)
    backup = await copy_of(store)
    await put(store, "a", None)
    await compacted(store)
    loss = await loss_of(store, backup)
    assert (loss.changed, loss.doubtful) == (["a"], [])


async def test_a_deletion_that_was_forgotten_may_be_lost_to_a_fork() -> None:
    """The backup has gone on by itself: it may hold a topic that the store never had."""
    store = MemoryStore()
    await fill(store)
    backup = await copy_of(store)
    await put(backup, "a", b"\x02")
    await put(backup, "new")
    await put(store, "x")
    loss = await loss_of(store, backup)
    assert (loss.changed, loss.doubtful) == (["x"], []), "nothing was forgotten"
    await put(store, "a", None)
    await compacted(store)
    loss = await loss_of(store, backup)
    assert (loss.changed, loss.doubtful) == (["x"], ["a", "new"])


async def test_two_forks_of_one_backup_lose_what_was_published_since_it() -> None:
    """The store went back to an early backup; a later one of its lost history is put in its place then."""
    disk = MemoryDisk()
    store = MemoryStore(disk)
    await fill(store)
    common = (await store.head()).revision
    early = await copy_of(store)
    await put(store, "lost")
    late = await copy_of(store)
    store = await copy_of(early, disk=disk)
    await put(store, "kept")
    loss = await loss_of(store, late)
    assert (loss.agreed, loss.changed, loss.doubtful) == (Agreed(common, common), ["kept"], [])
    loss = await loss_of(store, early)
    assert (loss.agreed, loss.changed) == (Agreed(common + 1, common + 1), ["kept"])
    loss = await loss_of(await copy_of(store), store)
    assert (loss.changed, loss.doubtful) == ([], [])
    assert "Nothing that the store holds is lost." in loss.lines()


async def test_an_empty_store_loses_nothing() -> None:
    backup = MemoryStore()
    await fill(backup)
    loss = await loss_of(MemoryStore(), backup)
    assert not loss.published
    assert loss.lines() == ["memory: is empty; the backup has 2 topics."]


def test_what_a_damaged_backup_leaves_out_is_told_first(
    folder: Path, output: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    within("sqlite:softstate.db", fill)
    output("backup", "b.db")
    damage(folder / "b.db", "UPDATE record SET value = x'05' WHERE topic = 'a'")
    assert run(["store", "restore", "b.db", "--skip-unreadable"]) == exit_codes.USAGE
    assert "LOST, since the backup cannot be read there: 1 topic: a" in capsys.readouterr().out.splitlines()


@dataclass
class Told:
    """A store, and all that was ever published to its history: what it has itself may have been forgotten."""

    store: MemoryStore
    commits: list[tuple[int, str, bytes | None] | tuple[int, str]] = field(default_factory=list)

    async def note_row(self) -> None:
        head = await self.store.head()
        self.commits.append((head.revision, head.lineage))

    async def publish(self, topic: str, cbor: bytes | None) -> None:
        committed = await self.store.publish([Write(topic, cbor)])
        self.commits += [(record.version, record.topic, record.cbor) for record in committed.records]

    async def copy(self) -> Told:
        copy = Told(await copy_of(self.store), self.commits.copy())
        await copy.note_row()
        return copy


async def changed_at_random(random: Random, told: Told) -> None:
    for _ in range(random.randrange(8)):
        match random.randrange(6):
            case 0:
                await told.store.reopen()
                await told.note_row()
            case 1:
                await told.store.compact(tombstones=random.randint(0, (await told.store.head()).revision), keys=0)
            case _:
                await told.publish(random.choice("abcd"), random.choice([None, b"\x01", b"\x02"]))


async def records_of(store: Store) -> dict[str, Record]:
    return {record.topic: record async for page in pages(store) for record in page.records}


@pytest.mark.parametrize("seed", range(200))
async def test_no_more_and_no_less_is_told_than_is_lost(seed: int) -> None:
    """Copies of copies that go on, restart and are compacted, against the whole history of each."""
    random = Random(seed)
    first = Told(MemoryStore(MemoryDisk(random)))
    await first.note_row()
    family = [first]
    for _ in range(random.randint(2, 5)):
        told = random.choice(family)
        await changed_at_random(random, told)
        family.append(await told.copy())
        await changed_at_random(random, random.choice(family))
    store, backup = random.sample(family, 2)
    loss = await loss_of(store.store, backup.store)
    pairs = zip(store.commits, backup.commits, strict=False)
    shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    common = shared[-1][0]
    assert loss.agreed.least <= common <= loss.agreed.most
    touched = {commit[1] for commit in store.commits[len(shared) :] if len(commit) == 3}
    assert set(loss.changed) <= touched, "more is told than is lost"
    held, kept = await records_of(store.store), await records_of(backup.store)
    nowhere = {topic for topic in touched if topic not in held and (topic not in kept or kept[topic].deleted)}
    same = {topic for topic in touched if topic in held and held[topic] == kept.get(topic)}
    untold = touched - set(loss.changed) - set(loss.doubtful)
    if loss.agreed.least == common == loss.agreed.most:
        assert held.keys().isdisjoint(loss.doubtful), "what is known is not told as unknown"
    # A topic that both have forgotten, or that the backup holds just so, has lost nothing.
    assert untold <= nowhere | same, "less is told than is lost"
