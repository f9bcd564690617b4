"""The questions of a session about credentials: who presents them, and whether that still holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from softstate.auth.asked import NameAction
from softstate.auth.identity import Identity
from softstate.auth.open_authority import EVERYBODY_MAY_ALL
from softstate.auth.presented import Credentials
from softstate.auth.rules import Action


class Gate(Protocol):
    """The authority of a node (see `softstate.auth.open_authority`), which knows the time for people by itself.

    `address` is that of the client, for limits and the log; empty if neither asks for it.
    """

    @property
    def generation(self) -> int:
        """How often the rules have changed: while it stays, a grant is what it was."""

    def identify(self, token: Credentials, now: float, address: str) -> Identity:
        """Return who presents credentials, or who a peer without any is.

        Raises `Unauthenticated`; `Unasked` for a token about which the callout has to be asked first; and `TryLater` if
        that cannot be told now, or will not be told to this address.
        """

    def again(self, identity: Identity, now: float, address: str = "") -> Identity:
        """Return an identity as the present rules have it. Raises `Unauthenticated` and `Unavailable`."""

    def denied(self, identity: Identity, action: Action, names: Sequence[str], address: str = "") -> None:
        """Note that these names, one at least, may not be read or written."""

    def check_asked(self, identity: Identity, action: NameAction, names: Iterable[str]) -> None:
        """Raise `NamesUnasked` if the callout has to be asked about some of these names, which no grant reaches."""

    def accountable(self, identity: Identity, address: str) -> str:
        """Return the digest of who has to answer for a session: its limits are theirs. Empty if it has none."""

    def check_poll(self, identity: Identity, address: str) -> None:
        """Count a poll. Raises `Overloaded` if it is one too many."""


class OpenGate:
    """The gate of a node that checks no credentials."""

    generation = 0

    def identify(self, token: Credentials, now: float, address: str) -> Identity:  # noqa: ARG002
        """Return the anonymous identity, which may do all."""
        return EVERYBODY_MAY_ALL.identify(token, now, 0.0)

    def again(self, identity: Identity, now: float, address: str = "") -> Identity:  # noqa: ARG002
        """Return the identity as it is."""
        return identity

    def denied(self, identity: Identity, action: Action, names: Sequence[str], address: str = "") -> None:
        """Note nothing: this never happens."""

    def check_asked(self, identity: Identity, action: NameAction, names: Iterable[str]) -> None:
        """Do nothing: all is allowed."""

    def accountable(self, identity: Identity, address: str) -> str:  # noqa: ARG002
        """Return nobody."""
        return ""

    def check_poll(self, identity: Identity, address: str) -> None:
        """Count nothing."""


OPEN_GATE: Gate = OpenGate()
