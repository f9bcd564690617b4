"""A simulated issuer of tokens and its rules: what each subject may read, and which tokens are good.

Rules and keys are known to all nodes at once; what a token's end means is up to each node's wall clock. A token is a
text that names its number; there are no signatures, since nobody forges any but by inventing a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal, Protocol, TypeAlias, final

import trio

from softstate.auth.answers import Waiter
from softstate.auth.digests import digest_of
from softstate.auth.identity import Grant, Identity, Why, reach_of, refused
from softstate.auth.limits import NamespaceLimit
from softstate.auth.open_authority import OnChanged, OnLost, unchanged, unheeded
from softstate.auth.patterns import pattern_of
from softstate.auth.presented import Credentials
from softstate.auth.revocations import Revocation, Revocations
from softstate.client.tokens import TokenProvider, TokenRequest
from softstate.model import Record
from softstate.testing.trace import KeyReplaced, RightsChanged, TokenIssued, Trace

TOKEN_S = 600.0
"""For how long a token is good, by default."""

ProviderFault: TypeAlias = Literal["fails", "hangs", "stale"]

ISSUER = "https://issuer"


class Issues(Protocol):
    """An issuer, as its providers of tokens see it."""

    fault: ProviderFault | None
    """The fault of every provider of tokens."""
    fetches: int
    """Calls of providers."""
    last: dict[str, str]
    """The newest token of each subject."""

    def issue(self, subject: str) -> str:
        """Make a token."""


def provider_of(issuer: Issues, subject: str) -> TokenProvider:
    """Return the provider of a client whose tokens are this subject's."""

    async def provide(_request: TokenRequest) -> str:
        issuer.fetches += 1
        await trio.lowlevel.checkpoint()
        if issuer.fault == "hangs":
            await trio.sleep_forever()
        if issuer.fault == "fails":
            raise OSError("the issuer cannot be reached")
        if issuer.fault == "stale" and subject in issuer.last:
            return issuer.last[subject]
        return issuer.issue(subject)

    return provide


@dataclass(frozen=True, slots=True)
class _Token:
    subject: str
    key: int
    ends_at: float
    issued_at: float


@final
class SimIssuer:
    """Issues tokens, and holds the rules. `rights` are the names that each subject may read and publish."""

    def __init__(self, trace: Trace, life_s: float = TOKEN_S) -> None:
        self.life_s = life_s
        self.generation = 1
        self.fault: ProviderFault | None = None
        """The fault of every provider of tokens."""
        self.at_once = False
        """Whether nodes judge sessions when rules change; else at their next request, as if that was lost."""
        self.authorities: list[SimAuthority] = []
        """Those of all nodes."""
        self.fetches = 0
        """Calls of providers."""
        self._trace = trace
        self._rights: dict[str, tuple[str, ...]] = {}
        self._grants: dict[str, Grant] = {}
        self._tokens: dict[str, _Token] = {}
        self._key = 1
        self._key_min = 1
        self.last: dict[str, str] = {}
        """The newest token of each subject."""

    # The rules -------------------------------------------------------------------------------------------------------

    def allow(self, subject: str, *names: str) -> None:
        """Let a subject read and publish below these names alone, from now on, on every node."""
        reach = reach_of(tuple(map(pattern_of, names)))
        self._rights[subject], self._grants[subject] = names, Grant(read=reach, write=reach)
        self.generation += 1
        self._trace.add(RightsChanged(trio.current_time(), subject, names))
        self._tell(digest_of(ISSUER, subject))

    def rights(self, subject: str) -> tuple[str, ...]:
        """Return the names that a subject may read."""
        return self._rights[subject]

    def rotate(self) -> None:
        """Sign with another key from now on; tokens of the one before stay good."""
        self._key += 1

    def remove_keys(self) -> None:
        """Take every key but the present one out of force."""
        self._key_min = self._key
        self.generation += 1
        dead = tuple(text for text, token in self._tokens.items() if token.key < self._key_min)
        self._trace.add(KeyReplaced(trio.current_time(), dead))
        self._tell("")

    def _tell(self, principal: str) -> None:
        for authority in self.authorities if self.at_once else ():
            authority.on_changed(principal)

    # Tokens ----------------------------------------------------------------------------------------------------------

    def issue(self, subject: str, life_s: float | None = None) -> str:
        """Make a token."""
        now = trio.current_time()
        ends_at = now + (self.life_s if life_s is None else life_s)
        text = f"token-{len(self._tokens) + 1}-of-{subject}"
        self._tokens[text] = _Token(subject, self._key, ends_at, now)
        self.last[subject] = text
        self._trace.add(TokenIssued(now, subject, text, ends_at))
        return text

    def provider(self, subject: str) -> TokenProvider:
        """Return the provider of a client whose tokens are this subject's."""
        return provider_of(self, subject)

    def subject_of(self, text: str, now: float, wall: float) -> tuple[_Token, float]:
        """Return what a token says, and when it ends by a node's clock `now`. Raises `Unauthenticated`."""
        token = self._tokens.get(text)
        if token is None:
            raise refused(Why.SIGNATURE, "nobody issued this token")
        self.check_key(token)
        if token.ends_at <= wall:
            raise refused(Why.EXPIRED, "the token has expired: fetch a new one")
        return token, now + token.ends_at - wall

    def check_key(self, token: _Token) -> None:
        """Raise `Unauthenticated` if the key of a token was removed."""
        if token.key < self._key_min:
            raise refused(Why.UNKNOWN_KEY, "the token's key was removed: fetch a new one")

    def grant_of(self, subject: str) -> Grant:
        """Return what a subject may do."""
        return self._grants.get(subject, Grant())


@final
class SimAuthority:
    """The authority of one simulated node. It remembers when the tokens end that it has seen, as nodes do."""

    names = None
    proxy = None
    ambient = False

    def __init__(self, issuer: SimIssuer) -> None:
        self._issuer = issuer
        issuer.authorities.append(self)
        self._seen: dict[str, Identity] = {}
        self.revocations = Revocations()
        self.namespaces: tuple[NamespaceLimit, ...] = ()
        """The limits of prefixes, as a scenario sets them."""
        self.on_lost: OnLost = lambda _tokens, _reason: None
        self.on_changed: OnChanged = unchanged
        self.heard = 0
        """Times that it heard of new revocations."""

    @property
    def generation(self) -> int:
        """See `softstate.auth.open_authority.Authority`."""
        return self._issuer.generation + self.heard

    def identify(
        self, token: Credentials, now: float, wall: float, unverified: Callable[[bytes], None] = unheeded
    ) -> Identity:
        """See `softstate.auth.open_authority.Authority`."""
        if not isinstance(token, str):
            raise refused(Why.MISSING, "this node wants credentials: present a token")
        if token in self._seen:
            return self.again(self._seen[token], now)
        unverified(sha256(token.encode()).digest())
        found, until = self._issuer.subject_of(token, now, wall)
        grant = self._issuer.grant_of(found.subject)
        identity = self._seen[token] = Identity(
            ISSUER,
            found.subject,
            grant,
            until,
            issued_at=found.issued_at,
            token=digest_of(token),
            generation=self.generation,
            evidence=found,
        )
        self._check_revoked(identity)
        return identity

    def ask(self, token: str, peer: str, waiter: Waiter, now: float) -> None:  # noqa: ARG002
        """Raise: every token is known."""
        raise AssertionError

    def awaits_keys(self, now: float) -> bool:  # noqa: ARG002
        """Return False: keys are known at once."""
        return False

    def again(self, identity: Identity, now: float) -> Identity:
        """See `softstate.auth.open_authority.Authority`."""
        if now >= identity.until:
            raise refused(Why.EXPIRED, "the token has expired: fetch a new one")
        token = identity.evidence
        assert isinstance(token, _Token)
        self._issuer.check_key(token)
        self._check_revoked(identity)
        if identity.generation == self.generation:
            return identity
        return replace(identity, grant=self._issuer.grant_of(token.subject), generation=self.generation)

    def heed(self, records: Iterable[Record]) -> list[Revocation]:
        """See `softstate.auth.open_authority.Authority`."""
        news = [revocation for record in records if (revocation := self.revocations.note(record)) is not None]
        self.heard += bool(news)
        return news

    def load_revocations(self, revocations: Revocations) -> None:
        """See `softstate.auth.open_authority.Authority`."""
        self.revocations = revocations
        self.heard += 1

    def is_over(self, revocation: Revocation, wall: float) -> bool:
        """See `softstate.auth.open_authority.Authority`."""
        return revocation.over(wall, self._issuer.life_s)

    def _check_revoked(self, identity: Identity) -> None:
        if self.revocations.of(identity) is not None:
            raise refused(Why.REVOKED, "the token was revoked: fetch a new one")
