"""Tokens that are not good, by the address that presents them: to find out takes up to 230 us each (P-AUTH-11).

So an address may fail so often a second, and further tokens of it are not looked at for a while; those that were
verified before are remembered, and cost nothing. Only tokens count that never were good here (`COUNTED`). One that has
expired, was revoked, is good for too long, or is signed by a key that is gone is an ordinary one, of which all clients
behind one address may present theirs at once, and then others that are good. One token counts once. A ticket that
never was counts each time: to find out takes a read of the store.

Sans-I/O: `now` is in seconds of one clock that never goes back; random draws are the caller's.
"""

from __future__ import annotations

import math
from typing import final

from softstate.auth.identity import Why, refused
from softstate.auth.rates import Rates
from softstate.auth.remembering import remember
from softstate.errors import Overloaded, Unauthenticated

FAILURES = "auth_failures_per_s"
"""The limit, as options and errors name it."""

BURST = 30
"""Failures of one address that may come at once."""

SPREAD_S = 10.0
"""Time over which clients are spread whose tokens are not looked at now, beyond the time that each has to wait."""

REMEMBERED_MAX = 4_096
"""Tokens that are remembered as not good: 2 MiB at most. The first ones are forgotten first."""

COUNTED = frozenset({Why.MALFORMED, Why.SIGNATURE, Why.ISSUER, Why.AUDIENCE, Why.BOUND})
"""The checks whose refusals count. None of them lets a token pass later, as long as the rules are the same."""


@final
class Failures:
    """The failures of all addresses at one node: `per_s` of each may be looked at, and `BURST` at once."""

    def __init__(self, per_s: float) -> None:
        self._rates: Rates[str] = Rates(per_s, BURST / per_s)
        self._not_good: dict[bytes, tuple[int, str, str]] = {}

    def check(self, digest: bytes, address: str, generation: int, now: float, drawn: float) -> None:
        """Raise what is known of a token, by its digest, under the rules of a `generation`.

        That is `Unauthenticated` if it is not good, `Overloaded` if it will not be looked at now; `drawn` is a random
        number from 0 to 1.
        """
        known = self._not_good.get(digest)
        if known is not None and known[0] == generation:
            raise refused(Why(known[1]), known[2])
        wait_s = self._rates.wait_s(address, now)
        if wait_s:
            retry_ms = math.ceil((wait_s + drawn * SPREAD_S) * 1000)
            text = f"too many tokens that are not good came from your address ({FAILURES}): keep yours, and present it"
            raise Overloaded(f"{text} again in {retry_ms} ms", retry_ms=retry_ms, why=FAILURES)

    def note(self, digest: bytes, address: str, generation: int, now: float, error: Unauthenticated) -> None:
        """Note that a token was looked at and refused."""
        if error.why not in COUNTED:
            return
        known = self._not_good.pop(digest, None)
        remember(self._not_good, digest, (generation, str(error.why), error.message), REMEMBERED_MAX)
        if known is None or known[0] != generation:
            self.charge(address, now)

    def charge(self, address: str, now: float) -> None:
        """Count a failure of an address."""
        self._rates.charge(address, now)
