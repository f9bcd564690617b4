"""Make a run of Trio repeatable: a seed for its scheduler, and a generator for each purpose.

Trio shuffles each batch of runnable tasks on purpose. The names used here are private; Hypothesis's plugin for Trio
uses the same ones. Only this module touches them, and it checks that they exist.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from random import Random
from typing import Any, NoReturn, final

import structlog
import trio
from trio._core import _run

LOG_LINES_MAX = 50
"""Last lines of the nodes' logs that are kept for the report of a failure."""


def check_scheduler() -> None:
    """Raise `RuntimeError` if the scheduler of this version of Trio cannot be seeded as we know it."""
    if not (isinstance(getattr(_run, "_r", None), Random) and hasattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")):
        raise RuntimeError(f"trio {trio.__version__} hides its scheduler's randomness: simulation cannot be repeated")


@contextmanager
def deterministic_scheduling(seed: int) -> Iterator[None]:
    """Make `trio.run` inside the block repeatable: one seed schedules tasks in one way, other seeds in others.

    Needs a `trio.testing.MockClock`, and no task that waits for a thread or a socket.
    """
    check_scheduler()
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()  # noqa: SLF001
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001
    _run._r.seed(f"{seed}/scheduler")  # noqa: SLF001
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # type: ignore[misc]  # noqa: SLF001
        _run._r.setstate(before[1])  # noqa: SLF001


@final
class Seeds:
    """A generator for each purpose, all from one seed: drawing more for one purpose changes no other."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def random(self, purpose: str) -> Random:
        """Return a new generator. Its state depends on nothing but the seed and the purpose, in every process."""
        return Random(f"{self.seed}/{purpose}")


@contextmanager
def captured_logs() -> Iterator[deque[str]]:
    """Keep the nodes' last log lines instead of printing them."""
    lines: deque[str] = deque(maxlen=LOG_LINES_MAX)

    def keep(_logger: Any, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        fields = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
        lines.append(f"{trio.current_time():.3f} {method}: {event.get('event')} {fields}")
        raise structlog.DropEvent

    before = structlog.get_config() if structlog.is_configured() else None
    websocket_log = logging.getLogger("trio-websocket")
    level = websocket_log.level
    websocket_log.setLevel(logging.CRITICAL)
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    try:
        yield lines
    finally:
        websocket_log.setLevel(level)
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)
