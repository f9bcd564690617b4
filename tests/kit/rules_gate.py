"""A gate whose rules a test changes at will: who has which token, what each subject may do, and until when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from softstate.auth.answers import Unasked, Waiter
from softstate.auth.asked import NameAction
from softstate.auth.digests import digest_of
from softstate.auth.identity import EVERYTHING, Grant, Identity, Why, reach_of, refused
from softstate.auth.limits import NamespaceLimit
from softstate.auth.name_answers import NameAnswers, NamesUnasked
from softstate.auth.open_authority import OnChanged, OnLost, unchanged, unheeded
from softstate.auth.patterns import pattern_of
from softstate.auth.presented import Credentials
from softstate.auth.proxy import TrustedProxy
from softstate.auth.revocations import Revocation, Revocations
from softstate.auth.rules import Action
from softstate.errors import RequestError
from softstate.model import Record


def grant_of(read: Iterable[str] = (), write: Iterable[str] = ()) -> Grant:
    """Make a grant from the text of patterns."""
    return Grant(read=reach_of(tuple(map(pattern_of, read))), write=reach_of(tuple(map(pattern_of, write))))


@dataclass
class RulesGate:
    """`tokens` are those in force: subject and end of each; `grants` what each subject may do, ``""`` for anybody.

    As a `softstate.session.Gate`, and, given a wall clock that it ignores, as an `Authority`.
    """

    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    generation: int = 0
    fetching: bool = False
    proxy: TrustedProxy | None = None
    revocations: Revocations = field(default_factory=Revocations)
    unasked: dict[str, list[Waiter]] = field(default_factory=dict)
    """Tokens about which the callout has to be asked first, and who waits for that."""
    to_ask: set[tuple[str, NameAction, str]] = field(default_factory=set)
    """Subjects and names about which the callout has to be asked first."""
    denials: list[tuple[str, Action, list[str]]] = field(default_factory=list)
    namespaces: tuple[NamespaceLimit, ...] = ()
    verified: set[str] = field(default_factory=set)
    asked: int = 0
    """How often a token was looked at, or an identity judged again."""

    names: NameAnswers | None = None

    def __post_init__(self) -> None:
        self.on_lost: OnLost = lambda _tokens, _reason: None
        self.on_changed: OnChanged = unchanged

    def may(self, subject: str, *, read: Iterable[str] = (), write: Iterable[str] = (), admin: bool = False) -> None:
        """Change what a subject may do: rules that are in force from now on."""
        self.grants[subject] = EVERYTHING if admin else grant_of(read, write)
        self.generation += 1
        self.on_changed("")

    def issue(self, token: str, subject: str, until: float = math.inf) -> None:
        """Put a token in force."""
        self.tokens[token] = subject, until

    def revoke(self, token: str) -> None:
        """Take a token out of force: a change of the rules."""
        del self.tokens[token]
        self.generation += 1
        self.on_changed("")

    def identify(
        self, token: Credentials, now: float, wall: object = 0.0, unverified: Callable[[bytes], None] = unheeded
    ) -> Identity:
        """Return who presents a token; as a gate, the last argument is the address of the peer."""
        self.asked += 1
        assert token is None or isinstance(token, str)
        if token is not None and token not in self.verified:
            unverified(sha256(token.encode()).digest())
        if token in self.unasked:
            raise Unasked(token)
        identity = self._identify(token, now)
        if self.revocations.of(identity) is not None:
            raise refused(Why.REVOKED, "the token was revoked: fetch a new one")
        if token is not None:
            self.verified.add(token)
        return identity

    def _identify(self, token: str | None, now: float) -> Identity:
        if token is None:
            if "" not in self.grants:
                raise refused(Why.MISSING, "this node needs credentials: present a token")
            return Identity("", "", self.grants[""], generation=self.generation)
        if token not in self.tokens:
            raise refused(Why.SIGNATURE, "this token is not known: fetch a new one")
        subject, until = self.tokens[token]
        if until <= now:
            raise refused(Why.EXPIRED, "the token has expired: fetch a new one")
        grant = self.grants.get(subject, Grant())
        return Identity(
            "issuer", subject, grant, until, token=digest_of(token), generation=self.generation, evidence=token
        )

    @property
    def ambient(self) -> bool:
        """Tell whether anybody may do something."""
        return "" in self.grants

    def ask(self, token: str, peer: str, waiter: Waiter, now: float) -> None:
        """Note who waits for an answer about a token."""
        self.unasked[token].append(waiter)

    def answer(self, token: str, error: RequestError | None = None) -> None:
        """Tell those who wait that there is an answer, or why there is none."""
        waiters = self.unasked[token] if error else self.unasked.pop(token)
        while waiters:
            waiters.pop(0).settled(error)

    def denied(self, identity: Identity, action: Action, names: Sequence[str], _peer: str = "") -> None:
        """Note who was denied what."""
        self.denials.append((identity.subject, action, list(names)))

    def check_asked(self, identity: Identity, action: NameAction, names: Iterable[str]) -> None:
        """Raise for names that a test has to be asked about first."""
        asked = [name for name in names if (identity.subject, action, name) in self.to_ask]
        if asked:
            raise NamesUnasked(identity, action, asked)

    def accountable(self, identity: Identity, address: str) -> str:
        """Return the principal's digest."""
        if identity.is_anonymous:
            return digest_of("", address) if address else ""
        return identity.digest

    def check_poll(self, identity: Identity, address: str) -> None:
        """Count nothing."""

    def heed(self, records: Iterable[Record]) -> list[Revocation]:
        """Take changes of topics that revoke credentials."""
        news = [revocation for record in records if (revocation := self.revocations.note(record)) is not None]
        self.generation += bool(news)
        return news

    def load_revocations(self, revocations: Revocations) -> None:
        """Take all topics that revoke credentials."""
        self.revocations = revocations
        self.generation += 1

    def is_over(self, revocation: Revocation, wall: float) -> bool:
        """Tell whether it may be forgotten."""
        return revocation.over(wall, 0.0)

    def awaits_keys(self, now: float) -> bool:
        """Tell whether a test says so."""
        return self.fetching

    def again(self, identity: Identity, now: float, _peer: str = "") -> Identity:
        """Return an identity under the present rules."""
        token = identity.evidence
        return self.identify(token if isinstance(token, str) else None, now)
