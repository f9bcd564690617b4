"""One node in this process: from before it listens to the end of its drain, obeying signals; and how it logs."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

from softstate.cli import exit_codes
from softstate.server.config import ServerConfig

if TYPE_CHECKING:
    from softstate.server import Node

LogFormat: TypeAlias = Literal["console", "json"]

YOUNG_COLLECTIONS_A_FULL_ONE = 1_000
"""After how many collections of younger objects Python may look through all of them; its own default is 10.

Looking through what a session keeps takes 0.1 ms: a node with 10,000 that renewed stood still for a second, every 6,000
renewals, for nothing, since a session that has ended leaves no cycles behind. What leaves some goes later. Measured
with 5,000 sessions: 10,200 renewals a second instead of 4,700.
"""


async def run_node(
    config: ServerConfig,
    announce: Callable[[Node], Awaitable[None]],
    *,
    shared: bool = False,
    told: Callable[[], Awaitable[None]] = trio.sleep_forever,
) -> int:
    """Run a node until a signal has drained it, and return the exit code; `announce` is called once it listens.

    `shared` is as in `softstate.server.serve`, whose errors this raises. The node drains when `told` returns, too.
    """
    seldom_collect_all()
    run = _Run(config, announce, shared)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.obey, signals, nursery.cancel_scope)
            nursery.start_soon(run.heed, told, nursery.cancel_scope)
            nursery.start_soon(run.serve, nursery.cancel_scope)
    return exit_codes.INTERRUPTED if run.aborted else exit_codes.OK


def seldom_collect_all() -> None:
    """Have Python's garbage collector look through the young objects as ever, and seldom through all."""
    gc.set_threshold(*gc.get_threshold()[:2], YOUNG_COLLECTIONS_A_FULL_ONE)


@dataclass
class _Run:
    """One node, from before it listens to the end of its drain."""

    config: ServerConfig
    announce: Callable[[Node], Awaitable[None]]
    shared: bool
    node: Node | None = None
    aborted: bool = False

    async def serve(self, scope: trio.CancelScope) -> None:
        """Run the node until it has drained, then end everything in `scope`."""
        from softstate import server  # noqa: PLC0415 - --check and --help do without it

        async with trio.open_nursery() as nursery:
            self.node = await nursery.start(partial(server.serve, self.config, shared=self.shared))
            await self.announce(self.node)
        scope.cancel()

    async def obey(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Drain at the first signal; stop at once at the second, or at the first if there is nothing to drain."""
        await anext(signals)
        await self._stop(scope)
        await anext(signals)
        self.aborted = True
        scope.cancel()

    async def heed(self, told: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """Drain when told: not as a signal, since who tells us may have got the same signal that we get."""
        await told()
        await self._stop(scope)

    async def _stop(self, scope: trio.CancelScope) -> None:
        if self.node is None:
            self.aborted = True
            scope.cancel()
        else:
            await self.node.drain()


def configure_logging(log_format: LogFormat, *, verbose: bool) -> None:
    """Send structlog's lines to stderr, for people or for machines."""
    import structlog  # noqa: PLC0415 - 50 ms that --check and --help do without

    colours = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer()
            if log_format == "json"
            else structlog.dev.ConsoleRenderer(colors=colours),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
