"""One scrape of any worker tells of all (`softstate serve --workers`)."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from softstate.server import siblings as module
from softstate.server.bulkhead import Bulkhead
from softstate.server.siblings import ANSWER_S_MAX, TEXT_BYTES_MAX, Siblings

OF_ONE = b"""# HELP softstate_x Words.
# TYPE softstate_x counter
softstate_x_total 1.0
# HELP softstate_y Other words.
# TYPE softstate_y gauge
softstate_y{why="a } b"} 2.0
"""


def up(text: bytes) -> dict[str, float]:
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    return {sample.labels["worker"]: sample.value for sample in families["softstate_worker_up"].samples}


@asynccontextmanager
async def workers(family: str, *texts: bytes, count: int) -> AsyncIterator[Siblings]:
    """Run workers 2, 3 and so on, each with its text; yield the first one."""
    async with trio.open_nursery() as nursery:
        for number, text in enumerate(texts, start=2):
            nursery.start_soon(Siblings(family, number, count).run, lambda text=text: text, Bulkhead())
        await trio.testing.wait_all_tasks_blocked()
        yield Siblings(family, 1, count)
        nursery.cancel_scope.cancel()


async def test_each_sample_bears_its_worker_and_each_metric_its_words_once() -> None:
    async with workers("words", OF_ONE.replace(b"1.0", b"7.0"), count=2) as first:
        text = await first.gather(OF_ONE)
    lines = text.decode().splitlines()
    assert lines[:4] == [
        "# HELP softstate_x Words.",
        "# TYPE softstate_x counter",
        'softstate_x_total{worker="1"} 1.0',
        'softstate_x_total{worker="2"} 7.0',
    ]
    assert 'softstate_y{worker="2",why="a } b"} 2.0' in lines
    assert up(text) == {"1": 1, "2": 1}


async def test_a_worker_that_hangs_is_waited_for_a_second_and_named(autojump_clock: trio.testing.MockClock) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind("\0softstate/metrics/hanging/3")
        hanging.listen()
        async with workers("hanging", OF_ONE, count=4) as first:
            began = trio.current_time()
            text = await first.gather(OF_ONE)
            assert trio.current_time() - began == pytest.approx(ANSWER_S_MAX)
    assert up(text) == {"1": 1, "2": 1, "3": 0, "4": 0}


@pytest.mark.parametrize("text", [b"", b"softstate_x 1.0", b"x" * TEXT_BYTES_MAX + b"\n"])
async def test_what_is_no_whole_text_is_left_out(text: bytes) -> None:
    async with workers(f"broken {len(text)}", text, count=2) as first:
        assert up(await first.gather(OF_ONE)) == {"1": 1, "2": 0}


async def test_a_worker_without_a_descriptor_tells_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_args: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(trio.socket, "socket", none_left)
    assert up(await Siblings("full", 1, 2).gather(OF_ONE)) == {"1": 1, "2": 0}


async def test_nothing_is_told_to_another_user_or_taken_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_own", lambda _connection: False)
    async with workers("foreign", OF_ONE, count=2) as first:
        assert up(await first.gather(OF_ONE)) == {"1": 1, "2": 0}


async def test_a_name_that_is_taken_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    """A worker that is started again may begin before the system has cleared the one before away."""
    with socket.socket(socket.AF_UNIX) as before:
        before.bind("\0softstate/metrics/again/2")
        async with workers("again", OF_ONE, count=2) as first:
            assert up(await first.gather(OF_ONE)) == {"1": 1, "2": 0}
            before.close()
            await trio.sleep(10)
            assert up(await first.gather(OF_ONE)) == {"1": 1, "2": 1}
