"""The audit log: which credentials and handshakes were refused, who was denied what, and who met a limit.

It holds no token, key or value.

Anybody can cause a line with each request, so there is at most one a second for each check that refuses credentials,
for each reason for which TLS ends connections, for each principal that is denied something, and for each limit that it
meets; `left_out` tells how many were left out before, if any were. A policy may take names from all principals in one
moment: lines about principals and addresses are limited together, too (`LINES_PER_S`), and the next line of any kind
tells by `others_left_out` how many of those were left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import structlog

from softstate.auth.digests import digest_of
from softstate.auth.identity import Identity
from softstate.auth.rates import Rates
from softstate.auth.remembering import remember
from softstate.auth.rules import Action
from softstate.errors import Unauthenticated

EVERY_S = 1.0
"""Least time between two lines of one kind, in seconds."""

LINES_PER_S = 200
"""Most lines a second about principals and addresses, whichever these are..."""

LINES_AT_ONCE = 100
"""... and most of them at once, in one turn of the loop: 40 us each."""

KINDS_KEPT = 1_024
"""Kinds of lines, most of them principals, for which the last is remembered; the oldest are forgotten first."""

DIGEST_SHOWN = 8
"""Characters of a token's digest that are logged: enough to find it among few, too few to be of use."""

log = structlog.get_logger("softstate.audit")


@final
class Audit:
    """Writes the audit log of one node. `now` is in seconds; with `hashed`, a principal is shown as its digest."""

    def __init__(self, now: Callable[[], float], *, hashed: bool = False) -> None:
        self._now = now
        self._hashed = hashed
        self._last: dict[str, tuple[float, int]] = {}
        self._lines: Rates[None] = Rates(LINES_PER_S, LINES_AT_ONCE / LINES_PER_S)
        self._others_left_out = 0

    def refused(self, error: Unauthenticated, token: str | None, peer: str = "") -> None:
        """Tell that credentials were refused that came from the address `peer`."""
        why = error.why or "unknown"
        left_out = self._due(why)
        if left_out is not None:
            shown = None if token is None else digest_of(token)[:DIGEST_SHOWN]
            fields = {"why": why, "peer": peer or None, "token": shown, "because": error.message}
            log.info("credentials refused", **fields, **self._told(left_out))

    def denied(self, identity: Identity, action: Action, names: Sequence[str], peer: str = "") -> None:
        """Tell that a principal at the address `peer` was denied these names, of which the first is shown."""
        who = self.shown(identity)
        left_out = self._due(f"denied {who}", of_many=True)
        if left_out is not None:
            fields = {"who": who, "peer": peer or None, "action": action, "name": names[0], "names": len(names)}
            log.info("denied", **fields, **self._told(left_out))

    def limited(self, limit: str, identity: Identity | None, address: str) -> None:
        """Tell that a limit was met: by whom, or else from which address. Nobody meets a limit of the node itself."""
        if identity is None:
            who = address or None
        else:
            who = address or "anyone" if identity.is_anonymous else self.shown(identity)
        left_out = self._due(f"limit {limit} {who}", of_many=True)
        if left_out is not None:
            log.info("limit hit", limit=limit, who=who, **self._told(left_out))

    def tls_failed(self, what: str, because: str, peer: str) -> None:
        """Tell that TLS has ended a connection from the address `peer`: in its handshake, or later."""
        left_out = self._due(f"TLS {because}")
        if left_out is not None:
            log.info(f"TLS {what}", because=because, peer=peer or None, **self._told(left_out))

    def shown(self, identity: Identity) -> str:
        """Return how a principal is named in the log."""
        if identity.is_anonymous:
            return "anyone"
        return identity.digest if self._hashed else f"{identity.subject} of {identity.issuer}"

    def _due(self, kind: str, *, of_many: bool = False) -> int | None:
        """Return how many lines of a kind were left out before the one that is due; None if this is left out, too.

        With `of_many`, it is one of any number of kinds.
        """
        now = self._now()
        told_at, left_out = self._last.get(kind, (-EVERY_S, 0))
        if now - told_at < EVERY_S:
            self._last[kind] = told_at, left_out + 1
            return None
        if of_many:
            if self._lines.wait_s(None, now):
                self._others_left_out += 1
                return None
            self._lines.charge(None, now)
        self._last.pop(kind, None)
        remember(self._last, kind, (now, 0), KINDS_KEPT)
        return left_out

    def _told(self, left_out: int) -> dict[str, int]:
        others, self._others_left_out = self._others_left_out, 0
        told = {"left_out": left_out, "others_left_out": others}
        return {name: count for name, count in told.items() if count}
