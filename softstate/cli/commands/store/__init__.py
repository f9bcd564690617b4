"""``softstate store``: look at a store, create, check, compact, back up, restore and copy it. Needs no node."""

from __future__ import annotations

from cyclopts import App

COMMANDS = ("info", "create", "check", "compact", "backup", "restore", "copy", "migrate")
"""Every command. `softstate.cli.commands.store.NAME` holds what runs it, called `command`."""

command = App(
    name="store",
    help="""\
Look after a store, while nodes run on it or not.

`info` prints what it holds; `create` makes an empty one; `check` looks at every row, and tries whether its
engine does all that softstate needs; `compact` forgets which topics were deleted; `backup` writes all to a file,
`restore` puts that back; `copy` moves to another engine; `migrate` carries over a store of an earlier release.

A store is named as for `softstate serve --store`: sqlite:PATH, or redis://, postgresql:// or etcd:// with a host.
A store that is only read stays as it is; writing to one adds a lineage row to it, as every start of a node does, which
disturbs no client.
""",
)
for order, name in enumerate(COMMANDS):
    command.command(f"softstate.cli.commands.store.{name}:command", name=name, sort_key=order)
