"""The bulkhead: an error that nobody foresaw ends the connection or the request that met it, and nothing else (S18).

This is the only module that may catch `Exception` (`tests/test_architecture.py` holds all others to that): what a peer
or a store can cause is caught where it is understood; anything else is a bug, and comes here. A bug is logged with
its traceback and counted (``softstate_bugs_total``). Its place decides what ends:

- a request over HTTP: it is answered 500, and its connection is closed;
- a WebSocket: it is closed with 1011, and its lease is given up, since nothing of its state can be relied on;
- a task of the node (accepting, the feed, batches, upkeep, the sweep): it goes on, after a pause;
- a turn of the hub: see `softstate.server.fanout.hub`. If it fails twice at one revision the node ends (`end_node`):
  it would otherwise certify what it did not deliver.

More than ``bugs_per_minute_max`` bugs within a minute drain the node: something is wrong that no restart of a
connection mends, and another process, or another machine, may not have it. Both ways the process ends with exit code
70, so that its supervisor starts it again.

Cancellation, Ctrl-C and the end of the interpreter are no errors, and pass; a group that holds both is split. A
`MemoryError` or a `RecursionError` is a bug like others: ending what met it is what frees memory and stack.

(Release It!, Nygard 2007, has the pattern and its name, after the compartments of a ship.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, ClassVar, final

import structlog
import trio

from softstate.errors import Unavailable
from softstate.lease import Lease, Sink
from softstate.wire.push import PushBatch

MINUTE_S = 60.0

PER_MINUTE_MAX = 100
"""Default for how many bugs a minute a node outlives."""

RETRY_S = 1.0
"""Pause of a task of the node after a bug, in seconds."""

BUG_RETRY_MS = 1_000
"""Delay after which a client is told to try again if its request met a bug."""

log = structlog.get_logger("softstate.bulkhead")


class Failed(Unavailable):
    """A request met a bug of this node: its outcome is unknown. Over HTTP it is a 500."""

    http_status = 500


def failed(what: str) -> Failed:
    """Return the error for a request that met a bug; `what` names the kind of work."""
    return Failed(
        f"this node met an error of its own ({what}), and has logged it: try again, or ask another node",
        retry_ms=BUG_RETRY_MS,
    )


@final
class Bulkhead:
    """Contains the bugs of one node.

    `strict`, for tests and simulation, contains none: each is raised where it was met.
    """

    strict_by_default: ClassVar[bool] = False
    """The value of `strict` where none is given. The tests set it."""

    def __init__(self, *, strict: bool | None = None, now: Callable[[], float] = trio.current_time) -> None:
        self.bugs = 0
        """The number of bugs met so far."""
        self.fatal: str | None = None
        """The reason to end the process with exit code 70; None as long as there is none."""
        self.strict = self.strict_by_default if strict is None else strict
        self._per_minute_max = PER_MINUTE_MAX
        self._flooded: Callable[[], object] = lambda: None
        self._now = now
        self._recent: deque[float] = deque()
        self._ending = trio.Event()
        self._failing = trio.Event()

    def limit(self, per_minute_max: int, flooded: Callable[[], object]) -> None:
        """Have `flooded` called, once, when more than `per_minute_max` bugs were met within a minute."""
        self._per_minute_max = per_minute_max
        self._flooded = flooded

    # Containing -----------------------------------------------------------------------------------------------------

    def contain(
        self,
        where: str,
        then: Callable[[], object] | None = None,
        *,
        passing: type[Exception] | tuple[()] = (),
        counted: bool = True,
        **context: object,
    ) -> Contained:
        """Return a context manager that ends its block at a bug; `failed` tells so afterwards.

        `then` is called once if it does. Errors of the type `passing` are foreseen, and pass. Without `counted` the
        bug is neither logged nor counted: its caller knows that it repeats one. `context` goes into the log.
        """
        return Contained(self, where, then, passing, context if counted else None)

    def each(
        self,
        where: str,
        call: Callable[..., object],
        *arguments: Iterable[Any],
        failed: Callable[[Any], object] | None = None,
    ) -> None:
        """Call with each item of `arguments`, as `map` does; a bug in one call leaves the others alone.

        `failed` is then called with the first argument of that call. Costs a call nothing while there is no bug.
        """
        for items in zip(*arguments, strict=False):
            try:
                call(*items)
            except Exception as error:
                self.met(where, error)
                if failed is not None:
                    self.attempt(failed, items[0])

    def offer(
        self, leases: Iterable[Lease], batch: PushBatch, now: float
    ) -> tuple[int, Sequence[tuple[Sink, Exception]]]:
        """Offer a batch to the connections of leases that live at `now`; return how many these were.

        And those that failed, each with its error: the hub decides what it means. A loop of its own, since nearly all
        the work of a node passes here, and ``try`` costs it nothing.
        """
        offered = 0
        failures: list[tuple[Sink, Exception]] = []
        for lease in leases:
            sink = lease.sink
            if sink is None or lease.deadline < now:
                continue
            offered += 1
            try:
                sink.offer(batch)
            except Exception as error:
                failures.append((sink, error))
        return offered, failures

    def attempt(self, call: Callable[..., object], *arguments: object) -> Exception | None:
        """Call; return the error that it raised, neither logged nor counted, or None."""
        try:
            call(*arguments)
        except Exception as error:
            return error
        return None

    def met(self, where: str, error: BaseException, **context: object) -> None:
        """Log and count a bug. If strict, raise it."""
        if self.strict:
            raise error
        self.bugs += 1
        # Logging fails when its file is on a full disk, or nobody reads its pipe: that must not end anything either.
        self.attempt(lambda: log.error("bug", where=where, bugs=self.bugs, exc_info=error, **context))
        now, recent = self._now(), self._recent
        recent.append(now)
        while recent[0] < now - MINUTE_S:
            recent.popleft()
        if len(recent) > self._per_minute_max and self.fatal is None:
            self.fatal = f"it met more than {self._per_minute_max} bugs within a minute (bugs_per_minute_max)"
            self._failing.set()
            self.attempt(lambda: log.error("node drains", because=self.fatal))
            self.attempt(self._flooded)

    # Ending the node ------------------------------------------------------------------------------------------------

    def end_node(self, why: str) -> None:
        """Have the process end at once: to go on would break a promise."""
        self.fatal = why
        self._failing.set()
        self.attempt(lambda: log.error("node ends", because=why))
        self._ending.set()

    @property
    def ending(self) -> bool:
        """Whether the process ends at once."""
        return self._ending.is_set()

    async def wait_ending(self) -> None:
        """Return once the process is to end at once."""
        await self._ending.wait()

    async def wait_fatal(self) -> None:
        """Return once there is a reason to end the process, at once or after a drain: `fatal`."""
        await self._failing.wait()


@final
class Contained:
    """The block of `Bulkhead.contain`."""

    __slots__ = ("_bulkhead", "_context", "_passing", "_then", "_where", "failed")

    def __init__(
        self,
        bulkhead: Bulkhead,
        where: str,
        then: Callable[[], object] | None,
        passing: type[Exception] | tuple[()],
        context: dict[str, object] | None,
    ) -> None:
        self.failed = False
        """Whether a bug has ended the block."""
        self._bulkhead = bulkhead
        self._where = where
        self._then = then
        self._passing = passing
        self._context = context

    def __enter__(self) -> Contained:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, self._passing):
            return False
        bug, others = _split(error, self._passing)
        if bug is None:
            return False
        if self._bulkhead.strict:
            return False
        self.failed = True
        if self._context is not None:
            self._bulkhead.met(self._where, bug, **self._context)
        if self._then is not None and (second := self._bulkhead.attempt(self._then)) is not None:
            self._bulkhead.met(f"{self._where}, when it was ended", second)
        if others is not None:
            raise others
        return True


def _split(
    error: BaseException, passing: type[Exception] | tuple[()]
) -> tuple[BaseException | None, BaseException | None]:
    """Take an error apart: the bugs in it, and what is none, such as a cancellation."""
    if not isinstance(error, BaseExceptionGroup):
        return (error, None) if isinstance(error, Exception) else (None, error)
    # `split` asks about whole groups first, and a group of bugs is an `Exception` itself.
    return error.split(lambda one: isinstance(one, Exception) and not isinstance(one, (BaseExceptionGroup, passing)))
