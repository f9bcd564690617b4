"""``softstate watch``: follow topics and prefixes, with the age of what you see."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, TypeAlias, assert_never

import trio
from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.exit_codes import Failure
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.durations import seconds_text
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Urls, connected
from softstate.cli.terminal.hints import HINT_S_MAX, hint, no_patterns, show_hint
from softstate.cli.terminal.output import LineWriter
from softstate.cli.terminal.streams import takes_colours
from softstate.cli.terminal.values import change_fields, json_text, line_text, unreadable_text
from softstate.cli.visible import visible
from softstate.client.api.client import Client, count_below
from softstate.client.api.updates import Updates
from softstate.client.machine.events import ModeChanged, NodeRefused, Reset, TopicsUnreadable
from softstate.errors import SoftstateError
from softstate.model import Change, Mode
from softstate.names import ALL, check_prefix, check_topic, is_prefix

TROUBLED: frozenset[Mode] = frozenset({"suspect", "polling", "offline", "stopped"})
"""Modes whose reason people are told."""

Shown: TypeAlias = Change | Reset | ModeChanged | NodeRefused | TopicsUnreadable


async def command(
    *names: str,
    json: AsJson = False,
    poll: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    count: Annotated[int | None, Parameter(metavar="N")] = None,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
) -> int:
    """Follow topics and prefixes: their values now, then every change, until Ctrl-C.

    You see the newest value of each topic, not every value in between.

    :param names: Topics (orders/42) and prefixes (orders/); '/' alone, or no name, is everything.
    :param json: One object a line: {"event":"change","topic","version","value" or "deleted","mode","age_ms"},
        {"event":"mode","mode","age_ms","because","url"}, {"event":"refused","url","message"},
        {"event":"unreadable","topics"} and {"event":"reset"}; age_ms is null while the age is unknown.
    :param poll: Never use WebSocket.
    :param count: Leave after this many changes.
    """
    wanted = names or (ALL,)
    for name in wanted:
        check_prefix(name) if name.endswith("/") else check_topic(name)
    if count is not None and count < 1:
        raise Failure(f"--count must be 1 or more, not {count}", exit_codes.USAGE)
    writer = LineWriter()
    write_of: Callable[[Shown, Mode, float], str] = json_line if json else _pretty()
    left = math.inf if count is None else count
    async with (
        connected(url, credentials, push=not poll) as client,
        client.subscribe(*wanted) as updates,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(writer.watch_reader)
        nursery.start_soon(_hint_at_nothing, client, updates, wanted)
        async for event in updates.events():
            if is_first_moment(event, updates.age):
                continue
            await writer.write(write_of(event, client.mode, updates.age))
            left -= isinstance(event, Change)
            if left <= 0:
                break
        nursery.cancel_scope.cancel()
    return exit_codes.OK


def is_first_moment(event: Shown, age_s: float) -> bool:
    """Tell whether an event says only that the first values were asked for, which they mostly come along with."""
    return isinstance(event, ModeChanged) and event.mode == "syncing" and math.isinf(age_s)


async def _hint_at_nothing(client: Client, updates: Updates, names: Sequence[str]) -> None:
    """Once all is there that there is, print a hint for each name that matches nothing but looks like a mistake."""
    with suppress(SoftstateError):
        await updates.synced()
        for name in names:
            if is_prefix(name):
                if no_patterns(name) is not None and not await count_below(client, name, 1, HINT_S_MAX):
                    show_hint(no_patterns(name))
            elif (change := await client.get(name, timeout_s=HINT_S_MAX)) is None or change.deleted:
                show_hint(await hint(client, name, "end the name in '/' for all below it"))


def json_line(event: Shown, mode: Mode, age_s: float) -> str:
    """Write one event as one line of JSON; `mode` and `age_s` are the client's as it is shown."""
    age_ms = None if math.isinf(age_s) else round(age_s * 1_000)
    if isinstance(event, Change):
        return line_text({"event": "change", **change_fields(event), "mode": mode, "age_ms": age_ms})
    if isinstance(event, ModeChanged):
        why = {"because": event.because, "url": event.url} if event.because else {}
        return line_text({"event": "mode", "mode": event.mode, "age_ms": age_ms, **why})
    if isinstance(event, NodeRefused):
        return line_text({"event": "refused", "url": event.url, "message": event.error.message})
    if isinstance(event, TopicsUnreadable):
        return line_text({"event": "unreadable", "topics": list(event.topics)})
    if isinstance(event, Reset):
        return line_text({"event": "reset"})
    assert_never(event)


def plain_line(event: Shown, mode: Mode, age_s: float) -> str:
    """Write one event for people."""
    if isinstance(event, Change):
        what = "deleted" if event.deleted else json_text(event.value)
        return f"{visible(event.topic)}  {what}  (version {event.version}, {mode}, age {seconds_text(age_s)})"
    if isinstance(event, ModeChanged):
        why = f": {event.because}" if event.because and event.mode in TROUBLED else ""
        return visible(f"-- {event.mode}, age {seconds_text(age_s)}{why}")
    if isinstance(event, NodeRefused):
        return visible(f"-- {event.url} refuses this client: {event.error.message}")
    if isinstance(event, TopicsUnreadable):
        return f"-- {unreadable_text(event.topics)}"
    if isinstance(event, Reset):
        return "-- reset: the store's history changed, what was shown so far may never have happened"
    assert_never(event)


def _pretty() -> Callable[[Shown, Mode, float], str]:
    """Return `plain_line`, with the time of day if stdout is a terminal, and in colours if it takes them."""
    if not sys.stdout.isatty():
        return plain_line
    if not takes_colours(sys.stdout):
        return lambda event, mode, age_s: f"{_time_of_day()} {plain_line(event, mode, age_s)}"
    styles: dict[type[Any], str] = {
        Change: "\x1b[0m",
        ModeChanged: "\x1b[2m",
        NodeRefused: "\x1b[1;31m",
        TopicsUnreadable: "\x1b[1;31m",
        Reset: "\x1b[1;31m",
    }

    def coloured(event: Shown, mode: Mode, age_s: float) -> str:
        return f"\x1b[2m{_time_of_day()}\x1b[0m {styles[type(event)]}{plain_line(event, mode, age_s)}\x1b[0m"

    return coloured


def _time_of_day() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
