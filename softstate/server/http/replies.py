"""The bodies of replies that are no messages of the protocol, one class each, which is their description, too."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from softstate.model import Change, Durability
from softstate.position import Position
from softstate.wire.event_stream import Gone, Opened, Synced
from softstate.wire.messages import Count, Ms

SCHEMAS = "#/components/schemas/{name}"
"""The place of a class in the description of the requests."""


class Reset(msgspec.Struct, frozen=True):
    """The history is another one (P-SSE-2)."""

    position: Position


EVENT_DATA = (Opened, Synced, Gone, Change, Reset)
"""The kinds of data of an event of a stream, as JSON."""

_DATA = {"anyOf": [{"$ref": SCHEMAS.format(name=kind.__name__)} for kind in EVENT_DATA]}


class Health(msgspec.Struct, frozen=True):
    """The reply to a probe."""

    status: Literal["ok", "ready"]


class WhoAmI(msgspec.Struct, frozen=True, omit_defaults=True):
    """The identity that a request has by its credentials, and the patterns of names that it may read and publish.

    `issuer` and `subject` are empty for who presents none; without `credentials_ms` the credentials have no end.
    """

    issuer: str
    subject: str
    admin: bool
    read: list[str]
    write: list[str]
    credentials_ms: Ms | None = None


class Ticket(msgspec.Struct, frozen=True):
    """A ticket, which stands for a token once, for so long (P-AUTH-14)."""

    ticket: str
    expires_ms: Ms


class Event(msgspec.Struct, frozen=True):
    """One event of a stream (P-SSE); a `message`, without a name, is a change, or says that a topic is `unknown`."""

    data: Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/json", "contentSchema": _DATA})]
    event: Literal["message", "open", "sync", "reset", "gone"] | UnsetType = UNSET
    id: str | UnsetType = UNSET


class Clients(msgspec.Struct, frozen=True):
    """How old what clients know is, as they say themselves, in seconds; null if none has said so (P-REN-13).

    Of `ages` clients that tell their age, `never` have none yet. `modes` counts those that tell their mode.
    """

    ages: Count
    never: Count
    age_p50_s: float | None
    age_p99_s: float | None
    age_max_s: float | None
    modes: dict[str, Count]


class Status(msgspec.Struct, frozen=True):
    """The state of a node. Beside these fields there are more counts, which differ from release to release.

    `topics`, `tombstones`, `keys` and `store_bytes` are null while the store is down.
    """

    node: str
    role: Literal["all", "push", "poll"]
    store: str
    durability: Durability
    store_warnings: list[str]
    store_state: Literal["ok", "down"]
    position: str
    draining: bool
    uptime_s: float
    ttl_ms: Ms
    handshakes_per_s: float
    polls_per_s: float
    polling: Count
    clients: Clients
    topics: Count | None
    tombstones: Count | None
    keys: Count | None
    store_bytes: Count | None
    sessions: Count
    subscriptions: Count
    connections: Count
    memory_bytes: Count
    repairs: dict[str, Count]
    limited: dict[str, Count]
