"""File descriptors: the process may open as many as the system lets it, and the node takes no more connections.

Each connection is one descriptor. Without any left the system refuses to accept: clients wait in its queue and learn
nothing, and the store may not open a file that it needs. A node that stays below its limit answers 503 instead.
"""

from __future__ import annotations

import resource
from dataclasses import replace

import structlog

from softstate.errors import ConfigError
from softstate.server.config import ServerConfig

RESERVED = 64
"""Descriptors kept for all but connections: the store, listeners, and connections that are being refused."""

CONNECTIONS_MIN = 16
"""The least that `connections_max` is fitted to: with a limit that is too low even for these, a node does not start."""

LOSS_TOLD_MIN = 0.1
"""The part of `connections_max` that has to be lost before the fit is worth a warning.

The default, 20,000, is also a common limit of files: a node that takes 19,936 is in order.
"""

log = structlog.get_logger("softstate.descriptors")


def raise_limit() -> int | None:
    """Raise the soft limit of open files to the hard one; return the limit, None if there is none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:  # macOS has another, lower limit
            log.warning("the limit of open files cannot be raised", soft=soft, hard=hard, because=str(error))
    return None if soft == resource.RLIM_INFINITY else soft


def fit_connections(config: ServerConfig, limit: int | None) -> ServerConfig:
    """Return a configuration whose `connections_max` fits a limit of open files; warn if a tenth or more is lost.

    Raises `ConfigError`, naming the limit that is needed, if too few connections would be left.
    """
    most = connections_within(config, limit)
    if most == config.connections_max:
        return config
    if config.connections_max - most >= LOSS_TOLD_MIN * config.connections_max:
        log.warning(
            "fewer connections than connections_max",
            connections_max=config.connections_max,
            taken_max=most,
            because=f"this process may open {limit} files: raise the limit (ulimit -n, LimitNOFILE)",
        )
    return replace(config, connections_max=most)


def connections_within(config: ServerConfig, limit: int | None) -> int:
    """Return how many of `connections_max` fit a limit of open files. Raises `ConfigError` if they are too few."""
    wanted = config.connections_max
    if limit is None:
        return wanted
    needed = RESERVED + min(wanted, CONNECTIONS_MIN)
    if limit < needed:
        raise ConfigError(
            f"this process may open {limit} files, and a node needs {needed} at least:"
            " raise the limit (ulimit -n, LimitNOFILE)"
        )
    return min(wanted, limit - RESERVED)
