"""The gate of one node: asks its authority who presents credentials, with the node's clocks, and counts refusals.

It also enforces the limits of rates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random

import structlog

from softstate.addresses import address_of, network_of
from softstate.auth.answers import Unasked, Waiter
from softstate.auth.asked import NameAction
from softstate.auth.digests import digest_of
from softstate.auth.failures import FAILURES, Failures
from softstate.auth.identity import Identity, Why
from softstate.auth.lasting import NOBODY, lasting
from softstate.auth.limits import RateLimits, Who
from softstate.auth.name_answers import NamesUnasked
from softstate.auth.open_authority import EVERYBODY_MAY_ALL, Authority
from softstate.auth.presented import Credentials
from softstate.auth.proxy import TrustedProxy
from softstate.auth.rules import Action
from softstate.errors import Overloaded, RequestError, Unauthenticated, Unavailable
from softstate.server.auth.audit import Audit

KEYS_RETRY_MS = 500
"""Delay after which a client is told to present a token again whose key is not known yet."""

log = structlog.get_logger("softstate.node")


class NodeGate:
    """Implements `softstate.session.Gate`, for all sessions and for HTTP.

    `now` is the clock of the leases, by which credentials end; `wall` the one by which tokens tell their times. With
    `hashed`, the audit log shows digests of principals. `limits` are those of an identity; with `limit_anonymous` those
    without credentials are limited as if each address was one. `auth_failures_per_s` is how many tokens of one address
    that are not good are looked at (0: any number); `ask_address` tells that some other limit asks for addresses.
    """

    def __init__(
        self,
        authority: Authority,
        now: Callable[[], float],
        wall: Callable[[], float],
        *,
        hashed: bool = False,
        limits: RateLimits | None = None,
        limit_anonymous: bool = False,
        auth_failures_per_s: float = 0.0,
        ask_address: bool = False,
        jitter: Random | None = None,
    ) -> None:
        self.authority = authority
        self.limits = limits or RateLimits()
        self.limits.limit(authority.namespaces)
        self._limit_anonymous = limit_anonymous
        self._audit = Audit(now, hashed=hashed)
        self.now = now
        self._wall = wall
        self.refusals: Counter[str] = Counter()
        """Credentials that were refused, by the check that did so."""
        self.limited: Counter[str] = Counter()
        """Refusals, by the limit that was met."""
        self.open = authority is EVERYBODY_MAY_ALL
        """Whether this node checks no credentials."""
        self.anybody = authority.identify(None, 0.0, 0.0) if self.open else NOBODY
        """The identity of all who use a node that checks no credentials."""
        self._told = False
        self._failures = Failures(auth_failures_per_s) if auth_failures_per_s and not self.open else None
        self._jitter = jitter or Random()
        # The attempt under way: where a token came from, and its digest once it turns out not to be remembered.
        self._address = ""
        self._unverified: bytes | None = None
        self.asks_address = ask_address or limit_anonymous or not self.open
        """Whether limits, or the audit log, ask for the address of a client."""

    @property
    def generation(self) -> int:
        """See `softstate.session.Gate`."""
        return self.authority.generation

    def wall(self) -> float:
        """Return the time for people, in seconds since 1970."""
        return self._wall()

    @property
    def proxy(self) -> TrustedProxy | None:
        """The proxies whose headers are taken."""
        return self.authority.proxy

    @property
    def ambient(self) -> bool:
        """Whether a request without a token may do anything."""
        return self.authority.ambient

    def identify(self, token: Credentials, now: float, address: str = "") -> Identity:
        """See `softstate.session.Gate`. Raises `Unavailable` while the keys are fetched that may make it good."""
        if self.open:
            self._note_ignored(token)
        self._begin(address)
        try:
            return self.authority.identify(token, now, self._wall(), self._look_first)
        except Unauthenticated as error:
            if self._failures is not None and self._unverified is not None:
                self._failures.note(self._unverified, network_of(address), self.generation, now, error)
            if error.why == Why.UNKNOWN_KEY and self.authority.awaits_keys(now):
                text = "the key of this token is not known yet, and keys are being fetched: present it again"
                raise Unavailable(text, retry_ms=KEYS_RETRY_MS) from None
            self.note_refused(error, token, address)
            raise

    def ask(
        self,
        about: Unasked | NamesUnasked,
        address: str,
        settled: Callable[[RequestError | None], None],
        broken: Callable[[], None],
    ) -> None:
        """Have asked about a token or names; `settled` is called, later, once it is known, or why it is not.

        `broken` is called if that meets a bug.
        """
        waiter = Waiter(settled, broken)
        if isinstance(about, Unasked):
            self.authority.ask(about.token, address, waiter, self.now())
        else:
            assert self.authority.names is not None
            self.authority.names.ask(about, address, waiter, self.now())

    def check_asked(self, identity: Identity, action: NameAction, names: Iterable[str]) -> None:
        """See `softstate.session.Gate`."""
        answers = self.authority.names
        if answers is not None and answers.active:
            unasked = answers.unasked(identity, action, names, self.now())
            if unasked:
                raise NamesUnasked(identity, action, unasked)

    def _begin(self, address: str) -> None:
        self._address, self._unverified = address, None

    def _look_first(self, digest: bytes) -> None:
        if self._failures is not None:
            self._unverified = digest
            self.check_failures(digest, self._address)

    def check_failures(self, digest: bytes, address: str) -> None:
        """Raise what is known of credentials that were not verified: `Unauthenticated`, and as `Failures.check`."""
        if self._failures is not None:
            try:
                network = network_of(address)
                self._failures.check(digest, network, self.generation, self.now(), self._jitter.random())
            except Overloaded:
                self.note_limited(FAILURES, None, address)
                raise

    def note_failure(self, address: str) -> None:
        """Count that an address has presented credentials that never were good."""
        if self._failures is not None:
            self._failures.charge(network_of(address), self.now())

    def present(self, token: Credentials, now: float, address: str = "") -> Identity:
        """Return who presents a token, good for a second at least. Raises `Unauthenticated`, and as `identify`."""
        return lasting(self.identify(token, now, address), now)

    def again(self, identity: Identity, now: float, address: str = "") -> Identity:
        """See `softstate.session.Gate`."""
        try:
            return self.authority.again(identity, now)
        except Unauthenticated as error:
            self.note_refused(error, None, address)
            raise

    def denied(self, identity: Identity, action: Action, names: Sequence[str], address: str = "") -> None:
        """See `softstate.session.Gate`."""
        self._audit.denied(identity, action, names, address)

    # Limits ---------------------------------------------------------------------------------------------------------

    def accountable(self, identity: Identity, address: str) -> str:
        """See `softstate.session.Gate`."""
        if not identity.is_anonymous:
            return identity.digest
        return digest_of("", network_of(address)) if self._limit_anonymous else ""

    def check_publish(self, identity: Identity, address: str, topic: str, size: int) -> None:
        """Count a publish of a value of `size` bytes. Raises `Overloaded` if it is one too many."""
        limits = self.limits
        limits.limit(self.authority.namespaces)
        if limits.of_publishes:
            try:
                limits.check_publish(self._who(identity, address), topic, size, self.now())
            except Overloaded as error:
                self.note_limited(error.why, identity, address)
                raise

    def check_poll(self, identity: Identity, address: str, *, page: bool = False) -> None:
        """See `softstate.session.Gate`. With `page`, it is a further page of an answer."""
        if self.limits.of_polls:
            try:
                self.limits.check_poll(self._who(identity, address), self.now(), page=page)
            except Overloaded as error:
                self.note_limited(error.why, identity, address)
                raise

    def check_ticket(self, identity: Identity, address: str) -> None:
        """Count a ticket. Raises `Overloaded` if it is one too many."""
        try:
            self.limits.check_ticket(identity.principal, self.now())
        except Overloaded as error:
            self.note_limited(error.why, identity, address)
            raise

    def note_limited(self, limit: str | None, identity: Identity | None, address: str = "") -> None:
        """Count somebody who met a limit."""
        assert limit is not None
        self.limited[limit] += 1
        self._audit.limited(limit, identity, network_of(address))

    def _who(self, identity: Identity, address: str) -> Who | None:
        if not identity.is_anonymous:
            return identity.principal
        return ("", network_of(address)) if self._limit_anonymous else None

    # Refusals -------------------------------------------------------------------------------------------------------

    def note_refused(self, error: Unauthenticated, token: Credentials, address: str) -> None:
        """Count that credentials of a peer were refused, and tell the audit log."""
        self.refusals[error.why or "unknown"] += 1
        self._audit.refused(error, token if isinstance(token, str) else None, address)

    def shown(self, identity: Identity) -> str:
        """Return how a principal is named in the log."""
        return self._audit.shown(identity)

    def note_tls_failed(self, what: str, because: str, peer: str) -> None:
        """Tell the audit log that TLS has ended a connection."""
        self._audit.tls_failed(what, because, address_of(peer))

    def _note_ignored(self, token: Credentials) -> None:
        if token is not None and not self._told:
            self._told = True
            log.warning("a token was presented, and this node checks no credentials: start it with --auth to do so")
