"""``softstate token``: make keys and tokens, look at them, and try what a policy file says. Needs no node."""

from __future__ import annotations

from cyclopts import App

COMMANDS = ("key", "make", "show", "test", "static")
"""Every command. `softstate.cli.commands.token.NAME` holds what runs it, called `command`; ``test`` is in `test_`."""

command = App(
    name="token",
    help="""\
Make keys and tokens, look at them, and try what a policy file says.

`key` makes a key to sign tokens with; `make` signs one; `show` takes one apart, and says which check of a node refuses
it; `test` says whether a policy file lets somebody read or write, and which rule decides; `static` makes a token that
needs no key: a secret, of which the policy file holds a digest.

The policy file is that of `softstate serve --auth`. Keys and tokens need the extra `auth`.
""",
)
for order, name in enumerate(COMMANDS):
    module = "test_" if name == "test" else name
    command.command(f"softstate.cli.commands.token.{module}:command", name=name, sort_key=order)
