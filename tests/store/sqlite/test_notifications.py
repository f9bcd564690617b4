"""Other processes' commits are noticed in time, by their notifications; an idle node looks once a second.

The clock stands still unless a test moves it: what happens meanwhile is owed to a notification alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from softstate.errors import SoftstateError, StoreReplaced, Unavailable
from softstate.store.base import Write
from softstate.store.limits import CHECK_EVERY_S
from softstate.store.sqlite import notifications
from softstate.store.sqlite.engine import SqliteEngine
from softstate.store.sqlite.notifications import FIRST_LOOK_S, UNHEARD_MAX, WATCH_S, Looks
from softstate.store.sqlite.store import SqliteStore

FAR = 10**6


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(str(path / "db"))
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with opened(tmp_path) as store:
        yield store


@pytest.fixture
async def other(store: SqliteStore, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Open the store a second time, as another process would."""
    async with opened(tmp_path) as other:
        yield other


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the looks at the database of all stores: those in the loop, and those that took a thread."""
    counts = {"unchanged": 0, "in_trouble": 0}

    def counted(name: str) -> None:
        inner = getattr(SqliteEngine, name)

        def call(engine: SqliteEngine) -> object:
            counts[name] += 1
            return inner(engine)

        monkeypatch.setattr(SqliteEngine, name, call)

    for name in counts:
        counted(name)
    return counts


@asynccontextmanager
async def waiting(store: SqliteStore, after: int) -> AsyncIterator[trio.Event]:
    """Wait for commits in a task, which listens and has looked; set the event at the end of the wait."""
    ended = trio.Event()

    async def wait() -> None:
        await store.wait(after)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        yield ended
        nursery.cancel_scope.cancel()


async def at_rest(store: SqliteStore, clock: MockClock) -> None:
    """Wait until it looks once a second only, since it heard of nothing for that long."""
    await settled(store)
    for _ in range(200):
        clock.jump(WATCH_S)
        await settled(store)
        if not store._looks.looking:
            return
    raise AssertionError("it looks without end")


async def settled(store: SqliteStore) -> None:
    """Wait until all that can happen at this time has happened, in threads, too."""
    await wait_all_tasks_blocked()
    while store._reader.busy or store._writer.busy:
        await wait_all_tasks_blocked(0.001)
    await wait_all_tasks_blocked()


async def put(store: SqliteStore, topic: str = "t") -> int:
    return (await store.publish([Write(topic, b"\x01")])).position.revision


async def head(store: SqliteStore) -> int:
    return (await store.head()).revision


async def test_an_idle_node_looks_once_a_second_and_takes_no_thread(
    store: SqliteStore, looks: dict[str, int], mock_clock: MockClock
) -> None:
    async with waiting(store, FAR):
        await at_rest(store, mock_clock)
        looks.update(unchanged=0, in_trouble=0)
        for _ in range(round(10 * CHECK_EVERY_S / WATCH_S)):
            mock_clock.jump(WATCH_S)
            await wait_all_tasks_blocked()
        assert 9 <= looks["unchanged"] <= 10
        assert looks["in_trouble"] == 0


async def test_own_commits_cause_no_look(store: SqliteStore, looks: dict[str, int], mock_clock: MockClock) -> None:
    async with waiting(store, FAR) as ended:
        await at_rest(store, mock_clock)
        looks.update(unchanged=0, in_trouble=0)
        for _ in range(3):
            await put(store)
            await settled(store)
        assert (looks, store._looks.looking, ended.is_set()) == ({"unchanged": 0, "in_trouble": 0}, False, False)


async def test_a_commit_of_another_process_is_noticed_in_time(
    store: SqliteStore, other: SqliteStore, mock_clock: MockClock
) -> None:
    for _ in range(3):
        async with waiting(store, await head(store)) as ended:
            await at_rest(store, mock_clock)
            await put(other)
            mock_clock.jump(WATCH_S)
            await ended.wait()


async def test_it_is_noticed_behind_an_own_one(store: SqliteStore, other: SqliteStore, mock_clock: MockClock) -> None:
    async with waiting(store, FAR):
        await at_rest(store, mock_clock)
    await put(store)
    async with waiting(store, await head(store)) as ended:
        await settled(store)
        await put(other)
        mock_clock.jump(WATCH_S)
        await ended.wait()


async def test_what_told_of_it_may_be_taken_for_an_own_commit(
    store: SqliteStore, other: SqliteStore, mock_clock: MockClock
) -> None:
    async with waiting(store, FAR):
        await at_rest(store, mock_clock)
    await put(other)
    await put(store)
    async with waiting(store, await head(store)):
        await settled(store)
        assert store._looks.looking, "the other may be at it again"


async def test_a_doubt_wakes_the_tasks_that_wait(
    store: SqliteStore, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = SqliteEngine.publish

    def publish(engine: SqliteEngine, *arguments: Any) -> object:
        committed = inner(engine, *arguments)
        engine.notifications.doubtful = True
        return committed

    async with waiting(store, FAR):
        await at_rest(store, mock_clock)
        monkeypatch.setattr(SqliteEngine, "publish", publish)
        await put(store)
        await settled(store)
        assert store._looks.looking


async def test_all_that_wait_are_told(store: SqliteStore, other: SqliteStore, mock_clock: MockClock) -> None:
    after = await head(store)
    async with waiting(store, after) as first, waiting(store, after) as second:
        await at_rest(store, mock_clock)
        await put(other)
        mock_clock.jump(WATCH_S)
        await first.wait()
        mock_clock.jump(WATCH_S)
        await second.wait()


async def test_without_inotify_the_files_are_looked_at(
    store: SqliteStore,
    other: SqliteStore,
    looks: dict[str, int],
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(_self: object) -> None:
        raise OSError("no more instances")

    monkeypatch.setattr(notifications._Inotify, "__init__", none)
    async with waiting(store, await head(store)) as ended:
        await at_rest(store, mock_clock)
        looks.update(unchanged=0, in_trouble=0)
        for _ in range(round(10 * CHECK_EVERY_S / WATCH_S)):
            mock_clock.jump(WATCH_S)
            await wait_all_tasks_blocked()
        assert looks["unchanged"] <= 10
        await put(other)
        mock_clock.jump(WATCH_S)
        await ended.wait()


async def test_an_inotify_that_is_deaf_is_found_out(
    store: SqliteStore, other: SqliteStore, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications._Inotify, "follow", lambda _self, _masks: None)
    async with waiting(store, FAR):
        await at_rest(store, mock_clock)
    for _ in range(UNHEARD_MAX):
        async with waiting(store, await head(store)) as ended:
            await at_rest(store, mock_clock)
            await put(other)
            mock_clock.jump(WATCH_S)
            await settled(store)
            assert not ended.is_set()
            mock_clock.jump(CHECK_EVERY_S)
            await ended.wait()
    async with waiting(store, await head(store)) as ended:
        await at_rest(store, mock_clock)
        await put(other)
        mock_clock.jump(WATCH_S)
        await ended.wait()


def moved_away(path: Path) -> None:
    path.rename(path.with_name("away"))


def deleted(path: Path) -> None:
    path.unlink()


def swapped(path: Path) -> None:
    path.with_name("new").write_bytes(path.read_bytes())
    path.with_name("new").rename(path)


def without_log(path: Path) -> None:
    path.with_name("db-wal").unlink()


def without_memory(path: Path) -> None:
    path.with_name("db-shm").unlink()


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (moved_away, Unavailable), (deleted, Unavailable), (swapped, StoreReplaced), (without_log, StoreReplaced),
        (without_memory, StoreReplaced),
    ],
)  # fmt: skip
async def test_files_that_are_gone_or_replaced_end_a_wait(
    harm: Callable[[Path], None], error: type[SoftstateError], store: SqliteStore, mock_clock: MockClock, tmp_path: Path
) -> None:
    async with waiting(store, await head(store)) as ended:
        await at_rest(store, mock_clock)
        harm(tmp_path / "db")
        await ended.wait()
    with pytest.raises(error):
        await store.head()


async def test_a_store_that_was_reopened_listens_to_its_new_files(
    store: SqliteStore, mock_clock: MockClock, tmp_path: Path
) -> None:
    async with waiting(store, FAR):
        await at_rest(store, mock_clock)
    swapped(tmp_path / "db")
    await store.reopen()
    async with opened(tmp_path) as other:
        async with waiting(store, await head(store)) as ended:
            await at_rest(store, mock_clock)
            await put(other)
            mock_clock.jump(WATCH_S)
            await ended.wait()


async def test_a_wait_ends_when_the_store_is_closed(tmp_path: Path, mock_clock: MockClock) -> None:
    async with opened(tmp_path) as store:
        with pytest.RaisesGroup(trio.ClosedResourceError, trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.wait, FAR)
                nursery.start_soon(store.wait, FAR)
                await at_rest(store, mock_clock)
                await store.aclose()


async def test_no_descriptor_is_left_open(tmp_path: Path, mock_clock: MockClock) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def cycle() -> int:
        async with opened(tmp_path) as store, waiting(store, FAR), waiting(store, FAR):
            await at_rest(store, mock_clock)
        return descriptors()

    assert await cycle() == await cycle()


@contextmanager
def no_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing be asked in a thread."""
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "_read", None)
        yield


async def test_the_head_is_read_in_the_loop_until_something_is_committed(
    store: SqliteStore, other: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for committing in (store, other, store, other):
        assert await head(store) == await put(committing) or await head(store)
        known = await store.head()
        with no_thread(monkeypatch):
            assert await store.head() == known
        assert await put(committing, "another") == known.revision + 1
        assert await head(store) == known.revision + 1


async def test_a_head_that_is_read_in_the_loop_is_that_of_the_file_in_place(store: SqliteStore, tmp_path: Path) -> None:
    await store.head()
    swapped(tmp_path / "db")
    with pytest.raises(StoreReplaced):
        await store.head()


class Schedule:
    """The times of looks, as a waiting task makes them."""

    def __init__(self) -> None:
        self.looks = Looks()
        self.now = 100.0

    def look(self, *, written: bool = False, found: bool = False) -> float:
        """Look now; return the time until the next look."""
        self.looks.looked(self.now, written=written, found=found)
        return round(self.looks.next_at - self.now, 6)

    def next(self, *, written: bool = False, found: bool = False) -> float:
        """Look when it is time to."""
        self.now = self.looks.next_at
        return self.look(written=written, found=found)


def test_what_was_written_is_looked_for_at_once_and_then_less_often() -> None:
    schedule = Schedule()
    assert schedule.look() == CHECK_EVERY_S
    pauses = [schedule.look(written=True), *(schedule.next() for _ in range(6))]
    assert pauses == [FIRST_LOOK_S, 0.002, 0.004, 0.008, 0.016, WATCH_S, WATCH_S]


def test_a_commit_that_was_waited_for_ends_the_search() -> None:
    schedule = Schedule()
    schedule.look(written=True)
    assert schedule.next(found=True) == CHECK_EVERY_S
    assert not schedule.looks.looking


def test_one_that_was_written_with_another_does_not() -> None:
    schedule = Schedule()
    schedule.look(written=True)
    assert schedule.next(written=True, found=True) == 0.002, "the second may not be seen yet"
    assert schedule.next(found=True) == CHECK_EVERY_S


def test_a_commit_that_does_not_come_is_not_looked_for_any_longer() -> None:
    schedule = Schedule()
    schedule.look(written=True)
    while schedule.looks.looking:
        schedule.next()
    assert 100 + CHECK_EVERY_S - WATCH_S <= schedule.now <= 100 + CHECK_EVERY_S
