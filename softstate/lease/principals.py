"""An index of leases by whose they are: a revocation ends those of a subject without a look at all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Principals(Generic[T]):
    """The leases of each principal, by its digest. Most have one, which then takes no container of its own."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[str, T | dict[T, None]] = {}

    def add(self, digest: str, lease: T) -> None:
        """Note that a lease is of a principal."""
        held = self._held.get(digest)
        if held is None:
            self._held[digest] = lease
        elif isinstance(held, dict):
            held[lease] = None
        else:
            self._held[digest] = {held: None, lease: None}

    def remove(self, digest: str, lease: T) -> None:
        """Forget a lease that was added."""
        held = self._held[digest]
        if not isinstance(held, dict):
            del self._held[digest]
            return
        del held[lease]
        if not held:
            del self._held[digest]

    def of(self, digest: str) -> Sequence[T]:
        """Return the leases of a principal."""
        held = self._held.get(digest)
        if held is None:
            return ()
        return tuple(held) if isinstance(held, dict) else (held,)

    def __len__(self) -> int:
        """Return how many principals have leases."""
        return len(self._held)
