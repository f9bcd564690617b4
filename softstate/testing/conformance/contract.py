"""The conformance test of `softstate.store.base.Store`, for every engine, ours and yours.

Write a small class that opens your store on one place for its data (`Backend`; if a backup can be taken of that place
and put back, `Rewindable` too; if it can be opened to read only, `Readable`), and run every check on a new one of it::

    async def test_contract():
        await check_store(MyBackend.create)

or, to see the checks one by one, `run_check` for each of `STORE_CHECKS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from softstate.testing.conformance.dump import CHECKS as DUMP_CHECKS
from softstate.testing.conformance.history import CHECKS as HISTORY_CHECKS, REWINDS
from softstate.testing.conformance.publish import CHECKS as PUBLISH_CHECKS
from softstate.testing.conformance.publishers import CHECKS as PUBLISHER_CHECKS
from softstate.testing.conformance.read import CHECKS as READ_CHECKS
from softstate.testing.conformance.stage import Backend, Stage

StoreCheck: TypeAlias = Callable[[Stage], Awaitable[None]]
"""One check: raises AssertionError with the rule that the store breaks."""

STORE_CHECKS: tuple[StoreCheck, ...] = (*PUBLISH_CHECKS, *PUBLISHER_CHECKS, *READ_CHECKS, *HISTORY_CHECKS, *DUMP_CHECKS)
"""Every check of the contract."""

REWIND_CHECKS: tuple[StoreCheck, ...] = REWINDS
"""The checks among them that do nothing unless the backend is `Rewindable`."""


async def check_store(fresh: Callable[[], Awaitable[Backend]]) -> None:
    """Run every check on a store. `fresh` makes an empty backend, once for each check.

    Raises AssertionError that names the check and the rule. Other errors that the store raises pass through unchanged.
    """
    for check in STORE_CHECKS:
        await run_check(check, await fresh())


async def run_check(check: StoreCheck, backend: Backend) -> None:
    """Run one check on an empty backend, and close the stores that it opened."""
    stage = Stage(backend)
    try:
        await check(stage)
    except AssertionError as error:
        name = getattr(check, "__name__", "check")
        raise AssertionError(f"{name.replace('_', ' ')}: {error}") from error
    finally:
        await stage.aclose()
