"""``softstate store restore``: put a backup in place of all that a store holds."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.store.loss import Loss, loss_of, loss_of_nothing
from softstate.cli.commands.store.moved import SkipUnreadable, moved
from softstate.cli.commands.store.opening import DEFAULT_STORE, StoreUrl, reading, writing
from softstate.cli.exit_codes import Failure
from softstate.cli.options.store_urls import plain, same_store, shown
from softstate.cli.processes.interrupt import interruptible
from softstate.cli.terminal.streams import input_pieces
from softstate.cli.visible import visible
from softstate.errors import ConfigError, StoreMissing
from softstate.store import Store


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
    return await interruptible(partial(_restore, file, store, yes=yes, skip_unreadable=skip_unreadable))


async def _restore(file: Path, store: str, *, yes: bool, skip_unreadable: bool) -> int:
    async with reading(f"sqlite:{file}") as backup:
        loss = await _loss(store, backup, skip_unreadable=skip_unreadable)
        for line in loss.lines():
            print(visible(line), flush=True)
        if loss.published:
            await _confirm(yes=yes)
        async with (
            writing(store, create=True) as opened,
            moved(f"restoring {opened.name}", backup, skip_unreadable=skip_unreadable) as dump,
        ):
            position = await opened.adopt(dump, replace=True)
        print(f"{plain(opened.name)} is restored, and stands at revision {position.revision}")
    return exit_codes.OK


async def _loss(store: str, backup: Store, *, skip_unreadable: bool) -> Loss:
    """Work out what is lost, and leave the store as it is: opening it for writing would commit a lineage row."""
    try:
        async with reading(store) as opened:
            return await loss_of(opened, backup, skip_unreadable=skip_unreadable)
    except StoreMissing:
        return await loss_of_nothing(shown(store), backup)


async def _confirm(*, yes: bool) -> None:
    """Return if the user confirms. Raises `Failure` if not, or if stdin is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure("nothing was changed: add --yes to restore the backup", exit_codes.USAGE)
    print("Type 'restore' to go on: ", end="", flush=True)
    answer = await trio.to_thread.run_sync(next, input_pieces(), b"", abandon_on_cancel=True)
    if answer.strip() != b"restore":
        raise Failure("nothing was changed", exit_codes.INTERRUPTED)
