"""An index of leases by whose they are: a revocation ends those of a subject without a look at all others.

It also counts what each principal holds, and says when that is all that it may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from softstate.errors import Overloaded

SESSIONS_LIMIT = "sessions_per_identity_max"
SUBSCRIPTIONS_LIMIT = "subscriptions_per_identity_max"
"""The limits of one principal, as options and errors name them."""

FULL_RETRY_MS = 5_000
"""The `retry_ms` of `Overloaded` when there are all the sessions or subscriptions that may be."""

T = TypeVar("T")


def _take_no_note(_limit: str, _lease: object) -> None:
    """Do nothing."""


class Principals(Generic[T]):
    """The leases of each principal, by its digest. Most have one, which then takes no container of its own.

    A principal may have so many leases, and so many names in all of them together; 0 stands for no limit. Nothing here
    enforces that. `limited` is called when a limit refuses something: with its name, and a lease
    of the principal, if it is one's.
    """

    __slots__ = ("_held", "_names", "_names_max", "_sessions_max", "limited")

    def __init__(self, sessions_max: int = 0, names_max: int = 0) -> None:
        self.limited: Callable[[str, T | None], None] = _take_no_note
        self._sessions_max = sessions_max
        self._names_max = names_max
        self._held: dict[str, T | dict[T, None]] = {}
        self._names: dict[str, int] = {}

    def add(self, digest: str, lease: T) -> None:
        """Note that a lease is of a principal."""
        held = self._held.get(digest)
        if held is None:
            self._held[digest] = lease
        elif isinstance(held, dict):
            held[lease] = None
        else:
            self._held[digest] = {held: None, lease: None}

    def remove(self, digest: str, lease: T, names: int = 0) -> None:
        """Forget a lease that was added, with the names that it holds."""
        self.hold(digest, -names)
        held = self._held[digest]
        if isinstance(held, dict):
            del held[lease]
        if not isinstance(held, dict) or not held:
            del self._held[digest]
            self._names.pop(digest, None)

    def hold(self, digest: str, names: int) -> None:
        """Note that the leases of a principal hold so many names more, or, below 0, fewer."""
        if names and self._names_max and digest:
            self._names[digest] = self._names.get(digest, 0) + names

    def of(self, digest: str) -> Sequence[T]:
        """Return the leases of a principal."""
        held = self._held.get(digest)
        if held is None:
            return ()
        return tuple(held) if isinstance(held, dict) else (held,)

    def may_begin(self, digest: str) -> bool:
        """Tell whether a principal may have one lease more. The empty digest stands for nobody, who may."""
        held = self._held.get(digest) if self._sessions_max and digest else None
        return held is None or (len(held) if isinstance(held, dict) else 1) < self._sessions_max

    def may_hold(self, digest: str, names: int) -> bool:
        """Tell whether the leases of a principal may hold so many names more."""
        return not (self._names_max and digest and names) or self._names.get(digest, 0) + names <= self._names_max

    def no_session(self, digest: str) -> Overloaded:
        """Return the error of a principal that may not have one lease more."""
        return self._refusal(SESSIONS_LIMIT, digest, f"has {self._sessions_max} sessions here", self._sessions_max)

    def no_names(self, digest: str, names: int) -> Overloaded:
        """Return the error of a principal whose leases may not hold so many names more."""
        held = f"holds {self._names.get(digest, 0)} subscriptions here and asks for {names} more"
        return self._refusal(SUBSCRIPTIONS_LIMIT, digest, held, self._names_max)

    def _refusal(self, limit: str, digest: str, what: str, most: int) -> Overloaded:
        self.limited(limit, self.of(digest)[0])
        text = f"this identity {what}, the limit ({limit}) is {most}: end some, try another node, or poll meanwhile"
        return Overloaded(text, retry_ms=FULL_RETRY_MS, why=limit)

    def __len__(self) -> int:
        """Return how many principals have leases."""
        return len(self._held)
