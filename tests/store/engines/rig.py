"""Handling a real store engine in a test: start it, kill it, fill it, put a backup in its place.

Each engine has a rig of its own (`redis_rig.py`, `postgres_rig.py`, `etcd_rig.py`), with a server of its own on free
loopback ports in a temporary folder. Every step bounds its own waiting, and raises when the server does not follow.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Any, Protocol

from softstate.store.base import KEYS_MAX, Store

WAIT_S = 20.0
"""How long a server may take for any step before the test fails, in seconds."""

PORTS = range(15_000, 32_000)
"""Below those that the system gives to outgoing connections, one of which might take the port of a dead server."""


def free_port() -> int:
    """Find a port that is free now, and stays so while the server on it is down."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Rig(Protocol):
    """One engine, running when a test gets it; closed by its maker. Implements `softstate.testing.Backend` too."""

    @property
    def url(self) -> str:
        """Its URL, for `--store`."""

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        """Open a store on it."""

    async def start(self) -> None:
        """Start the server again on the same port and data, and return once it answers."""

    async def kill(self) -> None:
        """Kill the server with SIGKILL, all its processes."""

    def freeze(self) -> None:
        """Stop the server with SIGSTOP: connections stay, nothing answers."""

    def thaw(self) -> None:
        """Let it go on."""

    async def backup(self) -> Any:
        """Copy what the server holds now, so that `restore` can put it back."""

    async def restore(self, backup: Any) -> None:
        """Put a backup in place of what the server holds, as an operator would: stop, replace the data, start."""

    async def wipe(self) -> None:
        """Stop the server, delete all its data, and start it."""

    async def refuse_writes(self, *, on: bool) -> None:
        """Make the server refuse writes while it still answers reads (read-only, out of memory, or out of space)."""

    async def publish_directly(self, topic: str, json: str | None) -> None:
        """Publish JSON text, or delete, as another program would: the one SQL function, Lua call or etcd put."""

    async def aclose(self) -> None:
        """Kill the server and forget its data."""


def folder_for(tmp_path: Path, name: str) -> Path:
    """Return a new folder for a server's data."""
    folder = tmp_path / name
    folder.mkdir()
    return folder
