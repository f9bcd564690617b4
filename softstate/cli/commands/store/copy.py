"""``softstate store copy``: move to another store, perhaps of another engine."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.store.moved import SkipUnreadable, moved
from softstate.cli.commands.store.opening import reading, writing
from softstate.cli.options.store_urls import plain, same_store
from softstate.cli.processes.interrupt import interruptible
from softstate.errors import ConfigError


async def command(
    source: Annotated[str, Parameter(name="FROM")],
    target: Annotated[str, Parameter(name="TO")],
    /,
    *,
    replace: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    skip_unreadable: SkipUnreadable = False,
) -> int:
    """Copy all that a store holds to another one, perhaps of another engine, with versions kept.

    Clients of the old store are at home in the new one: point their nodes at it. What is published to the old one after
    the copy was made is not in the new one, so stop its nodes first; a client that has seen more is reset.

    :param source: The store to copy.
    :param target: The store to copy it to, made if it is not there.
    :param replace: Copy even if something was published to the other store, which is lost then.
    """
    if same_store(source, target):
        raise ConfigError("FROM and TO are the same store: name another to copy to")
    return await interruptible(partial(_copy, source, target, replace=replace, skip_unreadable=skip_unreadable))


async def _copy(source: str, target: str, *, replace: bool, skip_unreadable: bool) -> int:
    async with reading(source) as old, writing(target, create=True) as new:
        async with moved(f"copying {old.name}", old, skip_unreadable=skip_unreadable) as dump:
            position = await new.adopt(dump, replace=replace)
        info = await new.info()
        print(f"{plain(new.name)} holds {info.topics} topics, and stands at revision {position.revision}")
    return exit_codes.OK
