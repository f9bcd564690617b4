import time

import pytest
import trio
from trio.testing import MockClock

from softstate.client.shell.clock import JUMP_S_MAX, BootClock, JumpDetector, TrioClock, system_clock


class Skewed:
    """Trio's clock plus what the test adds, times a rate."""

    def __init__(self, rate: float = 1.0) -> None:
        self.slept_s = 0.0
        self.rate = rate

    def now(self) -> float:
        return trio.current_time() * self.rate + self.slept_s


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux only")
def test_the_system_clock_runs_during_suspend() -> None:
    assert isinstance(system_clock(), BootClock)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= system_clock().now() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_without_a_boot_clock_trio_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert isinstance(system_clock(), TrioClock)


async def test_trio_clock_is_virtual(mock_clock: MockClock) -> None:
    before = TrioClock().now()
    mock_clock.jump(10)
    assert TrioClock().now() == pytest.approx(before + 10)


async def test_a_jump_is_seen_once(mock_clock: MockClock) -> None:
    clock = Skewed()
    jumps = JumpDetector(clock)
    mock_clock.jump(100)
    assert not jumps.jumped()
    clock.slept_s += JUMP_S_MAX + 0.01
    assert jumps.jumped()
    assert not jumps.jumped()
    clock.slept_s += JUMP_S_MAX - 0.01
    assert not jumps.jumped()


async def test_clocks_of_different_rates_never_add_up_to_a_jump(mock_clock: MockClock) -> None:
    jumps = JumpDetector(Skewed(rate=1.01))
    for _ in range(1000):
        mock_clock.jump(1)
        assert not jumps.jumped()
