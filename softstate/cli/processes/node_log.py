"""The log of a node: lines for people or for machines on stderr, and the line of its start."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias, cast

from softstate.cli.terminal.streams import takes_colours
from softstate.cli.visible import visible
from softstate.server.config.server_config import SETTINGS

if TYPE_CHECKING:
    from softstate.server import Node

LogFormat: TypeAlias = Literal["console", "json"]

_TRACEBACK = "exception"
"""The field of a traceback, which has lines of its own."""

_SHOWN_ELSEWHERE = frozenset({"store", "host", "port"})


class _Lossy:
    """A stream that drops what cannot be written: a log on a full disk, or without a reader, must not end a node."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if it can be written."""
        with suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        """Flush, if it can be flushed."""
        with suppress(OSError):
            self._stream.flush()


def configure_logging(log_format: LogFormat, *, verbose: bool) -> None:
    """Send structlog's lines to stderr, for people or for machines."""
    import structlog  # noqa: PLC0415 - 50 ms that --check and --help do without

    colours = takes_colours(sys.stderr)
    for_people = [make_visible, structlog.dev.ConsoleRenderer(colors=colours)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            *([structlog.processors.JSONRenderer()] if log_format == "json" else for_people),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def make_visible(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape in a line for people what a terminal would obey or hide: names of topics and clients are of others.

    JSON escapes all of it by itself.
    """
    for field, value in line.items():
        if isinstance(value, str):
            lines = value.split("\n") if field == _TRACEBACK else [value]
            line[field] = "\n".join(map(visible, lines))
        elif isinstance(value, list | tuple):
            line[field] = [visible(each) if isinstance(each, str) else each for each in value]
    return line


def log_start(node: Node) -> None:
    """Write the line of a node that listens, with its version and the options that are not as by default."""
    import structlog  # noqa: PLC0415 - as in `configure_logging`

    from softstate.server.observe.build import own_version  # noqa: PLC0415 - the same

    config = node.config
    changed = {
        setting.option: getattr(config, setting.name)
        for setting in SETTINGS
        if getattr(config, setting.name) != setting.default and setting.name not in _SHOWN_ELSEWHERE
    }
    structlog.get_logger("softstate.process").info(
        "node started",
        version=own_version(),
        node=node.node_id,
        addresses=node.addresses,
        store=node.store_name,
        durability=str(node.durability),
        options=changed,
    )
