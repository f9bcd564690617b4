"""``python -m softstate.cli.processes.worker``: one node of ``softstate serve --workers``, which alone starts it.

It is told what to be in one JSON line on stdin (`Orders`), and reports in one on stdout: that it listens (`Listening`),
or why it cannot (`Failed`). Nothing else comes over stdin but its end: the supervisor wants an end, or has met its own,
be it by kill -9. Then the worker drains. This needs nothing that only Linux has, as PR_SET_PDEATHSIG would.
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
from softstate.cli.processes.node_process import LogFormat, configure_logging, run_node
from softstate.errors import SoftstateError
from softstate.server.config import ServerConfig

if TYPE_CHECKING:
    from softstate.server import Node


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told. `config` names the one port that all of them share."""

    worker: int
    config: ServerConfig
    log_format: LogFormat
    verbose: bool

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
    """A worker's report that it cannot serve: what to tell, and the exit code."""

    message: str
    code: int


def orders_of(line: bytes) -> Orders:
    """Read `Orders.line`."""
    return msgspec.convert(json.loads(line), Orders)


def report_of(line: str) -> Listening | Failed:
    """Read a worker's report."""
    fields = json.loads(line)
    return msgspec.convert(fields, Failed) if "code" in fields else msgspec.convert(fields, Listening)


def main() -> None:
    """Serve as told on stdin, and leave the process with the exit code."""
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(INTERRUPTED)
    orders = orders_of(line)
    configure_logging(orders.log_format, verbose=orders.verbose)
    try:
        code = trio.run(_work, orders)
    except BaseException as raised:
        error = leaf(raised)
        if not isinstance(error, SoftstateError):
            raise
        code = exit_code_of(error)
        _report(Failed(str(error), code))
    sys.exit(code)


async def _work(orders: Orders) -> int:
    import structlog  # noqa: PLC0415 - 50 ms that nobody needs who only reads reports

    structlog.contextvars.bind_contextvars(worker=orders.worker)
    return await run_node(orders.config, _announce, shared=True, told=_dismissed)


async def _dismissed() -> None:
    """Wait for the end of stdin."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as supervisor:
        while await supervisor.receive_some():
            pass


async def _announce(node: Node) -> None:
    topics = await node.topic_count()
    warnings = tuple(node.store.warnings)
    _report(Listening(tuple(node.addresses), node.store_name, str(node.durability), warnings, topics))


def _report(report: Listening | Failed) -> None:
    with suppress(BrokenPipeError):  # then the supervisor is gone, which stdin tells
        os.write(sys.stdout.fileno(), json.dumps(asdict(report)).encode() + b"\n")


if __name__ == "__main__":
    main()
