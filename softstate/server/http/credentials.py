"""Credentials of requests over HTTP, and what they allow: decided before the store is touched (P-AUTH-8)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from softstate.auth import lasting
from softstate.auth.answers import Standing
from softstate.auth.identity import Why, not_to_publish, refused
from softstate.auth.lasting import CREDENTIALS_S_MIN
from softstate.auth.narrowing import narrowed
from softstate.auth.presented import NOTHING_PRESENTED, Presented
from softstate.auth.rules import Action
from softstate.errors import Denied, Unauthenticated, Unavailable
from softstate.names import is_topic
from softstate.server.auth.gate import NodeGate
from softstate.server.http.forwarded import vouched_for
from softstate.server.http.message import Request
from softstate.server.http1 import Header

SCHEME = "bearer"

CREDENTIALS_HEADER = "Softstate-Credentials-Ms"


def bearer(request: Request) -> str | None:
    """Return the token that a request presents, None if it has no ``Authorization``. Raises `Unauthenticated`."""
    if request.credentials is None:
        return None
    scheme, _, token = request.credentials.decode("latin-1").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != SCHEME or not token:
        raise refused(Why.MALFORMED, "Authorization must be 'Bearer', a blank and a token")
    return token


def presented(gate: NodeGate, request: Request) -> Presented:
    """Return what a request presents, and its client's address. Raises `Unauthenticated`, which is logged.

    The first decides of a client's certificate, a token, and what a proxy says, and no other is looked at; but what
    only a proxy may say is refused from anybody else all the same.
    """
    address = request.address
    try:
        vouched = None if gate.proxy is None else vouched_for(gate.proxy, request)
        token = bearer(request) if request.certificate is None else None
    except Unauthenticated as error:
        gate.note_refused(error, None, address)
        raise
    return Presented(request.certificate or token or vouched, address)


def presented_by(gate: NodeGate, request: Request) -> Presented:
    """Return what a session is to present for a request that was judged, and its client's address."""
    if not gate.open:
        return presented(gate, request)
    return Presented(address=request.address) if request.address else NOTHING_PRESENTED


def identify(gate: NodeGate, request: Request) -> None:
    """Find out whose a request is. Raises `Unauthenticated`, and `TryLater` if that is not to be told now.

    A token that the connection has presented before is not looked up again as long as the rules have not changed since.
    """
    if gate.open and request.credentials is None:
        request.identity = gate.anybody
        return
    now = request.arrived = gate.now()
    if gate.open:
        request.identity = gate.present(None, now, request.address)
        return
    known = request.known
    if known is not None and known.generation == gate.generation and known.until - now >= CREDENTIALS_S_MIN:
        request.identity = known
        return
    request.known = None
    found = presented(gate, request)
    identity = request.identity = gate.present(found.credentials, now, found.address)
    # As long as somebody has the identity that a callout's answer makes, the callout is asked about it.
    if isinstance(found.credentials, str) and not isinstance(identity.evidence, Standing):
        request.known = identity


def stands(gate: NodeGate, request: Request) -> bool:
    """Tell whether the rules by which a request was judged are still in force, and its credentials good.

    If they are not, the identity is looked at again. Raises `Unauthenticated` if nothing is left of it.
    """
    identity = request.identity
    if identity.generation == gate.generation and (identity.until == math.inf or identity.until > gate.now()):
        return True
    request.identity = gate.again(identity, gate.now(), request.address)
    return request.identity.grant is identity.grant


def still_stands(gate: NodeGate, request: Request) -> bool:
    """Tell whether all that a request was judged to be allowed still is."""
    try:
        return stands(gate, request)
    except (Unauthenticated, Unavailable):
        return False


def may_be_told(gate: NodeGate, request: Request, topic: str) -> bool:
    """Tell whether the answer to a publish may say what others did to the topic, by the rules in force now."""
    try:
        stands(gate, request)
    except (Unauthenticated, Unavailable):
        return False
    return request.identity.grant.may_read(topic)


def note_denied(gate: NodeGate, request: Request, action: Action, names: Sequence[str]) -> None:
    """Tell the audit log what a request was denied."""
    gate.denied(request.identity, action, names, request.address)


def check_read(gate: NodeGate, request: Request, name: str) -> None:
    """Raise `Denied` unless a name may be read, and `NamesUnasked` if the callout has to be asked first."""
    grant = request.identity.grant
    if not grant.may_read(name):
        gate.check_asked(request.identity, "read", [name])
        note_denied(gate, request, "read", [name])
        below = grant.narrow(name)
        instead = f"; you may read {', '.join(map(repr, below))}: ask for that" if below else ""
        raise Denied(f"you may not read {name!r}{_without(request)}{instead}")


def check_write(gate: NodeGate, request: Request, topic: str) -> None:
    """Raise `Denied` unless a topic may be published, and `NamesUnasked` if the callout has to be asked first."""
    if not request.identity.grant.may_write(topic):
        gate.check_asked(request.identity, "write", [topic])
        note_denied(gate, request, "write", [topic])
        raise not_to_publish(topic, request.identity)


def check_writes(gate: NodeGate, request: Request, topics: Iterable[str]) -> None:
    """Raise `NamesUnasked` if the callout has to be asked about some of the topics of a batch, ahead of all else."""
    may_write = request.identity.grant.may_write
    unsure = [topic for topic in dict.fromkeys(topics) if is_topic(topic) and not may_write(topic)]
    if unsure:
        gate.check_asked(request.identity, "write", unsure)


def check_admin(gate: NodeGate, request: Request) -> None:
    """Raise `Denied` unless the request is an administrator's."""
    if not request.identity.grant.admin:
        note_denied(gate, request, "admin", [request.path])
        raise Denied(f"this is for administrators{_without(request)}: the rules of this node have to grant admin")


def _without(request: Request) -> str:
    return " (no token was presented)" if request.identity.is_anonymous else ""


def denied_names(request: Request, names: Iterable[str]) -> list[str]:
    """Return those of `names` that may not be read."""
    return request.identity.grant.unreadable(names)


def narrowed_names(request: Request, denied: Iterable[str]) -> dict[str, list[str]]:
    """Return, for some of the denied prefixes, the names below them that may be read."""
    return narrowed(request.identity.grant, denied)


def credentials_ms(request: Request) -> int | None:
    """Return for how long after its arrival the credentials of a request are good; None for no end."""
    return lasting.credentials_ms(request.identity, request.arrived)


def credentials_header(request: Request) -> tuple[Header, ...]:
    """Return the header that tells a client when to fetch new credentials, if they have an end."""
    left_ms = credentials_ms(request)
    return () if left_ms is None else ((CREDENTIALS_HEADER, str(left_ms)),)


def challenge(error: Unauthenticated) -> Header:
    """Return the header that a 401 has to have (RFC 9110 section 11.6.1, RFC 6750 section 3)."""
    failed = "" if error.why in (None, Why.MISSING) else f', error="invalid_token", error_description="{error.why}"'
    return ("WWW-Authenticate", f'Bearer realm="softstate"{failed}')
