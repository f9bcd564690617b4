"""The authority that a node asks who its peers are, and that of a node without rules, which knows nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

from softstate.auth.answers import Waiter
from softstate.auth.identity import EVERYTHING, Identity
from softstate.auth.limits import NamespaceLimit
from softstate.auth.name_answers import NameAnswers
from softstate.auth.presented import Credentials
from softstate.auth.proxy import TrustedProxy
from softstate.auth.revocations import Revocation, Revocations
from softstate.model import Record
from softstate.wire.messages import Reason

OnLost: TypeAlias = Callable[[Mapping[str, str], Reason], object]
"""Ends all that rests on some tokens, given by digest with the digest of their principals, and tells why."""


OnChanged: TypeAlias = Callable[[str], object]
"""Takes note that other rules are in force for a principal, by its digest, or for everybody if that is empty."""


def unchanged(_principal: str) -> None:
    """Do nothing."""


def unheeded(_digest: bytes) -> None:
    """Do nothing."""


class Authority(Protocol):
    """The source of identities that the gate of a node asks. Nothing here waits."""

    on_lost: OnLost
    """Called when an answer of a callout is over on which sessions may rest."""

    on_changed: OnChanged
    """Called when the policy, the keys, or what a callout grants have changed; what is revoked ends at once anyway."""

    @property
    def names(self) -> NameAnswers | None:
        """The answers of a callout about names; None if there can be none."""

    @property
    def generation(self) -> int:
        """How often the rules have changed: while it stays, an identity's grant is what it was."""

    @property
    def proxy(self) -> TrustedProxy | None:
        """The proxies whose headers are taken; None if no header is."""

    @property
    def ambient(self) -> bool:
        """Tell whether a request without a token may do anything. A page of any site can make a browser send one."""

    def identify(
        self, token: Credentials, now: float, wall: float, unverified: Callable[[bytes], None] = unheeded
    ) -> Identity:
        """Return who presents a token, or is vouched for by a proxy, or who a peer without either is.

        Raises `Unauthenticated`, whose `why` is one of `Why`, and `Unasked` if the callout has to be asked. A token
        that is not good never makes anyone anonymous. `unverified` is called before a token is looked at, or asked
        about, that is not remembered, with its SHA-256, and what it raises is passed on.
        """

    def ask(self, token: str, peer: str, waiter: Waiter, now: float) -> None:
        """Have asked about a token for which `identify` has raised `softstate.auth.answers.Unasked`."""

    def again(self, identity: Identity, now: float) -> Identity:
        """Return an identity with the grant that its principal has under the present rules, and their generation.

        Raises `Unauthenticated` if its credentials are no longer good (expired, their key or their token removed) or
        are of another principal by these rules; and `Unavailable` if nobody has been able to tell for too long.
        """

    def awaits_keys(self, now: float) -> bool:
        """Tell whether keys are about to be fetched, so that a token whose key is unknown may be good in a moment."""

    @property
    def namespaces(self) -> tuple[NamespaceLimit, ...]:
        """The limits of what may be published below some prefixes; another object when they have changed."""

    @property
    def revocations(self) -> Revocations:
        """All that is revoked."""

    def heed(self, records: Iterable[Record]) -> list[Revocation]:
        """Take changes of topics that revoke credentials; return what is revoked now and was not before."""

    def load_revocations(self, revocations: Revocations) -> None:
        """Take all that the store holds in the place of what is known to be revoked."""

    def is_over(self, revocation: Revocation, wall: float) -> bool:
        """Tell whether a revocation can be forgotten: all credentials are over that it revokes."""


class EverybodyMayAll:
    """The authority of a node that checks no credentials, and lets anyone do everything."""

    names = None
    generation = 0
    namespaces: tuple[NamespaceLimit, ...] = ()
    proxy = None
    ambient = True

    def __init__(self) -> None:
        self.revocations = Revocations()
        self.on_lost: OnLost = lambda _tokens, _reason: None
        self.on_changed: OnChanged = unchanged
        self._anybody = Identity("", "", EVERYTHING)

    def identify(
        self,
        token: Credentials,  # noqa: ARG002
        now: float,  # noqa: ARG002
        wall: float,  # noqa: ARG002
        unverified: Callable[[bytes], None] = unheeded,  # noqa: ARG002
    ) -> Identity:
        """Return the anonymous identity."""
        return self._anybody

    def ask(self, token: str, peer: str, waiter: Waiter, now: float) -> None:  # noqa: ARG002
        """Raise: there is nobody to ask."""
        raise AssertionError

    def again(self, identity: Identity, now: float) -> Identity:  # noqa: ARG002
        """Return the identity as it is."""
        return identity

    def awaits_keys(self, now: float) -> bool:  # noqa: ARG002
        """Return False: there are none."""
        return False

    def heed(self, records: Iterable[Record]) -> list[Revocation]:  # noqa: ARG002
        """Return nothing: credentials are not looked at."""
        return []

    def load_revocations(self, revocations: Revocations) -> None:
        """Do nothing: credentials are not looked at."""

    def is_over(self, revocation: Revocation, wall: float) -> bool:  # noqa: ARG002
        """Return False: none are known."""
        return False


EVERYBODY_MAY_ALL: Authority = EverybodyMayAll()
"""The authority of a node without ``--auth``."""
