"""A client machine in plain data, as it is at a moment: for people, and tests that need not know how it is built."""

from __future__ import annotations

from dataclasses import dataclass, field

from softstate.client.machine.connection import Connection
from softstate.client.machine.triggers import Trigger
from softstate.model import Mode


@dataclass(frozen=True, slots=True)
class ConnectionDescription:
    """The present connection. Times are seconds on the machine's clock; infinity means never."""

    conn: int
    url: str
    open: bool
    """Whether it has had its welcome."""
    lease_until: float
    resubscribe_at: float
    silent_at: float
    """When the lack of any sign of life means something."""
    requests: tuple[str, ...]
    """The ids of subscribes and polls in flight on it, in the order in which they were sent."""
    renewals: tuple[str, ...]
    """The ids of renewals in flight, those that are overdue included."""

    @classmethod
    def of(cls, connection: Connection) -> ConnectionDescription:
        """Describe a connection as it is now."""
        return cls(
            connection.conn,
            connection.url,
            connection.open,
            connection.lease_until,
            connection.resubscribe_at,
            connection.silent_at,
            tuple(connection.requests),
            tuple(connection.renewals),
        )


@dataclass(frozen=True, slots=True)
class Description:
    """A machine as it was when it was asked. Times are seconds on its clock; infinity means never."""

    mode: Mode
    fired: tuple[tuple[Mode, Trigger], ...]
    """The cells of the table that the last event came to, in order, rows and ignored ones."""
    connection: ConnectionDescription | None
    connect_at: float
    """When to open the next connection; infinity while there is one, or none is planned."""
    poll_at: float
    """When to begin the next round of polls; infinity while a request is in flight, or none is planned."""
    polling: bool
    """Whether a poll over HTTP is in flight."""
    publishing: bool
    """Whether publishes over HTTP are in flight."""
    names: tuple[str, ...]
    """The names that are wanted, in the order in which they came."""
    failures: int
    """Rounds in a row in which every URL failed."""
    token: str | None = field(repr=False)
    """The token that is presented now."""
    fetching: bool
    """Whether the provider is being asked for another token."""
