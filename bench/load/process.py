"""The process of a load generator: commands and answers are JSON lines on its stdin and stdout.

`serve` is the child's side, `LoadProcess` the parent's. A generator does nothing between commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from softstate.errors import SoftstateError

Command: TypeAlias = Callable[..., Mapping[str, Any]]

LEAST_NICE = 19
AUTOGROUP = Path("/proc/self/autogroup")


class LoadFailed(SoftstateError):
    """A load generator could not carry out a command; the message says why."""


class LoadProcess:
    """Run ``python -m MODULE WORDS…`` for the duration of a block; kill it at the end."""

    def __init__(self, module: str, *words: str) -> None:
        self._module = module
        command = [sys.executable, "-m", module, *words]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """The process id, for `bench.measure.cost`."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and return its answer. Raises `LoadFailed`."""
        self.tell(command, **arguments)
        return self.answer()

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command; `answer` waits for its end. Raises `LoadFailed`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LoadFailed(f"{self._module} ended with exit code {self._process.wait()}") from None

    def answer(self) -> dict[str, Any]:
        """Return the answer to the oldest command that was not answered yet. Raises `LoadFailed`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed(f"{self._module} ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise LoadFailed(f"{self._module}: {answer['failed']}")
        return answer


def serve(commands: Mapping[str, Command]) -> None:
    """Carry out commands from stdin until it ends. `LoadFailed` and `OSError` are answered; others end the process."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request.pop("do")](**request)
        except (LoadFailed, OSError) as error:
            answer = {"failed": str(error)}
        print(json.dumps(dict(answer)), flush=True)


def step_back() -> dict[str, Any]:
    """Take only the time of the machine that nobody else wants, as if it were another machine's.

    A node has two threads, and this process would else keep one of two cores from them. Linux weighs sessions against
    each other before processes (sched(7), the autogroup feature), so both are set.
    """
    os.nice(LEAST_NICE)
    with suppress(OSError):  # a kernel without the feature
        AUTOGROUP.write_text(str(LEAST_NICE), encoding="ascii")
    return {}
