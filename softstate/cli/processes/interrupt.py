"""Signals as cancellation, for commands that have to clean up."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from softstate.cli import exit_codes


async def interruptible(work: Callable[[], Awaitable[int]]) -> int:
    """Run `work` and return its exit code; cancel it at the first signal that ends it, and return `INTERRUPTED`.

    These are SIGINT, SIGTERM and, unless it is ignored (as under nohup), SIGHUP: a terminal that goes away sends it.

    Python would raise `KeyboardInterrupt` between any two steps, also between creating a file and remembering that
    it was created, or in the middle of cleaning up; and the others would end the process there. A cancellation comes
    only where Trio waits, and a shield holds it off. Raises what `work` raises, in a group.
    """
    code = exit_codes.INTERRUPTED
    hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *hang_up) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_signal, signals, nursery.cancel_scope)
            code = await work()
            nursery.cancel_scope.cancel()
    return code


async def _cancel_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()
