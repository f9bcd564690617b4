"""Where pictures are shown: on the whole terminal, which is as it was afterwards, or one below the other."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import trio
from rich.console import Console
from rich.live import Live

from softstate.cli.commands.top.board import Board
from softstate.cli.commands.top.picture import picture


class BrokenPipeConsole(Console):
    """A console that raises when its reader has gone, so that the command ends as any other does."""

    def on_broken_pipe(self) -> None:
        """Raise again; rich would end the process, with exit code 1."""
        raise  # noqa: PLE0704 - rich calls this where it handles the error


class Screen:
    """Shows the last board on the whole terminal."""

    def __init__(self) -> None:
        self._live = Live(console=BrokenPipeConsole(), screen=True, auto_refresh=False)

    def __enter__(self) -> Callable[[Board], None]:
        self._live.start()
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _show(self, board: Board) -> None:
        self._live.update(picture(board.rows(trio.current_time())), refresh=True)


def print_picture(board: Board) -> None:
    """Print a board."""
    console = BrokenPipeConsole(highlight=False)
    console.print(picture(board.rows(trio.current_time())))
