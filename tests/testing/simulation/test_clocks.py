"""Wrong clocks, and hosts that stand still."""

import trio
from trio.testing import MockClock

from softstate.testing.simulation.clocks import SimClock
from softstate.testing.simulation.freezer import HOST, Freezer, start_on


def test_offset_rate_and_jump() -> None:
    true_s = 100.0
    clock = SimClock(7.0, true_time=lambda: true_s)
    assert clock.now() == 107
    true_s = 110
    assert clock.now() == 117
    clock.set_rate(0.5)
    true_s = 120
    assert clock.now() == 122
    clock.jump(600)
    assert clock.now() == 722
    clock.jump(-5)
    assert clock.now() == 722
    clock.set_rate(1.0)
    true_s = 121
    assert clock.now() == 723


def test_readings_are_whole_microseconds() -> None:
    assert SimClock(true_time=lambda: 1.23456789).now() == 1.234567


def test_nothing_of_a_frozen_host_runs_and_its_timers_are_late() -> None:
    freezer = Freezer()
    seen: list[tuple[str, float]] = []

    async def ticking() -> None:
        for _ in range(3):
            await trio.sleep(10)
            seen.append((HOST.get(), trio.current_time()))

    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticking)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            start_on("a", nursery, parent)
            start_on("b", nursery, parent)
            await trio.sleep(15)
            freezer.freeze("a")
            freezer.freeze("a")
            assert "a" in freezer
            await trio.sleep(10)
            freezer.thaw("a")
            assert "a" not in freezer

    with freezer.installed():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [at for host, at in seen if host == "a"] == [10, 25, 35]
    assert [at for host, at in seen if host == "b"] == [10, 20, 30]


def test_a_frozen_host_does_not_start_tasks_either() -> None:
    freezer = Freezer()
    started: list[float] = []

    async def task() -> None:
        started.append(trio.current_time())
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            freezer.freeze("a")
            start_on("a", nursery, task)
            await trio.sleep(5)
            freezer.thaw("a")

    with freezer.installed():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert started == [5]
