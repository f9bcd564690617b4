"""The bulkhead alone: what it contains, what it lets pass, and when it gives the node up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog.testing
import trio

from softstate.server.bulkhead import MINUTE_S, Bulkhead, failed

BUGS: list[Exception] = [
    ZeroDivisionError("oh"), AssertionError("oh"), MemoryError("oh"), RecursionError("oh"), OSError("oh"),
    ExceptionGroup("oh", [ValueError("a"), ExceptionGroup("oh", [KeyError("b")])]),
]  # fmt: skip
NO_BUGS: list[BaseException] = [
    KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BaseExceptionGroup("", [KeyboardInterrupt()]),
]  # fmt: skip


class Foreseen(Exception):
    pass


def soft(now: Callable[[], float] = lambda: 0.0) -> Bulkhead:
    return Bulkhead(strict=False, now=now)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: type(bug).__name__)
def test_a_bug_ends_its_block_and_is_logged_with_its_traceback_and_counted(bug: Exception) -> None:
    bulkhead, ended = soft(), []
    with structlog.testing.capture_logs() as logs:
        with bulkhead.contain("here", lambda: ended.append(1), peer="someone") as block:
            raise bug
        assert (block.failed, bulkhead.bugs, ended) == (True, 1, [1])
    (line,) = logs
    assert (line["event"], line["where"], line["peer"]) == ("bug", "here", "someone")
    assert repr(line["exc_info"]) == repr(bug)


@pytest.mark.parametrize("error", NO_BUGS, ids=lambda error: type(error).__name__)
def test_what_is_no_error_passes(error: BaseException) -> None:
    bulkhead = soft()
    with pytest.raises(type(error)), bulkhead.contain("here") as block:
        raise error
    assert (block.failed, bulkhead.bugs) == (False, 0)
    with pytest.raises(type(error)):
        bulkhead.each("here", _raise, [error])
    with pytest.raises(type(error)):
        bulkhead.attempt(_raise, error)
    assert bulkhead.bugs == 0


def _raise(error: BaseException) -> None:
    raise error


def test_a_group_of_bugs_and_others_is_split() -> None:
    bulkhead = soft()
    group = BaseExceptionGroup("", [ValueError("bug"), BaseExceptionGroup("", [KeyboardInterrupt(), KeyError("bug")])])
    with pytest.RaisesGroup(pytest.RaisesGroup(KeyboardInterrupt)), bulkhead.contain("here") as block:
        raise group
    assert (block.failed, bulkhead.bugs) == (True, 1)


async def test_a_cancellation_passes_and_takes_no_bug_along() -> None:
    bulkhead = soft()

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it is cancelled")

    with trio.CancelScope() as scope:
        with bulkhead.contain("here"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await trio.lowlevel.checkpoint()
        pytest.fail("the scope is cancelled still")
    assert (scope.cancelled_caught, bulkhead.bugs) == (True, 1)


def test_errors_that_are_foreseen_pass() -> None:
    bulkhead = soft()
    with pytest.raises(Foreseen), bulkhead.contain("here", passing=Foreseen):
        raise Foreseen
    group = ExceptionGroup("", [Foreseen(), ValueError()])
    with pytest.RaisesGroup(Foreseen), bulkhead.contain("here", passing=Foreseen):
        raise group
    assert bulkhead.bugs == 1


def test_a_bug_in_one_call_leaves_the_others_alone() -> None:
    bulkhead = soft()
    done: list[str] = []
    ended: list[int] = []

    def call(number: int, letter: str) -> None:
        if number == 2:
            raise ValueError
        done.append(f"{number}{letter}")

    bulkhead.each("here", call, [1, 2, 3], "abc", failed=ended.append)
    assert (done, ended, bulkhead.bugs) == (["1a", "3c"], [2], 1)
    bulkhead.each("here", call, [2], "a", failed=lambda _: 1 / 0)
    assert bulkhead.bugs == 2


def test_a_bug_in_what_ends_a_block_is_contained_too() -> None:
    bulkhead = soft()
    with bulkhead.contain("here", lambda: 1 / 0):
        raise ValueError
    assert bulkhead.bugs == 2


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_fields: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("softstate.server.bulkhead.log", type("Log", (), {"error": full}))
    bulkhead, flooded = soft(), []
    bulkhead.limit(1, lambda: flooded.append(1))
    for _ in range(2):
        with bulkhead.contain("here"):
            raise ValueError
    bulkhead.end_node("for a test")
    assert (bulkhead.bugs, flooded, bulkhead.ending) == (2, [1], True)


async def test_a_reason_to_end_the_process_is_told_once_there_is_one() -> None:
    with trio.move_on_after(0) as waiting:
        await soft().wait_fatal()
    assert waiting.cancelled_caught
    flooded, ended = soft(), soft()
    flooded.limit(0, lambda: None)
    with flooded.contain("here"):
        raise ValueError
    ended.end_node("for a test")
    for bulkhead in (flooded, ended):
        await bulkhead.wait_fatal()


def test_more_bugs_than_the_limit_within_a_minute_are_too_many() -> None:
    now = [0.0]
    bulkhead, flooded = soft(lambda: now[0]), []
    bulkhead.limit(3, lambda: flooded.append(now[0]))
    for at in (0.0, 1.0, 2.0, MINUTE_S + 0.5, MINUTE_S + 1.5, MINUTE_S + 2.1):
        now[0] = at
        bulkhead.met("here", ValueError())
        assert (flooded, bulkhead.fatal) == ([], None), at
    bulkhead.met("here", ValueError())
    assert flooded == [MINUTE_S + 2.1]
    assert "more than 3 bugs" in str(bulkhead.fatal)
    assert not bulkhead.ending
    bulkhead.met("here", ValueError())
    assert len(flooded) == 1


def test_strict_contains_nothing() -> None:
    bulkhead = Bulkhead(strict=True)
    for counted in (True, False):
        with pytest.raises(Foreseen), bulkhead.contain("here", lambda: pytest.fail("ended"), counted=counted):
            raise Foreseen
    with pytest.raises(Foreseen):
        bulkhead.each("here", _raise, [Foreseen()])


def test_the_tests_are_strict() -> None:
    assert Bulkhead().strict


def test_the_error_of_a_request_says_what_to_do() -> None:
    error = failed("reads")
    assert (error.code, error.http_status) == ("unavailable", 500)
    assert str(error) == "this node met an error of its own (reads), and has logged it: try again, or ask another node"
