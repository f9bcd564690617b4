import time

import pytest
from trio.testing import MockClock

from softstate.client.shell.clock import BootClock, LoopClock, TrioClock, system_clock


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux only")
def test_the_system_clock_runs_during_suspend() -> None:
    assert isinstance(system_clock(), BootClock)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= system_clock().now() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_without_a_boot_clock_the_loop_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert isinstance(system_clock(), LoopClock)


async def test_trio_clock_is_virtual(mock_clock: MockClock) -> None:
    before = TrioClock().now()
    mock_clock.jump(10)
    assert TrioClock().now() == pytest.approx(before + 10)
