"""Explanations for people: what this node knows of a client's sessions, and of a topic. It asks no other node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView
from hashlib import blake2b
from itertools import islice
from typing import final

from softstate.lease.history import events_of
from softstate.lease.table import OVER, Lease, LeaseTable
from softstate.model import Query
from softstate.names import check_topic
from softstate.server.events.stream import EventStream
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.turns import Turns
from softstate.server.http.explanations import SHOWN_MAX, ClientExplained, PastEvent, SessionExplained, TopicExplained
from softstate.server.storage.reads import StoreReads
from softstate.server.websocket.connection import Connection
from softstate.server.websocket.parts import Parts


@final
class Explainer:
    """Explains, from the parts of a node; its leases are looked through in portions, each in a turn with a budget."""

    def __init__(self, node: str, parts: Parts, sockets: KeysView[Connection]) -> None:
        self._node = node
        self._leases: LeaseTable = parts.leases
        self._hub: Hub = parts.hub
        self._reads: StoreReads = parts.access.reads
        self._turns: Turns = parts.turns
        self._now = parts.now
        self._sockets = sockets

    async def client(self, name: str) -> ClientExplained:
        """Explain the sessions of a client, by the name that it has given itself."""
        found: list[SessionExplained] = []
        portion = self._turns.names_max
        for looked_at, (lease, connection) in enumerate(self._sessions(), 1):
            if looked_at % portion == 0:
                await self._turns.spend(portion)
            if lease.name == name:
                found.append(self._session(lease, connection))
                if len(found) > SHOWN_MAX:
                    break
        return ClientExplained(self._node, self._hub.position, found[:SHOWN_MAX], len(found) > SHOWN_MAX)

    async def topic(self, topic: str) -> TopicExplained:
        """Explain a topic. Raises `Invalid`, and the errors of `StoreReads.read`."""
        check_topic(topic)
        page = await self._reads.with_tombstone(topic, await self._reads.read(Query({topic: 0})))
        record = page.records[0] if page.records else None
        groups = self._leases.reached(topic)
        some = list(islice((lease for group in groups for lease in group), SHOWN_MAX))
        waiting = sum(topic in outbox for socket in self._sockets if (outbox := socket.outbox) is not None)
        return TopicExplained(
            self._node,
            page.position,
            topic,
            None if record is None else record.version,
            record is not None and record.deleted,
            record is not None and record.unreadable,
            len(record.cbor or b"") if record is not None else 0,
            {group.name: len(group) for group in groups},
            waiting,
            list(dict.fromkeys(lease.name for lease in some)),
        )

    def _sessions(self) -> Iterator[tuple[Lease, Connection | None]]:
        """List all sessions as of now: those with a connection, then those without."""
        for connection in tuple(self._sockets):
            if connection.machine.lease is not None:
                yield connection.machine.lease, connection
        for lease in self._leases.all():
            if lease.sink is None:
                yield lease, None

    def _session(self, lease: Lease, connection: Connection | None) -> SessionExplained:
        now = self._now()
        outbox = None if connection is None else connection.outbox
        machine = None if connection is None else connection.machine
        over = lease.deadline == OVER
        return SessionExplained(
            blake2b(lease.token.encode(), digest_size=4).hexdigest(),
            lease.name,
            "" if lease.identity is None else lease.identity.subject,
            "" if machine is None else machine.presented.address,
            "none" if connection is None else "events" if isinstance(connection, EventStream) else "websocket",
            "over" if over else "detached" if connection is None else "live",
            round(lease.ttl_s * 1000),
            0 if over else max(round((lease.deadline - now) * 1000), 0),
            0 if machine is None else machine.beat_ms,
            lease.count,
            _some(lease.names),
            None if machine is None else machine.named,
            0 if outbox is None else len(outbox),
            [] if outbox is None else _some(outbox.topics()),
            0 if outbox is None else round(outbox.congested_s * 1000),
            [
                PastEvent(max(round((now - at) * 1000), 0), what, detail)
                for at, what, detail in events_of(lease.history)
            ],
        )


def _some(names: Iterable[str]) -> list[str]:
    return list(islice(names, SHOWN_MAX))
