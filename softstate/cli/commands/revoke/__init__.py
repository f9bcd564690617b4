"""``softstate revoke``: end credentials before their time, look at what is revoked, and take it back."""

from __future__ import annotations

from cyclopts import App

COMMANDS = ("sub", "token", "key", "list", "undo")
"""Every command. `softstate.cli.commands.revoke.NAME` holds what runs it, called `command`; ``list`` is in `list_`."""

command = App(
    name="revoke",
    help="""\
End credentials before their time, on all nodes of a store at once.

`sub` revokes all that a subject holds; `token` a single token, given whole or by its ID; `key` all that a key has
signed; `list` prints what is revoked; `undo` takes a revocation back. Where a node has rules, this takes a token of an
administrator (`admin = true`). With --print, `sub`, `token` and `key` need no node: they print what to write, for a
program that writes it into the store in a transaction of its own.

Exit code 5: nothing was revoked, so repeat the command. 6: it may be revoked or not; to repeat the command does no
harm. A revocation that is repeated keeps what reaches further.
""",
)
for order, name in enumerate(COMMANDS):
    module = "list_" if name == "list" else name
    command.command(f"softstate.cli.commands.revoke.{module}:command", name=name, sort_key=order)
