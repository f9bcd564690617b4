"""The extra `server`: the node and the command line need it, and a program that only runs a client does not."""

from __future__ import annotations

SERVER_MODULES = frozenset({"cyclopts", "httptools", "prometheus_client", "rich", "structlog"})
"""The modules that `pip install '.[server]'` brings beside those of the client."""


def without_server(what: str, error: ModuleNotFoundError) -> str | None:
    """Say what to install if the import of `what` failed because the extra is missing; None if for another reason."""
    if error.name is None or error.name.partition(".")[0] not in SERVER_MODULES:
        return None
    return f"{what} needs {error.name}, which is not installed: pip install '.[server]', in a clone of softstate"
