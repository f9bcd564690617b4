"""Polls that were held are answered in turns, in order, and a bug of one ends that one alone."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
import trio.testing

from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.turns import Turns
from softstate.server.http.woken_polls import WokenPolls


class Poll:
    """Notes in which turn it goes on; the third raises."""

    def __init__(self, number: int, log: list[tuple[int, float]], names: int = 2) -> None:
        self.number = number
        self.names = names
        self.failed = False
        self._log = log

    def go_on(self) -> None:
        if self.number == 3:
            raise ZeroDivisionError
        self._log.append((self.number, trio.current_time()))

    def fail(self) -> None:
        self.failed = True


@pytest.mark.parametrize("names", [2, 100])
async def test_polls_go_on_in_order_so_many_in_a_turn(names: int, autojump_clock: trio.testing.MockClock) -> None:
    bulkhead = Bulkhead(strict=False)
    turns, log = Turns(16, bulkhead), list[tuple[int, float]]()
    woken = WokenPolls(turns, bulkhead)
    polls = [Poll(number, log, names) for number in range(40)]
    with structlog.testing.capture_logs():
        for poll in polls:
            woken.add(poll)
        at_once = len(log)
        await trio.sleep(1)
    assert [number for number, _ in log] == [number for number in range(40) if number != 3]
    assert [poll.number for poll in polls if poll.failed] == [3]
    assert (bulkhead.bugs, at_once) == (1, 7 if names == 2 else 1)
    by_turn = [sum(at == each for _, at in log) for each in dict.fromkeys(at for _, at in log)]
    assert max(by_turn[1:]) == (8 if names == 2 else 1)
