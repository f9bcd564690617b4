"""``softstate store backup``: write all that a store holds to a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.store.moved import SkipUnreadable, moved
from softstate.cli.commands.store.opening import DEFAULT_STORE, StoreUrl, check_new_file, reading
from softstate.cli.options.store_urls import plain, same_store
from softstate.cli.processes.interrupt import interruptible
from softstate.errors import ConfigError


async def command(
    file: Path,
    /,
    *,
    force: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    skip_unreadable: SkipUnreadable = False,
    store: StoreUrl = DEFAULT_STORE,
) -> int:
    """Write all that a store holds to a file, consistent while writes go on.

    The file is an ordinary SQLite store, for every engine: `softstate store restore` puts it back, and a node can
    run on it. It appears under its name only when it is complete.

    :param file: The file to write.
    :param force: Overwrite the file.
    """
    if same_store(f"sqlite:{file}", store):
        raise ConfigError(f"{file} is the store itself: name another file")
    check_new_file(file, force=force)
    return await interruptible(partial(_back_up, file, store, skip_unreadable=skip_unreadable))


async def _back_up(file: Path, store: str, *, skip_unreadable: bool) -> int:
    from softstate.store.sqlite.backup import write_backup  # noqa: PLC0415 (--help does without)

    async with (
        reading(store) as opened,
        moved(f"backup of {opened.name}", opened, skip_unreadable=skip_unreadable) as dump,
    ):
        position = await write_backup(dump, str(file))
    print(f"{plain(str(file))} holds {plain(opened.name)} as of revision {position.revision - 1}")
    return exit_codes.OK
