"""``python -m softstate.cli.processes.worker``: one node of ``softstate serve --workers``, which alone starts it.

It reads its settings as one JSON line on stdin (`WorkerSettings`), and reports in one line on stdout: that it listens
(`Listening`), or why it cannot (`Failed`). Nothing else comes over stdin but its end, by which the supervisor stops the
worker or shows that it was killed itself. Then the worker drains. Unlike PR_SET_PDEATHSIG this works beyond Linux.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import msgspec
import trio

from softstate.cli.exit_codes import INTERRUPTED, exit_code_of, leaf
from softstate.cli.processes.node_log import LogFormat, configure_logging
from softstate.cli.processes.node_process import run_node
from softstate.cli.terminal.streams import guard_streams
from softstate.errors import SoftstateError
from softstate.server.config import ServerConfig

if TYPE_CHECKING:
    from softstate.server import Node


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of one of so many `workers`. `config` names the port that all share, `family` their supervisor."""

    worker: int
    config: ServerConfig
    log_format: LogFormat
    verbose: bool
    family: str
    workers: int

    def line(self) -> bytes:
        """Write it as one line of ASCII, which also carries a file's name that is no Unicode."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Listening:
    """A worker's report that it serves."""

    addresses: tuple[str, ...]
    store: str
    durability: str
    warnings: tuple[str, ...]
    topics: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker's report that it cannot serve: the message for the user, and the exit code."""

    message: str
    code: int


def settings_of(line: bytes) -> WorkerSettings:
    """Read `WorkerSettings.line`."""
    return msgspec.convert(json.loads(line), WorkerSettings)


def report_of(line: str) -> Listening | Failed:
    """Read a worker's report."""
    fields = json.loads(line)
    return msgspec.convert(fields, Failed) if "code" in fields else msgspec.convert(fields, Listening)


def main() -> None:
    """Serve with the settings from stdin, and leave the process with the exit code."""
    guard_streams()
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(INTERRUPTED)
    settings = settings_of(line)
    configure_logging(settings.log_format, verbose=settings.verbose)
    try:
        code = trio.run(_work, settings)
    except BaseException as raised:
        error = leaf(raised)
        if not isinstance(error, SoftstateError):
            raise
        code = exit_code_of(error)
        _report(Failed(str(error), code))
    sys.exit(code)


async def _work(settings: WorkerSettings) -> int:
    import structlog  # noqa: PLC0415 - 50 ms that a reader of reports does without

    structlog.contextvars.bind_contextvars(worker=settings.worker)
    from softstate.server.siblings import Siblings  # noqa: PLC0415 - as above

    siblings = Siblings(settings.family, settings.worker, settings.workers)
    return await run_node(
        settings.config,
        _announce,
        shared=True,
        siblings=siblings,
        log_format=settings.log_format,
        drain_after=_stdin_ended,
    )


async def _stdin_ended() -> None:
    """Wait for the end of stdin."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as supervisor:
        while await supervisor.receive_some():
            pass


async def _announce(node: Node) -> None:
    topics = await node.topic_count()
    warnings = tuple(node.store.warnings)
    _report(Listening(tuple(node.addresses), node.store_name, str(node.durability), warnings, topics))


def _report(report: Listening | Failed) -> None:
    with suppress(BrokenPipeError):  # then the supervisor is gone, and stdin ends
        os.write(sys.stdout.fileno(), json.dumps(asdict(report)).encode() + b"\n")


if __name__ == "__main__":
    main()
