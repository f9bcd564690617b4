"""Which URLs refuse connections: what all paths of a client share, so that it does not knock twice at one closed door.

A dial is *refused* if no connection came to be: no process listens there, so the other path would meet the same. Each
refusal draws the time of the next dial to its URL (P-CLI-13); until then neither path dials, and then one dial, the
*probe*, decides for both.

A client draws its place in the advised spread once, and dials again one spread later: so a node is met by an even
stream of N / spread dials a second, however long it was away. (Drawing from U(0, spread) each time, the clients of a
node that was away for one spread would arrive at e times that rate, and after a long absence at twice.) Where the
spread is short, the wait is drawn up to half of the time for which the URL has refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from softstate.client.machine.backoff import Advice

OF_ABSENCE = 0.5
"""Part of the time for which a URL has refused within which the next dial to it is drawn, between base and cap."""


@dataclass(slots=True)
class _Refusing:
    """One URL that refuses: since when, and when the next dial to it may begin."""

    since: float
    allowed_at: float


class Reach:
    """The URLs that refused the last dial. Times are seconds on the machine's clock."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._refusing: dict[str, _Refusing] = {}

    def refused(self, url: str, now: float, advice: Advice, spread_s: float, *, placed: bool) -> None:
        """Take note that no connection to `url` came to be; draw when the next dial to it may begin.

        `placed`: the time of this dial was drawn from a spread itself, as that of every probe was.
        """
        known = self._refusing.get(url)
        if known is None:
            known = self._refusing[url] = _Refusing(now, now)
        else:
            placed = True
        draw = self._random.uniform
        bound_s = min(advice.cap_s, max(advice.base_s, OF_ABSENCE * (now - known.since)))
        known.allowed_at = now + max(spread_s if placed else draw(0.0, spread_s), draw(0.0, bound_s))

    def wait(self, url: str, now: float, until: float) -> None:
        """Take note that no connection to `url` came to be, whose next dial is planned for `until` already."""
        self._refusing.setdefault(url, _Refusing(now, now)).allowed_at = until

    def reached(self, url: str) -> bool:
        """Take note of any other outcome of a dial; tell whether `url` had refused before."""
        return self._refusing.pop(url, None) is not None

    def probe(self, url: str, until: float) -> None:
        """Take note that a dial to `url` begins, which is the only one until `until` or until its outcome is known."""
        if (known := self._refusing.get(url)) is not None:
            known.allowed_at = until

    def refuses(self, url: str) -> bool:
        """Tell whether the last dial to `url` was refused."""
        return url in self._refusing

    def allowed_at(self, url: str) -> float:
        """Return from when on `url` may be dialled: minus infinity unless it refuses."""
        known = self._refusing.get(url)
        return -math.inf if known is None else known.allowed_at
