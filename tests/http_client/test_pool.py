"""Which connections are kept, for how long, and which is taken next."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from softstate.http_client.pool import IdlePool


@dataclass(eq=False)
class Fake:
    """A connection that says what it is told to say."""

    peer: str = "a"
    idle_since_s: float = 0.0
    usable: bool = True
    closed: bool = False

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def keep(pool: IdlePool[Fake], *connections: Fake) -> None:
    for connection in connections:
        async with pool.using(connection):
            connection.idle_since_s = trio.current_time()


async def test_the_most_recently_used_of_a_peer_is_taken() -> None:
    pool: IdlePool[Fake] = IdlePool()
    first, second, other = Fake(), Fake(), Fake("b")
    await keep(pool, first, second, other)
    assert [await pool.take(peer) for peer in "aabb"] == [second, first, other, None]


async def test_at_most_so_many_idle() -> None:
    pool: IdlePool[Fake] = IdlePool(idle_max=2)
    kept = [Fake(str(number)) for number in range(3)]
    await keep(pool, *kept)
    assert [fake.closed for fake in kept] == [True, False, False]


async def test_old_ones_are_closed(mock_clock: MockClock) -> None:
    pool: IdlePool[Fake] = IdlePool(idle_s_max=60)
    old, young = Fake(), Fake("b")
    await keep(pool, old)
    mock_clock.jump(30)
    await keep(pool, young)
    mock_clock.jump(31)
    assert await pool.take("b") is young
    assert (old.closed, young.closed) == (True, False)


async def test_one_that_cannot_be_used_is_closed_when_it_is_met() -> None:
    pool: IdlePool[Fake] = IdlePool()
    good, bad = Fake(), Fake()
    await keep(pool, good, bad)
    bad.usable = False
    assert await pool.take("a") is good
    assert bad.closed
    await keep(pool, unusable := Fake(usable=False))
    assert unusable.closed


async def test_a_connection_whose_use_fails_or_is_cancelled_is_closed() -> None:
    pool: IdlePool[Fake] = IdlePool()
    failing, cancelled = Fake(), Fake()
    with pytest.raises(KeyError):
        async with pool.using(failing):
            raise KeyError
    with trio.CancelScope() as scope:
        async with pool.using(cancelled):
            scope.cancel()
            await trio.sleep_forever()
    assert (failing.closed, cancelled.closed) == (True, True)
    assert await pool.take("a") is None


async def test_closing() -> None:
    pool: IdlePool[Fake] = IdlePool()
    idle, busy = Fake(), Fake()
    await keep(pool, idle)
    async with pool.using(busy):
        await pool.aclose()
        assert (idle.closed, busy.closed) == (True, False)
    assert busy.closed
