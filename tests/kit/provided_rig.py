"""A client machine on a bench whose tokens come from a provider."""

from __future__ import annotations

import math
from typing import Any

from softstate.client.machine.events import FetchToken, TokenFailed, TokenGot
from softstate.errors import Unavailable
from softstate.wire.messages import Renew
from tests.kit.machine_rig import Rig

HOUR_MS = 3_600_000


class Provided(Rig):
    """A rig whose provider gives tokens when it is told to: ``t1``, ``t2``, …"""

    def __init__(self, *names: str, **options: Any) -> None:
        super().__init__(*names, provider=True, **options)
        self.given = 0

    def give(self, token: str | None = None) -> None:
        """Answer the newest fetch."""
        self.given += 1
        self.do(TokenGot(self.all(FetchToken)[-1].number, token or f"t{self.given}"))

    def fail(self) -> None:
        self.do(TokenFailed(self.all(FetchToken)[-1].number, Unavailable("the provider failed")))

    def until_fetch(self) -> FetchToken:
        """Let time pass until another token is asked for."""
        before = len(self.all(FetchToken))
        while len(self.all(FetchToken)) == before:
            assert self.machine.deadline() < math.inf
            self.tick_once()
        return self.all(FetchToken)[-1]

    def live_until_fetch(self, ends_at: float) -> None:
        """Let time pass, with renewals answered, until another token is asked for."""
        before = len(self.all(FetchToken))
        while len(self.all(FetchToken)) == before:
            self.tick_once()
            if self.recently_sent(Renew):
                self.arrive(self.renewed(credentials_ms=int((ends_at - self.now) * 1000)))
        assert self.mode == "live"

    def come_live(self, credentials_ms: int | None = HOUR_MS) -> Provided:
        self.open()
        self.give()
        self.live_with(credentials_ms)
        return self

    def live_with(self, credentials_ms: int | None = HOUR_MS) -> None:
        self.syncing(credentials_ms=credentials_ms)
        if self.mode != "live":
            self.arrive(self.subscribed(revision=10))
        assert self.mode == "live"
