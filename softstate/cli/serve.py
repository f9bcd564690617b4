"""``softstate serve``: start a node and serve until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import trio
from cyclopts import App

from softstate.cli import exit_codes
from softstate.cli.layers import layer
from softstate.cli.serve_options import Advanced, ServeOptions, config_of
from softstate.server.config import ServerConfig

if TYPE_CHECKING:
    from softstate.server import Node

command: Final = App(
    name="serve",
    help="""\
Start a node and serve until told to stop.

Every option may also come from a SOFTSTATE_… environment variable (SOFTSTATE_TTL=60s) or from a TOML file (--config).
SIGTERM and Ctrl-C drain: clients are told to go elsewhere, publishes in flight finish. A second signal stops at once.
""",
    config=layer,
)


@command.default
async def serve(
    options: ServeOptions = ServeOptions(),  # noqa: B008 - frozen
    advanced: Advanced = Advanced(),  # noqa: B008 - frozen
) -> int:
    """Run a node until a signal has drained it."""
    config = config_of(options, advanced)
    if options.check:
        store = os.fsencode(config.store).decode("utf-8", "backslashreplace")
        print(f"The configuration is valid: listen {config.host}:{config.port}, store {store}, {config.role}.")
        return exit_codes.OK
    configure_logging(options.log_format, verbose=options.verbose)
    run = _Run(config)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.obey, signals, nursery.cancel_scope)
            nursery.start_soon(run.serve, nursery.cancel_scope)
    return exit_codes.INTERRUPTED if run.aborted else exit_codes.OK


@dataclass
class _Run:
    """One node, from before it listens to the end of its drain."""

    config: ServerConfig
    node: Node | None = None
    aborted: bool = False

    async def serve(self, scope: trio.CancelScope) -> None:
        """Run the node until it has drained, then end everything in `scope`."""
        from softstate import server  # noqa: PLC0415 - --check and --help do without it

        async with trio.open_nursery() as nursery:
            self.node = node = await nursery.start(server.serve, self.config)
            topics = await node.topic_count()
            print(
                f"softstate listens on {', '.join('http://' + address for address in node.addresses)} "
                f"(role {self.config.role}); store {node.store_name}, {node.durability}, "
                f"{topics} topic{'' if topics == 1 else 's'}",
                flush=True,
            )
        scope.cancel()

    async def obey(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Drain at the first signal; stop at once at the second, or at the first if there is nothing to drain."""
        await anext(signals)
        if self.node is None:
            self.aborted = True
            scope.cancel()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.node.drain)
                await anext(signals)
                self.aborted = True
                scope.cancel()


def configure_logging(log_format: Literal["console", "json"], *, verbose: bool) -> None:
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
