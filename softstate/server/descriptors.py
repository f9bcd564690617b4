"""File descriptors: the process may open as many as the system lets it, and the node takes no more connections.

Each connection is one descriptor. Without any left the system refuses to accept: clients wait in its queue and learn
nothing, and the store may not open a file that it needs. A node that stays below its limit answers 503 instead.
"""

from __future__ import annotations

import resource
from dataclasses import replace

import structlog

from softstate.server.config import ServerConfig

RESERVED = 64
"""Descriptors kept for all but connections: the store, listeners, and connections that are being refused."""

CONNECTIONS_MIN = 16
"""The least that `connections_max` is fitted to, however low the limit is."""

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
    """Return a configuration whose `connections_max` fits a limit of open files, and warn if it is another one."""
    if limit is None or config.connections_max <= limit - RESERVED:
        return config
    most = max(limit - RESERVED, CONNECTIONS_MIN)
    if most >= config.connections_max:
        return config
    log.warning(
        "fewer connections than connections_max",
        connections_max=config.connections_max,
        taken_max=most,
        because=f"this process may open {limit} files: raise the limit (ulimit -n, LimitNOFILE)",
    )
    return replace(config, connections_max=most)
