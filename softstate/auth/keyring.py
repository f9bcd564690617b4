"""Keyrings: the keys of one issuer, and when to fetch them again. No I/O: a shell fetches when this says so.

A set of keys is taken whole, and a fetch that fails leaves the one that is there, for `stale_s`. A key that is not
there asks for a fetch, but never sooner than `cool_s` after the last began, so that a flood of invented keys costs the
issuer no more than two fetches a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol


class Key(Protocol):
    """A key that checks signatures by one algorithm."""

    @property
    def id(self) -> str | None:
        """Its ID, by which tokens name it."""

    @property
    def algorithms(self) -> frozenset[str]:
        """The names of its algorithm, more than one if that has several."""

    @property
    def print(self) -> str:
        """The key itself in short: two keys of one print are the same."""

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Tell whether a signature of these bytes is of this key."""


@dataclass(frozen=True, slots=True)
class Times:
    """How often a set of keys is fetched, in seconds; `stale_s` is for how long it is good without."""

    fresh_s: float = 300.0
    cool_s: float = 30.0
    stale_s: float = 86_400.0


class Keyring:
    """The keys of one issuer; `fetched` tells whether they come from a URL, and may be fetched again."""

    def __init__(self, keys: Iterable[Key] = (), *, fetched: bool = False, times: Times = Times()) -> None:
        self.fetched = fetched
        self.fetching = False
        self.failure = ""
        """The reason why the last fetch failed, empty if it did not."""
        self.on_sooner: Callable[[], object] = lambda: None
        """Called when a fetch is due sooner than it was."""
        self._times = times
        self._keys = tuple(keys)
        self._began_at = -math.inf
        self._got_at = -math.inf
        self._due_at = -math.inf if fetched else math.inf
        self._told_stale = not self._keys

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every key that is here, whether stale or not."""
        return self._keys

    @property
    def due_at(self) -> float:
        """When the next fetch is due; never while one is under way."""
        return math.inf if self.fetching else self._due_at

    def find(self, key: str | None, algorithm: str, now: float) -> Key | None:
        """Return the key that a token names, or the only one of its algorithm if it names none; else ask for a fetch.

        A key that is there, but for another algorithm, is none. One of a file that gives it no ID has any.
        """
        usable = self._keys if not self._is_stale(now) else ()
        fitting = [item for item in usable if algorithm in item.algorithms]
        if key is not None:
            named = [item for item in fitting if item.id == key]
            # A PEM file or a secret has no ID, and its operator has chosen it by naming the file.
            fitting = named or [item for item in fitting if item.id is None and not self.fetched]
        if len(fitting) == 1:
            return fitting[0]
        sooner = self._began_at + self._times.cool_s
        if self.fetched and sooner < self._due_at:
            self._due_at = sooner
            self.on_sooner()
        return None

    def holds(self, key: Key, now: float) -> bool:
        """Tell whether a key is still one of these."""
        return not self._is_stale(now) and any(
            (item.id, item.print, item.algorithms) == (key.id, key.print, key.algorithms) for item in self._keys
        )

    def began(self, now: float) -> None:
        """Note that a fetch begins."""
        self.fetching = True
        self._began_at = now
        self._due_at = now + self._times.fresh_s

    def got(self, keys: Iterable[Key], now: float) -> bool:
        """Take what a fetch has brought, in the place of all that was here; tell whether a key is gone."""
        before = {(key.id, key.print, key.algorithms) for key in self._keys}
        self._keys = tuple(keys)
        self._got_at = now
        self._told_stale = False
        self.fetching = False
        self.failure = ""
        return not before <= {(key.id, key.print, key.algorithms) for key in self._keys}

    def failed(self, why: str) -> None:
        """Note that a fetch has failed, and why: the keys stay, and another fetch is due soon."""
        self.fetching = False
        self.failure = why
        self._due_at = self._began_at + self._times.cool_s

    def stale_at(self) -> float:
        """Return when these keys are no longer good unless a fetch succeeds."""
        return self._got_at + self._times.stale_s if self.fetched else math.inf

    def went_stale(self, now: float) -> bool:
        """Tell, once, that these keys are no longer good."""
        went = self._is_stale(now) and not self._told_stale
        self._told_stale = self._told_stale or went
        return went

    def looked_ago(self, now: float) -> float:
        """Return how long ago the last fetch began; infinite if none did."""
        return now - self._began_at

    def told(self, now: float) -> str:
        """Return which keys are known, and when it was looked for them, for the error of a token of another."""
        names = ", ".join(ascii(item.id) for item in self.keys[:8]) or "none"
        if not self.fetched:
            return names
        ago = self.looked_ago(now)
        return names + ("; not looked yet" if math.isinf(ago) else f"; looked {ago:.0f} s ago")

    def _is_stale(self, now: float) -> bool:
        return now >= self.stale_at()
