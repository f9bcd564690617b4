"""Mutants of permissions: each takes one rule of P-AUTH or P-CLI-19 out of the product by a patch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from softstate.auth.identity import EVERYTHING, Identity
from softstate.auth.presented import Vouched
from softstate.auth.revocations import REVOKED
from softstate.client.machine.connection import Connection
from softstate.client.machine.credentials import Credentials
from softstate.client.machine.push_messages import PushMessages
from softstate.client.machine.push_path import PushPath
from softstate.errors import RequestError
from softstate.lease.table import Lease, LeaseTable
from softstate.model import Record
from softstate.position import Position
from softstate.server.auth.gate import NodeGate
from softstate.server.auth.warden import Warden
from softstate.server.fanout.hub import Hub, Portions
from softstate.server.fanout.outbox import Outbox
from softstate.server.http import poll_routes
from softstate.server.storage.heads import HeadReads
from softstate.session import Effect, Send, SendAhead, permission, renewal, subscription
from softstate.session.state import SessionCore
from softstate.store.base import Store
from softstate.testing.simulation.issuer import SimAuthority
from tests.kit.session_mutants import leases_outlive_credentials, rules_are_not_compared

Patch = pytest.MonkeyPatch


def polls_are_not_judged(patch: Patch) -> None:
    """A poll over HTTP answers for all that it names."""
    patch.setattr(poll_routes, "denied_names", lambda *_args: [])


def nobody_looks_at_credentials_again(patch: Patch) -> None:
    """A lease goes on beyond the end of the credentials, and neither side looks at them again."""
    leases_outlive_credentials(patch)
    rules_are_not_compared(patch)
    patch.setattr(Connection, "told_credentials", lambda *_args: None)  # which would have the client leave


def denied_comes_last(patch: Patch) -> None:
    """`denied` queues behind all that waits, a beat included that tells of the dropped pushes."""

    def discard(self: Outbox, kept: Callable[[str], bool]) -> None:
        for key in [key for key in self._pending if isinstance(key, str) and not kept(key)]:
            del self._pending[key]
            self.sent -= 1

    patch.setattr(Outbox, "discard", discard)
    judge_again = permission.judge_again

    def late(session: SessionCore, lease: Lease) -> Generator[int, None, list[Effect]]:
        effects = yield from judge_again(session, lease)
        return [Send(effect.message) if isinstance(effect, SendAhead) else effect for effect in effects]

    for module in (renewal, subscription):
        patch.setattr(module, "judge_again", late)


def pushes_of_lost_names_stay(patch: Patch) -> None:
    """Pushes that wait for a slow consumer go out, though they may not be read any more."""
    patch.setattr(Outbox, "discard", lambda self, kept: None)


def discarded_pushes_are_counted(patch: Patch) -> None:
    """`sent` counts pushes that were dropped with their names."""
    discard = Outbox.discard

    def counting(self: Outbox, kept: Any) -> None:
        sent = self.sent
        discard(self, kept)
        self.sent = sent

    patch.setattr(Outbox, "discard", counting)


def bad_tokens_are_anonymous(patch: Patch) -> None:
    """Credentials that are not good make their peer anybody, who may all."""
    identify = NodeGate.identify

    def lenient(self: NodeGate, token: str | Vouched | None, now: float, address: str = "") -> Identity:
        try:
            return identify(self, token, now, address)
        except RequestError:
            return Identity("", "", EVERYTHING, generation=self.generation)

    patch.setattr(NodeGate, "identify", lenient)


def denied_is_ignored(patch: Patch) -> None:
    """A client keeps names that were taken from it."""
    patch.setattr(PushMessages, "_names_lost", lambda *_args: None)


def tokens_are_fetched_when_refused_only(patch: Patch) -> None:
    """A client waits until its token has ended."""

    def told(self: Credentials, token: str | None, _ms: int | None, sent: float) -> None:
        _told(self, token, None, sent)

    _told = Credentials.told
    patch.setattr(Credentials, "told", told)


def new_tokens_are_not_presented(patch: Patch) -> None:
    """A client with a new token leaves its connection as it is."""
    patch.setattr(PushPath, "present_token", lambda self: None)


def provider_is_asked_once(patch: Patch) -> None:
    """A fetch that failed is not made again."""
    patch.setattr(Credentials, "_again", lambda self, error: None)


# Revocations through the store ---------------------------------------------------------------------------------------


def revocations_are_heeded_last(patch: Patch) -> None:
    """A hub offers all that comes with a revocation before it acts on that."""

    def in_order(
        self: Hub, news: Sequence[Record], rows: Sequence[Position], offer: Callable[[Sequence[Record]], Portions]
    ) -> Portions:
        heed, self._heed = self._heed, None
        yield from _in_order(self, news, rows, offer)
        self._heed = heed
        assert heed is not None
        yield from heed([record for record in news if record.topic.startswith(REVOKED)])

    _in_order = Hub._in_order
    patch.setattr(Hub, "_in_order", in_order)


def leases_of_a_subject_are_not_found(patch: Patch) -> None:
    """The leases of a subject stay when its credentials are revoked."""
    patch.setattr(LeaseTable, "of_principal", lambda self, digest: ())


def revocations_are_not_read_at_the_start(patch: Patch) -> None:
    """A node knows only of what is revoked while it runs."""

    async def learn(self: Warden, store: Store) -> None:
        pass

    patch.setattr(Warden, "learn", learn)


def nodes_trust_themselves_for_ever(patch: Patch) -> None:
    """A node that reads but hears of no change answers all the same."""
    patch.setattr(HeadReads, "heard", property(lambda self: True))


def tokens_that_were_good_stay_so(patch: Patch) -> None:
    """A token that was verified once is not held against what is revoked."""

    def identify(self: SimAuthority, token: str | None, now: float, wall: float, *unverified: Any) -> Identity:
        if token in self._seen:
            return replace(self._seen[token], generation=self.generation)
        return _identify(self, token, now, wall, *unverified)

    _identify = SimAuthority.identify
    patch.setattr(SimAuthority, "identify", identify)
