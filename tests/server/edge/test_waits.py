"""Rates are told when the loop has nothing to do, and when it goes on."""

from __future__ import annotations

import trio

from softstate.server.edge.waits import waits_told
from softstate.session import ServiceRate


class Told(ServiceRate):
    """A rate that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, float]] = []

    def waits(self, now: float) -> None:
        super().waits(now)
        self.told.append(("waits", now))

    def goes_on(self, now: float) -> None:
        super().goes_on(now)
        self.told.append(("goes on", now))


async def _wait_for_a_thread() -> None:
    with trio.fail_after(30):
        await trio.to_thread.run_sync(lambda: None)


async def test_a_rate_is_told_of_each_wait_of_the_loop() -> None:
    rates = Told(), Told()
    with waits_told(rates):
        while len(rates[0].told) < 6:
            began = trio.current_time()
            await _wait_for_a_thread()
            now = trio.current_time()
    told = rates[0].told
    assert [what for what, _ in told] == ["waits", "goes on"] * (len(told) // 2)
    times = [at for _, at in told]
    assert times == sorted(times)
    assert began <= times[-2] <= times[-1] <= now
    assert [what for what, _ in rates[1].told] == [what for what, _ in told]


async def test_a_loop_that_has_work_is_not_told_of() -> None:
    rate = Told()
    with waits_told([rate]):
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert rate.told == []


async def test_nothing_is_told_behind_the_block() -> None:
    rate = Told()
    with waits_told([rate]):
        await trio.lowlevel.checkpoint()
    await _wait_for_a_thread()
    assert rate.told == []


async def test_a_bug_of_a_rate_ends_the_telling_and_not_the_block() -> None:
    class Broken(Told):
        def waits(self, now: float) -> None:
            super().waits(now)
            raise ZeroDivisionError

    rate = Broken()
    with waits_told([rate]):
        while not rate.told:
            await _wait_for_a_thread()
        await _wait_for_a_thread()
    assert len(rate.told) == 1
