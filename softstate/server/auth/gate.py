"""The gate of one node: asks its authority who presents credentials, with the node's clocks, and counts refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from softstate.auth.identity import Identity, Why
from softstate.auth.lasting import NOBODY, lasting
from softstate.auth.open_authority import EVERYBODY_MAY_ALL, Authority
from softstate.auth.rules import Action
from softstate.errors import Unauthenticated, Unavailable
from softstate.server.auth.audit import Audit

KEYS_RETRY_MS = 500
"""Delay after which a client is told to present a token again whose key is not known yet."""

log = structlog.get_logger("softstate.node")


class NodeGate:
    """Implements `softstate.session.Gate`, for all sessions and for HTTP.

    `now` is the clock of the leases, by which credentials end; `wall` the one by which tokens tell their times. With
    `hashed`, the audit log shows digests of principals.
    """

    def __init__(
        self, authority: Authority, now: Callable[[], float], wall: Callable[[], float], *, hashed: bool = False
    ) -> None:
        self.authority = authority
        self._audit = Audit(now, hashed=hashed)
        self.now = now
        self._wall = wall
        self.refusals: Counter[str] = Counter()
        """Credentials that were refused, by the check that did so."""
        self.open = authority is EVERYBODY_MAY_ALL
        """Whether this node checks no credentials."""
        self.anybody = authority.identify(None, 0.0, 0.0) if self.open else NOBODY
        """The identity of all who use a node that checks no credentials."""
        self._told = False

    @property
    def generation(self) -> int:
        """See `softstate.session.Gate`."""
        return self.authority.generation

    def identify(self, token: str | None, now: float) -> Identity:
        """See `softstate.session.Gate`. Raises `Unavailable` while the keys are fetched that may make it good."""
        if self.open:
            self._note_ignored(token)
        try:
            return self.authority.identify(token, now, self._wall())
        except Unauthenticated as error:
            if error.why == Why.UNKNOWN_KEY and self.authority.awaits_keys(now):
                text = "the key of this token is not known yet, and keys are being fetched: present it again"
                raise Unavailable(text, retry_ms=KEYS_RETRY_MS) from None
            self._note_refused(error, token)
            raise

    def present(self, token: str | None, now: float) -> Identity:
        """Return who presents a token, good for a second at least. Raises `Unauthenticated`."""
        return lasting(self.identify(token, now), now)

    def again(self, identity: Identity, now: float) -> Identity:
        """See `softstate.session.Gate`."""
        try:
            return self.authority.again(identity, now)
        except Unauthenticated as error:
            self._note_refused(error, None)
            raise

    def denied(self, identity: Identity, action: Action, names: Sequence[str]) -> None:
        """See `softstate.session.Gate`."""
        self._audit.denied(identity, action, names)

    def _note_refused(self, error: Unauthenticated, token: str | None) -> None:
        self.refusals[error.why or "unknown"] += 1
        self._audit.refused(error, token)

    def _note_ignored(self, token: str | None) -> None:
        if token is not None and not self._told:
            self._told = True
            log.warning("a token was presented, and this node checks no credentials: start it with --auth to do so")
