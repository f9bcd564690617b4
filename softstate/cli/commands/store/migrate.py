"""``softstate store migrate``: carry a store of an earlier release over to the layout of this one."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.store.opening import writing
from softstate.cli.options.store_urls import plain


async def command(
    store: Annotated[str, Parameter(name="URL")],
    /,
    *,
    no_backup: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """Carry a store of an earlier release over to the layout of this one, as a node that starts on it does.

    Stop the nodes of the earlier release first: one that is forgotten can neither read nor write from then on. A record
    that cannot have been published (its value does not decode, say) is kept, and is unreadable: `softstate store check`
    names it. An SQLite file is copied before, to the same name with `.layout-1`.

    :param store: The store to carry over, as for `softstate serve --store`.
    :param no_backup: Make no copy of an SQLite file.
    """
    async with writing(store, backup=not no_backup) as opened:
        info = await opened.info()
        print(f"{plain(opened.name)} has layout {info.layout}, and holds {info.topics} topics")
        for caution in opened.cautions:
            print(plain(caution))
    return exit_codes.OK
