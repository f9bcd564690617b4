"""The bodies of replies to ``GET /v1/explain``: what this node knows of one client, or of one topic."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from softstate.position import Position, Revision
from softstate.wire.messages import Count

SHOWN_MAX = 16
"""Sessions, names and topics of a kind that one explanation shows."""


class PastEvent(msgspec.Struct, frozen=True):
    """Something that happened to a session, so long ago."""

    ago_ms: Count
    what: str
    detail: str | int


class SessionExplained(msgspec.Struct, frozen=True):
    """One session of a client: `session` is a digest of its token, which is secret.

    `lease`: the session is `live`; `detached`, without a connection; or its lease is `over`, with one. `position` is
    the last one that the client was told. `waiting` entries are to be written still, among them changes of the topics
    `waits_for`; the connection has taken nothing for `congested_ms`.
    """

    session: str
    client: str
    subject: str
    address: str
    protocol: Literal["websocket", "events", "none"]
    lease: Literal["live", "detached", "over"]
    ttl_ms: Count
    left_ms: Count
    beat_ms: Count
    names: Count
    holds: Annotated[list[str], Meta(max_length=SHOWN_MAX)]
    position: Position | None
    waiting: Count
    waits_for: Annotated[list[str], Meta(max_length=SHOWN_MAX)]
    congested_ms: Count
    events: list[PastEvent]


class ClientExplained(msgspec.Struct, frozen=True, tag_field="explains", tag="client"):
    """The sessions of a client on this node, by the name that it has given itself. `more`: there are others."""

    node: str
    position: Position
    sessions: Annotated[list[SessionExplained], Meta(max_length=SHOWN_MAX)]
    more: bool


class TopicExplained(msgspec.Struct, frozen=True, tag_field="explains", tag="topic"):
    """A topic, as this node's store has it, and who follows it here.

    `version` is null if the store knows nothing of it. `followers` are the sessions by the name that covers the topic;
    for `waiting` connections a change of it is to be written still; `clients` are names of some that follow it.
    """

    node: str
    position: Position
    topic: str
    version: Revision | None
    deleted: bool
    unreadable: bool
    value_bytes: Count
    followers: dict[str, Count]
    waiting: Count
    clients: Annotated[list[str], Meta(max_length=SHOWN_MAX)]
