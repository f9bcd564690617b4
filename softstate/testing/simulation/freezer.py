"""Stops the tasks of one simulated host, as SIGSTOP stops a process, until it is thawed.

Every task of a host carries the host's name in a context variable, which Trio hands on to the tasks that it starts.
While a host is frozen, its tasks become runnable as always (so timers expire and bytes arrive meanwhile), but are kept
aside until the thaw. The hook is a private method of Trio; its presence is checked, and nothing else uses it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVarTuple, Unpack, final

import trio
from trio._core import _run

HOST: ContextVar[str] = ContextVar("host", default="")
"""The simulated host that a task runs on; empty for the world itself."""

Args = TypeVarTuple("Args")


def start_on(host: str, nursery: trio.Nursery, run: Callable[[Unpack[Args]], Awaitable[object]], *args: *Args) -> None:
    """Start a task, and all that it starts, on a host."""
    context = copy_context()
    context.run(HOST.set, host)
    context.run(lambda: nursery.start_soon(run, *args))


@final
class Freezer:
    """Knows the frozen hosts, and keeps their runnable tasks."""

    def __init__(self) -> None:
        self._kept: dict[str, list[tuple[_run.Runner, _run.Task]]] = {}

    def __contains__(self, host: object) -> bool:
        return host in self._kept

    def freeze(self, host: str) -> None:
        """Run nothing of a host from now on, except the task that is running. Idempotent."""
        self._kept.setdefault(host, [])

    def thaw(self, host: str) -> None:
        """Let a frozen host go on. Idempotent."""
        for runner, task in self._kept.pop(host, ()):
            runner.runq.append(task)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Patch Trio for the length of a block, with `trio.run` inside. At most one at a time in a thread.

        Raises RuntimeError if this version of Trio lacks the method.
        """
        if not hasattr(_run.Runner, "reschedule"):
            raise RuntimeError(f"trio {trio.__version__} has no Runner.reschedule: hosts cannot be frozen")
        original = _run.Runner.reschedule

        def reschedule(runner: _run.Runner, task: _run.Task, *args: Any) -> None:
            original(runner, task, *args)
            if self._kept and (kept := self._kept.get(task.context.get(HOST, ""))) is not None:
                assert runner.runq[-1] is task
                runner.runq.pop()
                kept.append((runner, task))

        _run.Runner.reschedule = reschedule  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            _run.Runner.reschedule = original  # type: ignore[method-assign]
            self._kept.clear()
