"""The client's credentials: one token for all paths, fetched again before it ends, and when a node refuses it.

Without a provider there is one token for good, and a refusal stops the client. With one, nothing here waits for a
timer alone: what is due is looked at with every event, so that a client that slept refreshes with its first one. One
fetch is under way at a time (P-CLI-19). While `held`, no path begins anything: a token that was refused would be
refused again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from softstate.client.machine.events import Action, FetchToken
from softstate.client.machine.triggers import Trigger
from softstate.errors import RequestError, SoftstateError, Unauthenticated, Unavailable

REFRESH_FROM = 0.7
REFRESH_UPTO = 0.85
"""A token is fetched again when a part of its time between these is over, so that clients do not fetch together."""

LAST_S = 1.0
"""In their last second nodes take credentials to be over (P-AUTH-3), so it is no part of that time."""

CREDENTIALS_MARGIN = 0.99
"""The part of `credentials_ms` for which a client takes its credentials to be good: clocks may differ by 1 %."""

FETCH_BASE_S = 1.0
FETCH_CAP_S = 60.0
"""A fetch that failed is made again after U(0, min(cap, base · 2^k))."""

REFUSED_MAX = 3
"""So many tokens in a row, each another one, that nodes refuse: then the provider has none that is good."""

MENDED_BY_WAITING = frozenset({"expired", "not_yet", "unknown_key", "revoked"})
"""Refusals that say nothing of the provider: clocks differ, or a node has not fetched the keys yet.

So is `revoked`: a subject may sign in again, and its newest tokens seem to be older than its revocation if the clock of
who makes them is behind, or tells whole seconds. A provider that has no other knows, and says so.
"""


@dataclass(slots=True)
class TokenCell:
    """The token that all paths of one client present."""

    token: str | None = field(default=None, repr=False)


class Machinery(Protocol):
    """The part of the machine's shared state (`softstate.client.machine.state.Core`) that is used here."""

    now: float
    last_error: SoftstateError | None

    @property
    def fire(self) -> Callable[[Trigger], None]:
        """Run the row that a trigger has."""

    def number(self) -> int:
        """Choose a number."""

    def act(self, *actions: Action) -> None:
        """Add actions."""


class Credentials:
    """Decides when to fetch a token. `core` is set by the machine that this is a part of."""

    core: Machinery

    def __init__(self, cell: TokenCell, random: Random, *, provider: bool) -> None:
        self.cell = cell
        self.provider = provider
        """Whether there is somebody to fetch another token from."""
        self.held = False
        self._random = random
        self._fetching: int | None = None
        self._fetch_at = math.inf
        self._due_at = math.inf
        self._ends_at = math.inf
        self._attempts = 0
        """Fetches in a row that brought no token which a node has taken."""
        self._taken: str | None = None
        """The token that a node has taken last."""
        self._refused: str | None = None
        """The token that was refused last."""
        self._why: str | None = None
        self._refusals = 0
        """Tokens in a row that were refused, and that waiting does not mend."""

    # Time ------------------------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """Return when something here is due."""
        if self._fetching is not None or not self.provider:
            return math.inf
        return min(self._fetch_at, self._due_at)

    def tick(self) -> None:
        """Do what is due."""
        now = self.core.now
        if now < self.deadline():
            return
        if self._due_at <= now:
            self._due_at = math.inf
            self.core.fire(Trigger.CREDENTIALS_DUE)
        else:
            self.fetch()

    def told(self, token: str | None, credentials_ms: int | None, sent: float) -> None:
        """Take note that a node took a token, and for how long it is good, from an answer to a request of `sent`."""
        if not self.provider or token != self.cell.token:
            return
        if token != self._taken:
            self._taken, self._refused, self._why = token, None, None
            self._refusals = self._attempts = 0
        if credentials_ms is None:
            return
        left_s = credentials_ms / 1000
        ends_at = sent + CREDENTIALS_MARGIN * left_s
        if ends_at < self._ends_at - 1.0:
            self._ends_at = ends_at
            usable_s = max(left_s - LAST_S, left_s / 2)
            self._due_at = sent + usable_s * self._random.uniform(REFRESH_FROM, REFRESH_UPTO)

    # Fetching --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Fetch the first token, ahead of everything else."""
        if self.provider and self.cell.token is None:
            self.held = True
            self.fetch()

    def fetch(self) -> None:
        """Fetch a token, unless that is under way, or waits for its time."""
        now = self.core.now
        if not self.provider or self._fetching is not None or now < self._fetch_at < math.inf:
            return
        self._fetch_at = math.inf
        self._fetching = self.core.number()
        self.core.act(FetchToken(self._fetching, self._why, self._attempts))
        self._attempts += 1

    def got(self, number: int, token: str) -> bool:
        """Take a token; tell whether it is one to go on with."""
        if number != self._fetching:
            return False
        self._fetching = None
        if token == self._refused:
            self._again(Unavailable("the token provider gave the token once more that was refused"))
            return False
        self.cell.token = token
        self._due_at = self._ends_at = math.inf
        return True

    def failed(self, number: int, error: RequestError) -> None:
        """Take note that no token came: it is fetched again after a backoff."""
        if number == self._fetching:
            self._fetching = None
            self._again(error)

    def postpone(self, error: SoftstateError | None) -> None:
        """Take note that a node could not judge a token now: after a backoff one is fetched, and presented again."""
        if self._fetching is None and self._fetch_at == math.inf:
            self._attempts += 1
            self._again(error)

    def _again(self, error: SoftstateError | None) -> None:
        self.core.last_error = error
        bound_s = min(FETCH_CAP_S, FETCH_BASE_S * 2.0 ** min(max(self._attempts - 1, 0), 16))
        self._fetch_at = self.core.now + self._random.uniform(0.0, bound_s)

    # Refusals --------------------------------------------------------------------------------------------------------

    def is_present(self, token: str | None) -> bool:
        """Tell whether `token` is the one that is presented now: a refusal of an earlier one says nothing."""
        return token == self.cell.token

    @property
    def fetching(self) -> bool:
        """Whether a fetch is under way."""
        return self._fetching is not None

    @property
    def fresh(self) -> bool:
        """Whether no node has taken the newest token yet."""
        return self._attempts > 0

    def refused(self, token: str | None, error: Unauthenticated) -> bool:
        """Take note that a node refused a token; tell whether there is hope for another one."""
        self.core.last_error = error
        if token is not None and token == self._refused:
            return True  # told already
        self._refused, self._why = token, error.why or "unauthenticated"
        if self._why not in MENDED_BY_WAITING and token is not None:
            self._refusals += 1
        if self._refusals >= REFUSED_MAX:
            return False
        self._due_at = math.inf
        if self.fresh and self._fetching is None and self._fetch_at == math.inf:
            self._again(error)
        return True
