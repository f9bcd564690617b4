"""The conformance test of `softstate.store.base.Store`, for every engine, ours and yours.

Write a small class that can open your store on one truth (`Truth`; with `snapshot` and `restore` too if it can be put
back, `Rewindable`), and run every check on a fresh one of it::

    async def test_contract():
        await check_store(MyTruth.create)

or, to see the checks one by one, `run_check` for each of `STORE_CHECKS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from softstate.testing.conformance.dump import CHECKS as DUMP_CHECKS
from softstate.testing.conformance.history import CHECKS as HISTORY_CHECKS, REWINDS
from softstate.testing.conformance.publish import CHECKS as PUBLISH_CHECKS
from softstate.testing.conformance.read import CHECKS as READ_CHECKS
from softstate.testing.conformance.stage import Stage, Truth

StoreCheck: TypeAlias = Callable[[Stage], Awaitable[None]]
"""One check: raises AssertionError with the rule that the store breaks."""

STORE_CHECKS: tuple[StoreCheck, ...] = (*PUBLISH_CHECKS, *READ_CHECKS, *HISTORY_CHECKS, *DUMP_CHECKS)
"""Every check of the contract."""

REWIND_CHECKS: tuple[StoreCheck, ...] = REWINDS
"""Those of them that do nothing if the truth is not `Rewindable`."""


async def check_store(fresh: Callable[[], Awaitable[Truth]]) -> None:
    """Hold a store to its contract. `fresh` makes an empty truth, once for each check.

    Raises AssertionError that names the check and the rule. What the store raises unasked comes through as it is.
    """
    for check in STORE_CHECKS:
        await run_check(check, await fresh())


async def run_check(check: StoreCheck, truth: Truth) -> None:
    """Run one check on an empty truth, and close the stores that it opened."""
    stage = Stage(truth)
    try:
        await check(stage)
    except AssertionError as error:
        name = getattr(check, "__name__", "check")
        raise AssertionError(f"{name.replace('_', ' ')}: {error}") from error
    finally:
        await stage.aclose()
