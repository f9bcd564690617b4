"""``softstate store create``: make an empty store."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.store.opening import reading, writing
from softstate.cli.options.store_urls import plain
from softstate.errors import ConfigError, StoreMissing


async def command(store: Annotated[str, Parameter(name="URL")], /) -> int:
    """Make an empty store where there is none.

    A node makes its store by itself when it starts, unless it runs with `softstate serve --require-store`: then it
    never takes a file system that is not mounted, or a server whose data is gone, for an empty store. If the file of a
    node that runs is gone, this ends its history: every client is reset to the empty store.

    :param store: The store to make, as for `softstate serve --store`.
    """
    try:
        async with reading(store) as opened:
            head = await opened.head()
            raise ConfigError(
                f"{plain(opened.name)} is there already, at revision {head.revision}: it was left as it is"
            )
    except StoreMissing:
        pass
    async with writing(store, create=True) as made:
        print(f"{plain(made.name)} is an empty store")
    return exit_codes.OK
