"""What the front door and the sessions ask of a node: the seams between the rooms of the server.

`Node` implements these; routes and sessions see nothing else of it, and tests can give them something simpler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from softstate.errors import RequestError
from softstate.model import Durability
from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.store.base import Applied, Page, Query, Write


class Reads(Protocol):
    """Reading the store, many requests to one snapshot."""

    async def read(self, query: Query) -> Page:
        """Answer from a snapshot begun after this call. Raises `Rewound`, `Unavailable` or `Overloaded`."""

    async def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at a revision, None if unknown. Raises as `read` does."""


class Publishes(Protocol):
    """Writing the store, many requests to one transaction."""

    async def publish(self, change: Write) -> tuple[Applied, Position]:
        """Return once durable, with the verdict and the position of that version.

        Raises `Conflict`, `KeyReused`, `Overloaded`, or `Unavailable` (outcome unknown). If cancelled, the change
        may be applied all the same. Calls made in order are applied in order.
        """

    async def publish_all(self, changes: Sequence[Write]) -> list[tuple[Applied, Position] | RequestError]:
        """Apply changes in order, sharing commits, and return each one's verdict, in order.

        Once one finds no room or a store that fails, so does every later one. If cancelled, any may be applied.
        """


class Watching(Protocol):
    """Waiting for changes."""

    @property
    def position(self) -> Position:
        """The position up to which every change has been offered to every connection of this node."""

    async def reached(self, revision: int) -> None:
        """Return when the hub's revision is at or above `revision`. Waits for ever if it never gets there."""

    async def changed(self, topic: str, after: int) -> None:
        """Return when a change of `topic` above revision `after` has passed, or the history was reset."""


class Services(Protocol):
    """One node, as its rooms see it."""

    @property
    def config(self) -> ServerConfig:
        """What the node was told."""

    @property
    def reads(self) -> Reads:
        """Reading the store."""

    @property
    def publishes(self) -> Publishes:
        """Writing the store."""

    @property
    def watching(self) -> Watching:
        """Waiting for changes."""

    @property
    def node_id(self) -> str:
        """The random name of this start of the node."""

    @property
    def durability(self) -> Durability:
        """What an acknowledged publish survives here."""

    @property
    def draining(self) -> bool:
        """Whether the node is shutting down: no new sessions, replies close their connection."""

    @property
    def ready(self) -> bool:
        """Whether the store answers and the hub is current."""

    async def status(self) -> dict[str, Any]:
        """Count what this node holds, for people."""

    def metrics(self) -> bytes:
        """Write the counters in Prometheus's text format."""
