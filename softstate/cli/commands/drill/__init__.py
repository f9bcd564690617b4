"""``softstate drill``: break something on purpose, with real processes, and measure what clients notice."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.drill.plan import Kind, Plan, Runtime, fresh_prefix
from softstate.cli.options.durations import duration
from softstate.cli.options.nodes import AsJson
from softstate.cli.processes.interrupt import interruptible
from softstate.cli.visible import visible

if TYPE_CHECKING:
    from softstate.cli.commands.drill.verdict import Figures

Command = Annotated[str, Parameter(metavar="CMD", show_default=False)]


async def command(
    *,
    kill: Kind = "server",
    clients: int = 100,
    client: Runtime = "trio",
    for_: Annotated[
        float, Parameter(name="--for", converter=duration, metavar="DURATION", show_default=lambda s: f"{s:g}s")
    ] = 15.0,
    json: AsJson = False,
    url: Annotated[tuple[str, ...], Parameter(negative=(), metavar="URL", show_default=False)] = (),
    token_file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    tls: Annotated[bool, Parameter(negative=())] = False,
    nginx: Annotated[bool, Parameter(negative=())] = False,
    prefix: Annotated[str | None, Parameter(metavar="PREFIX", show_default="drill/RUN/")] = None,
    kill_command: Command = "",
    start_command: Command = "",
) -> int:
    """Break something on purpose, and measure: how long until clients know new values, what was lost, how old ages got.

    By default it starts two nodes on a temporary SQLite file and leaves nothing behind. A third of the time is measured
    in health. Exit code 1 if a promise was broken.

    :param kill: server: kill -9 of the node that pushes; store: no process can read or write it; link: nothing passes
        between clients and that node, in silence, and then a reset; client: one quarter of them stopped, one killed;
        rolling: every node drained and started again, one after the other.
    :param clients: How many clients to run, in up to four processes.
    :param client: What the clients run under: trio, asyncio, or sync, which is softstate.sync, in threads.
    :param for_: How long to measure; after that it waits until all clients have settled.
    :param json: Print one JSON object.
    :param url: A node of your own installation; may be repeated. Nothing is started then.
    :param token_file: With --url: file of a token that all clients present; it must allow to read and write the prefix.
    :param tls: Without --url: have the nodes speak TLS, by a certificate that is made for them with openssl.
    :param nginx: With --kill rolling: put nginx before the throw-away nodes; clients know its URL alone.
    :param prefix: Where to publish; it must be empty, and is emptied afterwards.
    :param kill_command: With --url: shell command that makes the server or the store fail; for rolling, one that
        restarts all nodes, and returns when they are back.
    :param start_command: With --url: shell command that ends that; it is run in any case, also on Ctrl-C.
    """
    plan = Plan(kind=kill, clients=clients, for_s=for_, urls=url, prefix=fresh_prefix([prefix] if prefix else []),
                kill_command=kill_command, start_command=start_command, tls=tls, nginx=nginx,
                runtime=client, token_file=token_file).check()  # fmt: skip
    return await interruptible(partial(_drill, plan, json=json))


async def _drill(plan: Plan, *, json: bool) -> int:
    from softstate.cli.commands.drill.conductor import Drill  # noqa: PLC0415 - brings the client: --help does without

    with tempfile.TemporaryDirectory(prefix="softstate-drill-") as folder:
        drill = Drill(plan, Path(folder), _quiet if json else _say)
        try:
            figures = await drill.run()
        finally:
            if drill.left:
                _tell_left(drill.left)
    if json:
        print(figures.json())
    else:
        _print(figures)
    return exit_codes.BROKEN if figures.broken else exit_codes.OK


def _say(sentence: str) -> None:
    print(f"• {visible(sentence)}", file=sys.stderr, flush=True)


def _quiet(sentence: str) -> None:
    pass


def _tell_left(topics: Sequence[str]) -> None:
    names = ", ".join(map(visible, topics))
    print(f"softstate: these topics may be left behind, delete them by hand: {names}.", file=sys.stderr, flush=True)


def _print(figures: Figures) -> None:
    """Print the figures and the verdict, for people."""
    rows = figures.rows()
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {visible(text)}")
    for text in figures.broken:
        print(f"BROKEN: {visible(text)}")
    if not figures.broken:
        print("every promise was kept")
