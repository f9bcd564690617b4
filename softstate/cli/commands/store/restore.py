"""``softstate store restore``: put a backup in place of all that a store holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.store.moved import SkipUnreadable, moved
from softstate.cli.commands.store.opening import DEFAULT_STORE, StoreUrl, reading, writing
from softstate.cli.exit_codes import Failure
from softstate.cli.options.store_urls import plain, same_store
from softstate.cli.visible import visible
from softstate.errors import ConfigError
from softstate.store import Store

NAMES_SHOWN = 5
"""Number of topics with lost publishes that are named."""


async def command(
    file: Path,
    /,
    *,
    yes: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    skip_unreadable: SkipUnreadable = False,
    store: StoreUrl = DEFAULT_STORE,
) -> int:
    """Put a backup in place of all that a store holds. What was published since is lost.

    Nodes may go on running: each notices at once, and resets the clients that have seen more than the backup holds, so
    no client keeps values that are no longer in the store. Until the backup is in place publishing may fail as
    unavailable.

    :param file: What `softstate store backup` wrote, or any SQLite store.
    :param yes: Do it without asking.
    """
    if same_store(f"sqlite:{file}", store):
        raise ConfigError(f"{file} is the store itself: name the backup to restore, and the store with --store")
    async with reading(f"sqlite:{file}") as backup, writing(store, create=True) as opened:
        loss = await loss_of(opened, backup)
        for line in loss.lines():
            print(visible(line), flush=True)
        if loss.published:
            await _confirm(yes=yes)
        async with moved(f"restoring {opened.name}", backup, skip_unreadable=skip_unreadable) as dump:
            position = await opened.adopt(dump, replace=True)
        print(f"{plain(opened.name)} is restored, and stands at revision {position.revision}")
    return exit_codes.OK


@dataclass(frozen=True, slots=True)
class Loss:
    """The effect of restoring a backup: up to revision `common` backup and store have the same history."""

    store: str
    revision: int
    topics: int
    backup_revision: int
    backup_topics: int
    common: int
    changed: Sequence[str]
    """Topics of the store that have changed, or were deleted, above `common`."""
    published: bool
    """Whether anything was published to the store since it was created."""

    def lines(self) -> list[str]:
        """Return it as lines for people."""
        if not self.published:
            return [f"{self.store} is empty; the backup has {_topics(self.backup_topics)}."]
        named = ", ".join(self.changed[:NAMES_SHOWN]) + (", …" if len(self.changed) > NAMES_SHOWN else "")
        since = (
            f"after revision {self.common}"
            if self.common
            else "since the store was created (the backup is of another store)"
        )
        lost = f"LOST: what was published {since}: {_topics(len(self.changed))}: {named}"
        return [
            f"{self.store} stands at revision {self.revision} with {_topics(self.topics)}.",
            f"The backup stands at revision {self.backup_revision} with {_topics(self.backup_topics)}.",
            lost if self.changed else "Nothing that was published is lost.",
            "Every client that has seen more than the backup holds is reset.",
        ]


def _topics(count: int) -> str:
    return f"{count} topic{'' if count == 1 else 's'}"


async def loss_of(store: Store, backup: Store) -> Loss:
    """Work out the effect of restoring a backup."""
    common = await common_revision(store, backup)
    changed: list[str] = []
    after, more = common, True
    while more:
        page = await store.dump(after)
        changed += [record.topic for record in page.records]
        after, more = page.upto, page.more
    info, held = await store.info(), await backup.info()
    return Loss(
        plain(store.name),
        page.position.revision,
        info.topics,
        (await backup.head()).revision,
        held.topics,
        common,
        sorted(set(changed)),
        published=bool(changed or info.topics or info.tombstones or page.floor),
    )


async def common_revision(store: Store, other: Store) -> int:
    """Return the highest revision up to which two stores have the same history; 0 if they have nothing in common."""
    heads = await store.head(), await other.head()
    if heads[0].epoch != heads[1].epoch:
        return 0
    # A lineage row is made once. So two stores that have the same one in force somewhere agree up to there.
    low, high = 0, min(head.revision for head in heads)
    while low < high:
        middle = (low + high + 1) // 2
        if await store.lineage_at([middle]) == await other.lineage_at([middle]):
            low = middle
        else:
            high = middle - 1
    return low


async def _confirm(*, yes: bool) -> None:
    """Return if the user confirms. Raises `Failure` if not, or if stdin is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure("nothing was changed: add --yes to restore the backup", exit_codes.USAGE)
    print("Type 'restore' to go on: ", end="", flush=True)
    answer = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if answer.strip() != "restore":
        raise Failure("nothing was changed", exit_codes.INTERRUPTED)
