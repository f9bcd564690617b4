"""``softstate top``: how several nodes are, once a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import trio
from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.top.board import Board, together
from softstate.cli.options.asking import Answered, Asked, asking
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.durations import duration
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls
from softstate.cli.terminal.values import line_text
from softstate.errors import Denied, Unauthenticated

EVERY_S = 1.0
"""Time between two looks."""


async def command(
    *,
    once: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    every: Annotated[
        float, Parameter(converter=duration, metavar="DURATION", show_default=lambda s: f"{s:g}s")
    ] = EVERY_S,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 2.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Show how nodes are, once a second, until Ctrl-C: sessions, rates, how old what clients know is, memory, repairs.

    Name each node by a --url of its own. A node that does not answer is shown with the age of what is known of it. It
    takes the right admin where credentials are checked. Of several workers on one port, one answers for itself.

    :param once: Show one picture, after two looks, and leave; exit code 5 if no node has answered.
    :param every: The time between two looks.
    :param json: One object a look and line: {"nodes":[…],"together":{…}}.
    """
    urls = tuple(dict.fromkeys(url))
    board = Board(urls)
    async with asking(urls, credentials, timeout) as nodes:
        _check_allowed(await _look(nodes, board))
        if once:
            await trio.sleep(every)
            await _look(nodes, board)
            with _shown(json=json, live=False) as show:
                show(board)
            return exit_codes.OK if any(row.up for row in board.rows(trio.current_time())) else exit_codes.UNAVAILABLE
        with _shown(json=json, live=True) as show:
            while True:
                show(board)
                await trio.sleep(every)
                await _look(nodes, board)


async def _look(nodes: Asked, board: Board) -> Sequence[Answered]:
    answers = await nodes.ask("/v1/status")
    now = trio.current_time()
    for asked, each in zip(nodes.urls, answers, strict=True):
        board.take(now, asked, each.told, str(each.error or ""))
    return answers


def _check_allowed(answers: Sequence[Answered]) -> None:
    """Raise what nodes refuse, if all of them do: they are not down, and will go on refusing."""
    refused = [each.error for each in answers if isinstance(each.error, Denied | Unauthenticated)]
    if len(refused) == len(answers):
        raise refused[0]


def _shown(*, json: bool, live: bool) -> AbstractContextManager[Callable[[Board], None]]:
    """Return what shows a board: as JSON, on the whole terminal, or one picture below the other."""
    if json:
        return nullcontext(_print_json)
    from softstate.cli.commands.top.screen import Screen, print_picture  # noqa: PLC0415 - 100 ms that --json does without

    return Screen() if live and sys.stdout.isatty() else nullcontext(print_picture)


def _print_json(board: Board) -> None:
    rows = board.rows(trio.current_time())
    told: dict[str, Any] = {"nodes": [row.fields() for row in rows], "together": together(rows)}
    sys.stdout.write(line_text(told) + "\n")
    sys.stdout.flush()
