"""Credentials: those that hello presents (P-AUTH-1), and new ones in place of those that end (P-AUTH-6)."""

from __future__ import annotations

from softstate.auth.identity import Identity, Why, refused
from softstate.auth.lasting import lasting
from softstate.auth.presented import Certificate, Credentials
from softstate.errors import Invalid, RequestError
from softstate.lease.table import Lease
from softstate.session.effects import Effect, Send
from softstate.session.permission import judge_again
from softstate.session.request import Steps, send_error
from softstate.session.state import SessionCore
from softstate.wire.messages import Auth, Authenticated


def identified(session: SessionCore, credentials: Credentials, now: float) -> Identity:
    """Return who presents credentials. Raises `Unauthenticated` if they are not good, or hardly any more."""
    return lasting(session.gate.identify(credentials, now, session.presented.address), now)


def credentials_of(session: SessionCore, token: str | None) -> Credentials:
    """Return what a connection presents: in `hello`, or with its handshake. Raises `Unauthenticated` if they differ.

    A certificate decides, and no token beside it is looked at.
    """
    presented = session.presented.credentials
    if isinstance(presented, Certificate):
        return presented
    if token is None or not isinstance(presented, str) or token == presented:
        return presented if token is None else token
    raise refused(Why.MALFORMED, "hello and the handshake present different tokens: present one")


def authenticate(session: SessionCore, message: Auth, now: float) -> list[Effect]:
    """Take new credentials of the same principal, and judge the lease by them. Others leave all as it was."""
    presented = session.presented.credentials
    identity = identified(session, presented if isinstance(presented, Certificate) else message.token, now)
    if identity.principal != session.identity.principal:
        raise refused(
            Why.SUBJECT_CHANGED,
            "these credentials are of another subject than those of this session: open a new connection for them",
        )
    session.identity, session.denied = identity, False
    lease = session.held_lease()
    if lease is None:
        return _answer(session, message, now)
    return session.work_through(_judge_and_answer(session, lease, message, now), message.id, rests_on_lease=False)


def _judge_and_answer(session: SessionCore, lease: Lease, message: Auth, now: float) -> Steps:
    said = yield from judge_again(session, lease)
    try:
        session.credentials(now)
    except RequestError as error:
        return session.give_up_credentials(error, message.id)  # they were revoked meanwhile
    return [*said, *_answer(session, message, now)]


def _answer(session: SessionCore, message: Auth, at: float) -> list[Effect]:
    return [Send(Authenticated(message.id, session.credentials_ms(at), session.subject))]


def refuse_early(_session: SessionCore, message: Auth, _now: float) -> list[Effect]:
    """Refuse credentials that come behind hello, which has presented some, and ahead of its welcome."""
    return [send_error(Invalid("auth comes behind the welcome: hello presents the first credentials"), message.id)]
