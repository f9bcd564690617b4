"""Set-up for all tests: markers, order and units by place, and the rule that only some start processes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator
from typing import Any

import pytest
import structlog
from xdist.scheduler import LoadScopeScheduling

from softstate.server.bulkhead import Bulkhead
from tests.kit.temporary import put_in_memory
from tests.places import markers_of, order_of, unit_of

put_in_memory()

# A shell that starts the tests in the background has them ignore Ctrl-C, and so does every process that they start:
# a child that is to be interrupted would then wait without end.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An error that nobody foresaw fails its test, instead of ending one connection of a node that the test runs.
Bulkhead.strict_by_default = True

WORKERS_MAX = 8
"""How many tests run at once with ``-n auto``, at most: more would only wait for those that start nodes."""

STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})
"""Audit events of Python at the start of a process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test as its place says, and put those first that take longest, for the sake of parallel runs."""
    items.sort(key=lambda item: order_of(item.nodeid))
    for item in items:
        for marker in markers_of(item.nodeid):
            item.add_marker(marker)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without collections of garbage, and leave what was made from all later ones.

    Next to nothing of it is garbage; a full collection took 0.4 s with it, in every process of a parallel run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class Units(LoadScopeScheduling):  # type: ignore[misc]  # the package has no types
    """Gives out the units of `tests.places`, in the order of the collection.

    The marker `xdist_group` would say the same, but has no effect with pytest 9.2 (pytest-xdist 3.8, issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Units:
    """Give the tests out by units, and not those of most tests first: `pytest_collection_modifyitems` has the order."""
    config.option.loadscopereorder = False
    return Units(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Say what ``auto`` means in ``-n auto``: two processes for each core that this one may use, few in all.

    For a third of their time, tests of engines and processes wait for a server's time-out or a process's start.
    """
    return min(2 * len(os.sched_getaffinity(0)), WORKERS_MAX)


class _Watch:
    """Whether the test that runs now may start processes."""

    allowed = True

    def hear(self, event: str, _: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event in STARTS and not self.allowed:
            raise AssertionError("a test that starts a process needs the marker `processes`: see tests/places.py")


_WATCH = _Watch()
sys.addaudithook(_WATCH.hear)


@pytest.fixture(autouse=True)
def _logging_is_left_alone() -> Generator[None]:
    """Fail a test that leaves log lines going to its own stderr: every later test that logs would fail instead."""
    yield
    left = structlog.get_config()["cache_logger_on_first_use"]
    structlog.reset_defaults()
    assert not left, "replace configure_logging in this test: it has configured structlog"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let only those tests start processes that are marked so."""
    _WATCH.allowed = not {"processes", "engines"}.isdisjoint(markers_of(item.nodeid))
    try:
        return (yield)
    finally:
        _WATCH.allowed = True
