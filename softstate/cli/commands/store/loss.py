"""The effect of putting a backup in place of a store: which topics lose what was published to them.

Two stores of one epoch have the same history up to some revision, and the lineage rows tell up to which: see
`agreed_history`. Compaction forgets old rows, so that a store that was compacted after the backup was made may know
none that the backup knows. The records then tell most of it: what both hold at the same version is not lost, and a
revision that is of another commit in each is above all that they share. The rest is told as unknown.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeAlias

from softstate.cli.options.store_urls import plain
from softstate.model import Record
from softstate.position import Position
from softstate.store import Store

NAMES_SHOWN = 5
"""Number of topics with lost publishes that are named."""

_Commit: TypeAlias = Record | Position
"""A commit that a store still holds: the newest record of a topic, or a lineage row."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """How far two stores have the same history: up to `least` for certain, beyond `most` certainly not.

    They differ where rows that would tell have been compacted. Both are 0 for stores of different epochs, which have
    nothing in common.
    """

    least: int
    most: int
    same_epoch: bool = True


@dataclass(frozen=True, slots=True)
class Loss:
    """The effect of restoring a backup."""

    store: str
    revision: int
    topics: int
    backup_revision: int
    backup_topics: int
    agreed: Agreed
    changed: Sequence[str]
    """Topics that lose what was published to the store: changed or deleted above the history that both have."""
    doubtful: Sequence[str]
    """Topics that store and backup hold differently, where it has been forgotten which of the two is newer."""
    unreadable: Sequence[str]
    """Topics of the store that are left out, since their records in the backup are damaged."""
    published: bool
    """Whether anything was published to the store since it was created."""

    def lines(self) -> list[str]:
        """Return it as lines for people."""
        if not self.published:
            return [f"{self.store} is empty; the backup has {_topics(self.backup_topics)}."]
        return [
            f"{self.store} stands at revision {self.revision} with {_topics(self.topics)}.",
            f"The backup stands at revision {self.backup_revision} with {_topics(self.backup_topics)}.",
            *self._lost(),
            "Every client that has seen more than the backup holds is reset.",
        ]

    def _lost(self) -> list[str]:
        lost = []
        if self.changed:
            since = f"after revision {self.agreed.most}" if self.agreed.most else "since the store was created"
            if not self.agreed.same_epoch:
                since += " (the backup is of another store)"
            lost.append(f"LOST: what was published {since}: {_named(self.changed)}")
        if self.doubtful:
            lost.append(
                f"PERHAPS LOST: {_named(self.doubtful)}. The backup differs from the store there, and which of them is"
                " newer was forgotten in a compaction: make a backup of the store first, to have both"
            )
        if self.unreadable:
            lost.append(f"LOST, since the backup cannot be read there: {_named(self.unreadable)}")
        return lost or ["Nothing that the store holds is lost."]


def _named(topics: Sequence[str]) -> str:
    return f"{_topics(len(topics))}: {', '.join(topics[:NAMES_SHOWN])}{', …' if len(topics) > NAMES_SHOWN else ''}"


def _topics(count: int) -> str:
    return f"{count} topic{'' if count == 1 else 's'}"


async def loss_of(store: Store, backup: Store, *, skip_unreadable: bool = False) -> Loss:
    """Work out the effect of restoring a backup, perhaps without the records that cannot be read in it.

    Reads both stores whole if the lineage rows do not tell it all, or for `skip_unreadable`.
    """
    agreed = await agreed_history(store, backup)
    changed = {record.topic async for record in _records(store, agreed.most)}
    doubtful: set[str] = set()
    page = await store.dump((await store.head()).revision)
    # A deletion above the common history that the store has forgotten shows only in the topic that comes back.
    if agreed.same_epoch and (agreed.least < agreed.most or page.floor > agreed.least):
        comparison = _Comparison(agreed, forgetful=page.floor > agreed.least)
        await comparison.run(store, backup)
        agreed = comparison.agreed
        changed, doubtful = comparison.changed, comparison.doubtful
    info, held = await store.info(), await backup.info()
    return Loss(
        plain(store.name),
        page.position.revision,
        info.topics,
        (await backup.head()).revision,
        held.topics,
        agreed,
        sorted(changed),
        sorted(doubtful),
        sorted(await _lost_unreadable(store, backup)) if skip_unreadable else (),
        published=bool(changed or doubtful or info.topics or info.tombstones or page.floor),
    )


async def loss_of_nothing(name: str, backup: Store) -> Loss:
    """Return the effect of restoring a backup where there is no store yet."""
    revision, held = (await backup.head()).revision, await backup.info()
    return Loss(plain(name), 0, 0, revision, held.topics, Agreed(0, 0), (), (), (), published=False)


async def _lost_unreadable(store: Store, backup: Store) -> set[str]:
    """Return the topics that have a value in the store, and a damaged record in the backup."""
    damaged = {record.topic async for record in _records(backup, 0) if record.unreadable}
    if not damaged:
        return set()
    kept = {record.topic: record async for record in _records(store, 0) if record.topic in damaged}
    return {topic for topic, record in kept.items() if not (record.deleted or record.unreadable)}


async def agreed_history(store: Store, other: Store) -> Agreed:
    """Return how far two stores have the same history, as far as their lineage rows tell."""
    heads = await store.head(), await other.head()
    if heads[0].epoch != heads[1].epoch:
        return Agreed(0, 0, same_epoch=False)
    # A lineage row is made once. So two stores that have the same one in force somewhere agree up to there, and from
    # where they have different ones they differ. A store that has forgotten its row tells neither.
    least, most = 0, min(head.revision for head in heads)
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        (one,), (another,) = await store.lineage_at([middle]), await other.lineage_at([middle])
        if one is not None and another is not None and one != another:
            most = middle - 1
            continue
        low = middle
        if one is not None and one == another:
            least = middle
    return Agreed(least, most)


@dataclass(slots=True)
class _Comparison:
    """Compares the records of a store with those of a backup, in the order of their revisions.

    Keeps in memory only the names of what differs.
    """

    agreed: Agreed
    forgetful: bool
    """Whether the store has forgotten deletions above the history that both have for certain."""
    changed: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    _absent: dict[str, int] = field(default_factory=dict)
    """Topics alive in the backup that the store does not hold so, with their version there."""

    async def run(self, store: Store, backup: Store) -> None:
        """Fill `changed` and `doubtful`; lower `agreed.most` to what is found."""
        async with aclosing(_commits(store, 0)) as ours, aclosing(_commits(backup, 0)) as theirs:
            await self._compare(ours, theirs)
        if self.forgetful and self._absent:
            async for record in _records(store, 0):
                self._absent.pop(record.topic, None)
            for topic, version in self._absent.items():
                # Deleted in the store, which has forgotten it; or published in the backup's own history only.
                (self.changed if version <= self.agreed.least else self.doubtful).add(topic)
        self.doubtful -= self.changed

    async def _compare(self, ours: AsyncGenerator[_Commit, None], theirs: AsyncGenerator[_Commit, None]) -> None:
        one, other = await anext(ours, None), await anext(theirs, None)
        while one is not None or other is not None:
            at = _revision_of(one)
            if isinstance(one, Record) and one.unreadable:
                # It may have been anything, at any revision: no evidence of another history.
                self._tell(one)
                one = await anext(ours, None)
            elif isinstance(other, Record) and other.unreadable:
                other = await anext(theirs, None)
            elif _revision_of(other) < at:
                self._note(other)
                other = await anext(theirs, None)
            elif _revision_of(other) > at:
                self._tell(one)
                one = await anext(ours, None)
            else:
                if one != other:
                    self._part(at)
                    self._tell(one)
                    self._note(other)
                one, other = await anext(ours, None), await anext(theirs, None)

    def _part(self, at: float) -> None:
        """Note that one revision is of two different commits: the histories have parted before it."""
        if self.agreed.least < at <= self.agreed.most:
            self.agreed = Agreed(self.agreed.least, int(at) - 1)

    def _note(self, commit: _Commit | None) -> None:
        """Note a commit that the backup has and the store has not, or not any more."""
        if isinstance(commit, Record) and not commit.deleted:
            self._absent[commit.topic] = commit.version

    def _tell(self, commit: _Commit | None) -> None:
        """Judge a commit of the store that is not in the backup."""
        if isinstance(commit, Record) and commit.version > self.agreed.least:
            (self.changed if commit.version > self.agreed.most else self.doubtful).add(commit.topic)


def _revision_of(commit: _Commit | None) -> float:
    """Return the revision of a commit, that of the end of all commits for None."""
    if commit is None:
        return math.inf
    return commit.version if isinstance(commit, Record) else commit.revision


async def _records(store: Store, after: int) -> AsyncGenerator[Record, None]:
    """Yield the records of a store above a revision, one that changes meanwhile perhaps twice."""
    async with aclosing(_commits(store, after)) as commits:
        async for commit in commits:
            if isinstance(commit, Record):
                yield commit


async def _commits(store: Store, after: int) -> AsyncGenerator[_Commit, None]:
    """Yield records and lineage rows of a store above a revision, in the order of their revisions."""
    more = True
    while more:
        page = await store.dump(after)
        commits: list[_Commit] = [*page.rows, *page.records]
        commits.sort(key=_revision_of)
        for commit in commits:
            yield commit
        after, more = page.upto, page.more
