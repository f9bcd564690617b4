"""Publishes over WebSocket: a request that rests on no lease, and that overlaps with all others."""

from __future__ import annotations

from softstate.auth.identity import not_to_publish
from softstate.names import check_topic
from softstate.session.effects import Effect, Submit
from softstate.session.state import SessionCore
from softstate.wire.messages import Publish


def submit(session: SessionCore, message: Publish, now: float) -> list[Effect]:
    """Hand a publish on; it is answered when it is durable (P-PUB-1), and overlaps with all else (P-CONN-4)."""
    identity = session.credentials(now)
    grant = identity.grant
    if grant.admin:
        return [Submit(message)]
    topic = check_topic(message.topic)
    if not grant.may_write(topic):
        session.gate.check_asked(identity, "write", [topic])
        session.gate.denied(identity, "write", [topic], session.presented.address)
        raise not_to_publish(topic, identity)
    return [Submit(message, grant.may_read(topic))]
