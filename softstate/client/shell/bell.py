"""Bells: how tasks wait for something that other code announces, without missing it."""

from __future__ import annotations

from typing import final

import anyio


@final
class Bell:
    """Wakes all tasks that wait for it whenever it is rung. Ringing costs next to nothing while none waits."""

    __slots__ = ("_waited",)

    def __init__(self) -> None:
        self._waited: anyio.Event | None = None

    def ring(self) -> None:
        """Wake all tasks that wait now. No method of the loop: any code of its thread may call it."""
        if self._waited is not None:
            self._waited.set()
            self._waited = None

    async def wait(self) -> None:
        """Wait until it is rung. Always safe to cancel."""
        if self._waited is None:
            self._waited = anyio.Event()
        await self._waited.wait()
