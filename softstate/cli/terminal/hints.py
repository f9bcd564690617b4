"""Hints at what a name was meant to be that matches nothing: a prefix without its '/', or a pattern.

A name that matches nothing is in order (its topic may come), so a hint goes to stderr and changes no exit code.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from softstate.cli.visible import visible
from softstate.errors import SoftstateError
from softstate.names import ALL, is_prefix

if TYPE_CHECKING:
    from softstate.client.api.client import Client

WILDCARDS = frozenset("*#>")
"""Characters that stand for any segment elsewhere (shells, MQTT, NATS), and for themselves here."""

COUNTED_MAX = 1_000
"""Topics below a prefix that are counted; more are "1,000 or more"."""

HINT_S_MAX = 2.0
"""Longest time that is spent on one hint."""


async def hint(client: Client, name: str, what_next: str) -> str | None:
    """Return a hint for a name that matched nothing, None if there is none. It raises no error of a node.

    `what_next` says how the command gets at topics below a prefix.
    """
    from softstate.client.api.client import count_below  # noqa: PLC0415 - a name that is there needs no hint

    with suppress(SoftstateError):
        if not is_prefix(name):
            count = await count_below(client, f"{name}/", COUNTED_MAX, HINT_S_MAX)
            if count:
                number = f"{count:,} or more" if count >= COUNTED_MAX else f"{count}"
                return f"no such topic, but {name}/ has {number}: {what_next}"
    return no_patterns(name)


def no_patterns(name: str) -> str | None:
    """Return a hint for a name that looks like a pattern, else None."""
    if not WILDCARDS & set(name):
        return None
    kept: list[str] = []
    for segment in name.split("/"):
        if WILDCARDS & set(segment):
            break
        kept.append(segment)
    prefix = "/".join(kept) + "/" if kept else ALL
    return f"names are no patterns: {prefix} stands for all topics {'below it' if kept else 'there are'}"


def show_hint(text: str | None) -> None:
    """Print a hint, if there is one."""
    if text is not None:
        print(f"softstate: hint: {visible(text)}", file=sys.stderr, flush=True)
