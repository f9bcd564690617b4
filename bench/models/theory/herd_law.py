"""The return of N clients to a node that serves μ of them a second: when it ends, how fast it can be, and its shape.

The collapse law: a node without shedding also serves those who have given up. Of N clients, μq are served before their
timeout q; the others come back every q + b seconds, with b their mean backoff, and so offer (N - μq)/(q + b) a second.
The herd never ends if that exceeds μ, that is, if N/μ > 2q + b. It is a metastable failure (Bronson et al., HotOS
2021). Derived.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def mean_backoff_s(cap_s: float) -> float:
    """Return the mean wait of full jitter at its cap."""
    return cap_s / 2


def frontier_s(timeout_s: float, backoff_s: float) -> float:
    """Return the N/μ beyond which a herd never ends."""
    return 2 * timeout_s + backoff_s


def least_s(clients: int, per_s: float) -> float:
    """Return the time that any return takes at least."""
    return clients / per_s


def spread_share(at_s: float, spread_s: float) -> float:
    """Return the part of the clients that have dialled by a time, if each waits a uniform part of a spread."""
    return min(max(at_s / spread_s, 0.0), 1.0)


def residual_share(at_s: float, cap_s: float) -> float:
    """Return the part of clients in long backoff that have dialled by a time.

    Waits are uniform up to the cap, so that the rest of a wait that is under way has a falling density.
    """
    part = min(max(at_s / cap_s, 0.0), 1.0)
    return 2 * part - part**2


def residual_peak_per_s(clients: int, cap_s: float) -> float:
    """Return the greatest rate at which clients in long backoff dial: in the moment in which the node is back."""
    return 2 * clients / cap_s


def silent_share(at_s: float, cap_s: float, timeout_s: float, steps: int = 100) -> float:
    """Return the part of the clients that have dialled a node by a time, which did not answer at all before.

    A cycle of a client is a dial, which takes the timeout, and a wait. Those in a wait have its rest to go, those that
    dial have the rest of the timeout and a whole wait.
    """
    waiting = mean_backoff_s(cap_s) / (timeout_s + mean_backoff_s(cap_s))
    rests = [timeout_s * (step + 0.5) / steps for step in range(steps)]
    dialling = sum(spread_share(at_s - rest, cap_s) for rest in rests) / steps
    return waiting * residual_share(at_s, cap_s) + (1 - waiting) * dialling


def silent_back_share(at_s: float, cap_s: float, timeout_s: float, base_s: float, steps: int = 20) -> float:
    """Return the part of the clients that is back by a time, if every second attempt is a poll.

    Those that a poll tells that the node is there connect within their first backoff, U(0, `base_s`).
    """
    waits = [base_s * (step + 0.5) / steps for step in range(steps)]
    told = sum(silent_share(at_s - wait, cap_s, timeout_s) for wait in waits) / steps
    return (silent_share(at_s, cap_s, timeout_s) + told) / 2


def fullest_share(periods: int, each: float) -> float:
    """Return what the fullest of so many equal periods has at most, over the mean of an even stream of `each`.

    Counts are Poisson, about normal; one of a hundred streams exceeds it by chance.
    """
    return 1 + NormalDist().inv_cdf(1 - 0.01 / max(periods, 1)) / math.sqrt(each)


def silent_peak_per_s(clients: int, cap_s: float, timeout_s: float) -> float:
    """Return the greatest rate at which they dial: once each cycle."""
    return clients / (timeout_s + mean_backoff_s(cap_s))
