"""The warden: ends the leases whose credentials were revoked, and forgets revocations that are over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias, TypeVar, final

import structlog
import trio

from softstate.auth.answers import DOWN_RETRY_MS
from softstate.auth.identity import Identity
from softstate.auth.lasting import NOBODY
from softstate.auth.revocations import REVOCATIONS_MAX, REVOKED, Revocation, Revocations
from softstate.errors import RequestError, TooLarge
from softstate.lease import Lease, LeaseTable
from softstate.model import Query, Record
from softstate.server.auth.gate import NodeGate
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.store.base import Store, Write
from softstate.wire.messages import Reason
from softstate.wire.request_digest import request_digest

SCANNED_PER_TURN = 2_000
"""Leases, or revocations, that are looked at in one turn of the loop: 1 us each."""

LOADED_PER_TURN = 1_000
"""Revocations that are taken from the store in one turn of the loop: 6 us each."""

LOGGED_PER_TURN = 100
"""Lines that are logged in one turn of the loop: 40 us each."""

JUDGED_PER_TURN = 50
"""Sessions, or held requests, that are judged by other rules in one turn of the loop: 16 us each, 90 if it loses names,
most of that for the audit log. One with many names takes turns of its own for them."""

BUSY_S = 0.1
"""Time between two looks at the sessions that could not be judged, since a request of theirs was under way..."""

BUSY_ROUNDS = 50
"""... and how often they are looked at; then they are left to their next request."""

FORGET_S = 60.0
"""Time between two looks for revocations that are over."""

T = TypeVar("T")


class Held(Protocol):
    """A request that is held."""

    def cancel(self) -> None:
        """Answer it now."""


Publish: TypeAlias = Callable[[Write], Awaitable[object]]
"""Publishes one change. Raises `RequestError`."""


class Judged(Protocol):
    """A session, as its connection has it."""

    def judge(self) -> bool:
        """Judge its lease by rules that have changed, and tell its peer what it has lost; False if that has to wait."""

    def fail(self) -> None:
        """End: a bug was met here."""


log = structlog.get_logger("softstate.audit")


@final
class Warden:
    """Acts on revocations for one node. `end` ends leases at once, and has their connections told that soon.

    Leases are found by their principal, or by a look at all of them, in as many turns as that takes. So are requests
    that are `held`, which are answered at once. A session without a lease has nothing that could end: its next request
    is refused.
    """

    def __init__(
        self,
        gate: NodeGate,
        leases: LeaseTable,
        end: Callable[[Iterable[Lease], Reason, int], None],
        held: Callable[[], Sequence[tuple[Held, Identity]]],
    ) -> None:
        self._gate = gate
        self._leases = leases
        self._end = end
        self._held = held
        self._changed = trio.Event()
        self._principals: set[str] = set()

    def rules_changed(self, principal: str) -> None:
        """Have the sessions of a principal, or all if its digest is empty, judged by other rules, and what is held."""
        self._principals.add(principal)
        self._changed.set()

    def heed(self, records: Sequence[Record]) -> Iterator[None]:
        """Take changes that revoke credentials; once this is exhausted, no lease rests on these."""
        news = self._gate.authority.heed(records)
        if not news:
            return
        for number, revocation in enumerate(news, 1):
            log.info("revoked", what=revocation.kind, digest=revocation.digest, reason=revocation.reason or None)
            if number % LOGGED_PER_TURN == 0:
                yield
        # However many are revoked at once, each lease and request is looked at once.
        revoked = Revocations(news)
        yield from self._end_of_subjects(revocation for revocation in revoked if revocation.kind == "sub")
        others = Revocations(revocation for revocation in revoked if revocation.kind != "sub")
        if len(others):
            for leases in _portions(self._leases.all()):
                self._end_of(others, leases)
                yield
        for held in _portions(self._held()):
            for request, identity in held:
                if revoked.of(identity) is not None:
                    request.cancel()
            yield

    def _end_of_subjects(self, subjects: Iterable[Revocation]) -> Iterator[None]:
        looked_at = 0
        for revocation in subjects:
            for leases in _portions(self._leases.of_principal(revocation.digest)):
                self._end_of(Revocations([revocation]), leases)
                looked_at += len(leases)
                if looked_at >= SCANNED_PER_TURN:
                    yield
                    looked_at = 0

    def _end_of(self, revoked: Revocations, leases: Iterable[Lease]) -> None:
        found = [lease for lease in leases if lease.identity is not None and revoked.of(lease.identity) is not None]
        self._end(found, "denied", 0)

    def lost(self, tokens: Mapping[str, str], reason: Reason) -> None:
        """End the leases, and have answered the requests, that rest on tokens for which nobody answers any more.

        Tokens are given by their digest, with that of their principal.
        """
        retry_ms = DOWN_RETRY_MS if reason == "overloaded" else 0
        for token, principal in tokens.items():
            leases = self._leases.of_principal(principal)
            found = [each for each in leases if each.identity is not None and each.identity.token == token]
            self._end(found, reason, retry_ms)
        for request, identity in self._held():
            if identity.token in tokens:
                request.cancel()

    def held_by(self, principal: str) -> Callable[[str], bool]:
        """Return what tells whether a lease of a principal, by its digest, holds a name."""
        leases = self._leases.of_principal(principal)
        return lambda name: any(name in lease.names for lease in leases)

    def lost_names(self, principal: str, names: Collection[str]) -> None:
        """End the leases of a principal that hold names of which nobody can tell any more."""
        leases = self._leases.of_principal(principal)
        found = [lease for lease in leases if any(name in lease.names for name in names)]
        self._end(found, "overloaded", DOWN_RETRY_MS)

    async def judge(self, sessions: Callable[[], Sequence[Judged]], bulkhead: Bulkhead) -> None:
        """Have sessions judged when rules have changed, and requests that are held, some in each turn, until cancelled.

        So a client that sends nothing is told at once what it has lost (P-AUTH-4). A request that has lost something is
        answered, and one that keeps all goes on.
        """
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            principals, self._principals = self._principals, set()
            with bulkhead.contain("judging leases") as round_:
                waiting = sessions() if "" in principals else self._of(principals)
                for _ in range(BUSY_ROUNDS):
                    waiting = await self._judge_some(waiting, bulkhead)
                    await self._end_holds()
                    if not waiting:
                        break
                    if self._changed.is_set():
                        self._principals |= principals  # from the beginning, with those that are busy
                        break
                    await trio.sleep(BUSY_S)
            if round_.failed:
                # All of them: a session that sends nothing would keep what it has lost until its next request.
                self._principals |= principals
                self._changed.set()
                await trio.sleep(RETRY_S)

    def _of(self, principals: Iterable[str]) -> Sequence[Judged]:
        leases = (lease for principal in principals for lease in self._leases.of_principal(principal))
        return [lease.sink for lease in leases if lease.sink is not None]

    async def _judge_some(self, sessions: Sequence[Judged], bulkhead: Bulkhead) -> Sequence[Judged]:
        """Have sessions judged; return those that have to wait."""
        busy: list[Judged] = []

        def judge(session: Judged) -> None:
            if not session.judge():
                busy.append(session)

        for some in _portions(sessions, JUDGED_PER_TURN):
            bulkhead.each("judging", judge, some, failed=_fail)
            await trio.lowlevel.checkpoint()
        return busy

    async def _end_holds(self) -> None:
        for held in _portions(self._held(), JUDGED_PER_TURN):
            for scope, identity in held:
                if identity is not NOBODY and self._loses(identity):
                    scope.cancel()
            await trio.lowlevel.checkpoint()

    def _loses(self, identity: Identity) -> bool:
        try:
            return self._gate.authority.again(identity, self._gate.now()).grant != identity.grant
        except RequestError:
            return True

    def check_room(self, change: Write) -> None:
        """Raise `TooLarge` for one revocation more than `REVOCATIONS_MAX`."""
        if change.cbor is None or not change.topic.startswith(REVOKED):
            return
        revocations = self._gate.authority.revocations
        if len(revocations) >= REVOCATIONS_MAX and change.topic not in revocations:
            raise TooLarge(
                f"{len(revocations)} revocations are in force, the limit is {REVOCATIONS_MAX}: undo some, or revoke the"
                " key that signed the tokens"
            )

    async def learn(self, store: Store) -> None:
        """Take all that a store holds in the place of what is known: at first, and when the hub leaves out changes.

        Leases that exist must end then. Raises what `Store.read` raises.
        """
        if self._gate.open:
            return
        found = Revocations()
        for records in _portions(await read_revocations(store), LOADED_PER_TURN):
            for record in records:
                found.note(record)
            await trio.lowlevel.checkpoint()
        self._gate.authority.load_revocations(found)
        log.info("revocations in force", count=len(found))

    async def forget(self, publish: Publish, wall: Callable[[], float], bulkhead: Bulkhead) -> None:
        """Delete revocations that are over, until cancelled. Any node may, and several at once do no harm."""
        while True:
            await trio.sleep(FORGET_S)
            with bulkhead.contain("revocations"):
                for number, revocation in enumerate(tuple(self._gate.authority.revocations), 1):
                    if self._gate.authority.is_over(revocation, wall()):
                        await _delete(publish, revocation)
                    elif number % SCANNED_PER_TURN == 0:
                        await trio.lowlevel.checkpoint()


def _fail(session: Judged) -> None:
    session.fail()


def _portions(items: Sequence[T], size: int = SCANNED_PER_TURN) -> Iterator[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


async def _delete(publish: Publish, revocation: Revocation) -> None:
    digest = request_digest(revocation.topic, None, revocation.version, None)
    try:
        await publish(Write(revocation.topic, None, revocation.version, None, None, digest))
    except RequestError as error:
        log.debug("revocation not forgotten", topic=revocation.topic, because=error.message)


async def read_revocations(store: Store) -> list[Record]:
    """Read every topic below `REVOKED`. Raises what `Store.read` raises."""
    query = Query(prefixes={REVOKED: 0})
    records: list[Record] = []
    while True:
        (page,) = await store.read([query])
        if isinstance(page, RequestError):
            raise page
        if page.restart:
            query, records = Query(prefixes={REVOKED: 0}), []
            continue
        records += page.records
        if not page.more:
            return records
        listed = page.position.revision if query.listed is None else query.listed
        query = replace(query, after=page.next_after, listed=listed)
