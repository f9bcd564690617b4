"""Mutants of a session's permissions: each takes one rule of P-AUTH out of the product by a patch."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import pytest

from softstate.lease.table import Lease, LeaseTable
from softstate.session import Effect, credentials, renewal, subscription
from softstate.session.state import SessionCore

Patch = pytest.MonkeyPatch


def names_are_not_judged(patch: Patch) -> None:
    """Every name enters the lease."""

    def none(*_args: object) -> Generator[int, None, list[str]]:
        yield from ()
        return []

    patch.setattr(subscription, "unreadable_names", none)


def leases_are_not_judged_again(patch: Patch) -> None:
    """A renewal takes no names out of the lease."""

    def nothing(session: SessionCore, lease: Lease) -> Generator[int, None, list[Effect]]:
        yield from ()
        session.leases.belong(lease, session.identity)
        return []

    for module in (renewal, subscription, credentials):
        patch.setattr(module, "judge_again", nothing)


def rules_are_not_compared(patch: Patch) -> None:
    """A session goes by the credentials of its hello, whether they are still good or not."""
    patch.setattr(SessionCore, "credentials", lambda self, now: self.identity)


def leases_outlive_credentials(patch: Patch) -> None:
    """A lease goes on beyond the end of the credentials."""

    def grant(self: LeaseTable, *args: Any, **kwargs: Any) -> Lease:
        lease = _grant(self, *args, **kwargs)
        lease.until, lease.deadline = math.inf, lease.deadline + 60.0
        return lease

    _grant = LeaseTable.grant
    patch.setattr(LeaseTable, "grant", grant)
    patch.setattr(LeaseTable, "belong", lambda self, lease, identity: setattr(lease, "identity", identity))
