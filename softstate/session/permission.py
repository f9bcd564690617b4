"""The right to read: names are judged before they enter the lease, and again when rules change.

A push is never judged. A prefix of which only a part may be read is denied, not filtered: a lease holds what its client
was told that it holds (P-AUTH-2).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from softstate.auth.identity import Grant
from softstate.auth.name_answers import NamesUnasked
from softstate.auth.narrowing import narrowed
from softstate.errors import RequestError, Unauthenticated
from softstate.lease.table import Lease
from softstate.session.effects import DropUncovered, Effect, SendAhead
from softstate.session.state import SessionCore
from softstate.session.termination import deny, expire
from softstate.wire.messages import DeniedNames

DENIED_PER_MESSAGE = 256
"""Most names of one `denied`: 64 KiB."""


def unreadable_names(session: SessionCore, grant: Grant, names: Collection[str]) -> Generator[int, None, list[str]]:
    """Find those of `names` that may not be read. Raises `NamesUnasked` if somebody has to be asked about one first."""
    lost: list[str] = []

    def judge(portion: Collection[str]) -> None:
        lost.extend(grant.unreadable(portion))

    if not grant.admin:
        yield from session.in_portions(names, judge, grant.weight)
    if lost:
        session.gate.check_asked(session.identity, "read", lost)
        session.gate.denied(session.identity, "read", lost, session.presented.address)
    return lost


def judge_changed(session: SessionCore, now: float) -> list[Effect]:
    """Judge the lease by other rules, without a request of the client; no request may be under way.

    If the credentials are not good by these, the lease is revoked. If nobody can tell, that is left to a request.
    """
    lease = session.held_lease()
    try:
        session.credentials(now)
    except Unauthenticated:
        return deny(session, "denied", None)
    except RequestError:
        return []
    return [] if lease is None else session.work_through(judge_again(session, lease))


def judge_again(session: SessionCore, lease: Lease) -> Generator[int, None, list[Effect]]:
    """Take names out of the lease that may not be read any more, and tell the client, ahead of all that waits.

    What was queued behind a push that is dropped would be false: the renewal, or the beat, says that all was sent
    before it (P-AUTH-5). If somebody has to be asked about a name, which a rule allowed until now, the lease ends: the
    client asks for all of them again, and is answered when that is known.
    """
    identity = session.identity
    grant = identity.grant
    if lease.identity is identity:
        return []
    lost: Sequence[str] = ()
    if lease.identity is None or lease.identity.grant is not grant:
        try:
            lost = yield from unreadable_names(session, grant, list(lease.names))
        except NamesUnasked:
            return expire(session, "expired", None)
        yield from session.leave_names(lease, lost)
    session.leases.belong(lease, identity)
    if not lost:
        return []
    session.unaware = True
    portions = [lost[at : at + DENIED_PER_MESSAGE] for at in range(0, len(lost), DENIED_PER_MESSAGE)]
    narrow = narrowed(grant, lost)
    told = [
        SendAhead(DeniedNames(list(names), {name: narrow[name] for name in names if name in narrow}))
        for names in portions
    ]
    return [DropUncovered(lease.names), *told]
