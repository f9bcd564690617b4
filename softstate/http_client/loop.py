"""The loop that runs this code: Trio or asyncio. The rest of the client's I/O is written once, on anyio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, cast

import sniffio
import trio

Loop = Literal["trio", "asyncio"]

LOOPS = ("trio", "asyncio")


class NoLoop(RuntimeError):
    """The calling code is run neither by Trio nor by asyncio. `str` says what to do."""


def running_loop() -> Loop:
    """Return which loop runs the calling task. Raises `NoLoop`."""
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        library = "no loop"
    if library not in LOOPS:
        text = f"softstate's client needs Trio or asyncio, and {library} runs this code"
        raise NoLoop(f"{text}: start your program with trio.run(main) or asyncio.run(main())")
    return cast("Loop", library)


def loop_clock() -> Callable[[], float]:
    """Return the clock of the running loop, in seconds: what `anyio.current_time` reads, without looking for it."""
    return trio.current_time if running_loop() == "trio" else asyncio.get_running_loop().time
