"""How long a lease should be, and whether there should be one: Gray and Cheriton, SOSP 1989.

Their lease lets a client read a copy without asking, and lets a writer wait for all who hold one. The longer its term,
the fewer extensions; the more of them share, the more approvals a write needs. softstate's lease blocks no write, so
that the approvals fall away, and the same question becomes: lease, or poll at the same staleness?

From two independent sets of notes on the paper; the part on softstate is derived.
"""

from __future__ import annotations

import math


def consistency_load(readers: int, read_per_s: float, write_per_s: float, sharing: int, term_s: float) -> float:
    """Return the messages a second that a file server handles to keep N clients' copies consistent, as published.

    Each of N clients reads at rate R and writes at rate W; a write needs the approval of S holders, if the term is
    above 0 and there is more than one. A read within the term costs nothing.
    """
    extensions = 2 * readers * read_per_s / (1 + read_per_s * term_s)
    approvals = readers * sharing * write_per_s if term_s > 0 and sharing > 1 else 0.0
    return extensions + approvals


def relative_load(read_per_s: float, term_s: float) -> float:
    """Return the extensions at a term over those at a term of zero."""
    return 1 / (1 + read_per_s * term_s)


def worthwhile_term_s(read_per_s: float, write_per_s: float, sharing: int) -> float:
    """Return the term above which leases load the server less than a term of zero; infinity if none does."""
    benefit = 2 * read_per_s / (sharing * write_per_s)
    return 1 / (read_per_s * (benefit - 1)) if benefit > 1 else math.inf


def poll_cost_per_s(stale_s: float) -> float:
    """Return the exchanges a second of a client that polls so as to be at most `stale_s` behind."""
    return 1 / stale_s


def lease_cost_per_s(renew_s: float, change_per_s: float) -> float:
    """Return the renewals and pushes a second of a client with a lease."""
    return 1 / renew_s + change_per_s


def crossover_per_s(stale_s: float, renew_s: float) -> float:
    """Return the rate of changes below which the lease costs less than polling; 0 if it never does."""
    return max(1 / stale_s - 1 / renew_s, 0.0)
