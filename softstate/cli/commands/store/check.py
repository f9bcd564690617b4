"""``softstate store check``: hold an engine to the contract of a store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from softstate.cli import exit_codes
from softstate.cli.commands.store.opening import DEFAULT_STORE, StoreUrl, reading
from softstate.cli.processes.interrupt import interruptible
from softstate.cli.visible import visible
from softstate.errors import SoftstateError, StoreMissing, StoreRefused, Unavailable

if TYPE_CHECKING:
    from softstate.testing import StoreCheck


async def command(*, store: StoreUrl = DEFAULT_STORE) -> int:
    """Check every row of a store, and that its engine does all that softstate needs of it.

    Every topic whose record is unreadable is named, and rows that have vanished are counted. The engine is then checked
    in a scratch store: the store itself is not touched. It is a file in a directory of its own beside the store, or a
    namespace of its own in the same server, which is deleted in the end. Takes some seconds. Exit code 1 if a check
    fails.
    """
    return await interruptible(partial(_check, store))


async def _check(store: str) -> int:
    # All but --help needs these: tools to test with, of no use to a node.
    from softstate.cli.commands.store.scratch import scratch  # noqa: PLC0415
    from softstate.testing import REWIND_CHECKS, STORE_CHECKS, Rewindable  # noqa: PLC0415

    looked_at, faults = await _audit(store)
    async with scratch(store) as backend:
        opened = await backend.open()
        print(f"durability: {opened.durability}", flush=True)
        for warning in opened.warnings:
            print(f"warning: acknowledged publishes may be lost: {visible(warning)}", flush=True)
        await opened.aclose()
    checks = STORE_CHECKS
    if not isinstance(backend, Rewindable):
        checks = tuple(check for check in checks if check not in REWIND_CHECKS)
        print(f"left out, since only the engine can put back a backup of its own: {len(REWIND_CHECKS)} checks")
    broken = int(bool(faults))
    for check in checks:
        name, error = await _run(check, store)
        print(f"ok      {name}" if error is None else f"BROKEN  {name}: {visible(error)}", flush=True)
        broken += error is not None
    count = len(checks) + looked_at
    print(f"{count - broken} of {count} checks passed")
    return exit_codes.BROKEN if broken else exit_codes.OK


async def _audit(url: str) -> tuple[bool, Sequence[str]]:
    """Look at every row, and print what is wrong; return whether there was a store, and its faults."""
    if url == "memory:":
        return False, ()
    try:
        async with reading(url) as opened:
            faults = await opened.audit()
    except StoreMissing:
        print("left out, since there is no store yet: its rows", flush=True)
        return False, ()
    except (StoreRefused, Unavailable) as error:
        faults = [str(error)]
    for fault in faults:
        print(f"BROKEN  rows: {visible(fault)}", flush=True)
    if not faults:
        print("ok      rows", flush=True)
    return True, faults


async def _run(check: StoreCheck, url: str) -> tuple[str, str | None]:
    """Run one check; return its name, and what is wrong."""
    from softstate.cli.commands.store.scratch import scratch  # noqa: PLC0415
    from softstate.testing import run_check  # noqa: PLC0415

    name = getattr(check, "__name__", "check").replace("_", " ")
    async with scratch(url) as backend:
        try:
            await run_check(check, backend)
        except (AssertionError, SoftstateError, ExceptionGroup) as raised:
            error = exit_codes.leaf(raised)
            if not isinstance(error, AssertionError | SoftstateError):
                raise
            return name, str(error).removeprefix(f"{name}: ")
    return name, None
