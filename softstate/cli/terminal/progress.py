"""A progress bar on stderr, if that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from softstate.cli.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """Shows how much is done, and how many `items` that is. `total` is None when unknown.

    Without a terminal it does nothing.
    """

    def __init__(self, what: str, total: int | None, items: str = "lines") -> None:
        self._what = what
        self._total = total
        self._items = items
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 - 100 ms that a pipeline does without
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn(f"{{task.fields[count]}} {self._items}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(visible(self._what), total=self._total, count=0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, completed: int, count: int) -> None:
        """Tell how far it is; drawing happens ten times a second at most."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=completed, count=count)
