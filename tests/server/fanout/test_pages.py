"""Pages encoded in portions: what a portion costs depends on the codec, and on what was checked before."""

import cbor2
import pytest
import trio

from softstate.model import Record, SharedRecords
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.pages import encode_in_turns
from softstate.server.fanout.turns import Turns
from softstate.wire import CBOR, JSON, Codec, value as values
from softstate.wire.messages import Subscribed

BUDGET = 256
POSITION = Position("e", "l", 40)


class Recorder(Turns):
    """Turns that note what is spent in them."""

    def __init__(self) -> None:
        super().__init__(BUDGET, Bulkhead(strict=True))
        self.spent: list[int] = []
        self.refunded = 0

    def take(self, names: int) -> bool:
        self.spent.append(names)
        return super().take(names)

    def refund(self, names: int) -> None:
        self.refunded += names
        super().refund(names)


async def test_values_not_checked_before_are_checked_in_portions_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_checked", set())
    records = [Record(f"t/{number}", number, cbor2.dumps([number] * 3_000)) for number in range(1, 31)]
    turns = Recorder()
    encoded = await encode_in_turns(turns, CBOR, records, CBOR.change)
    assert encoded == {id(record): CBOR.change(record) for record in records}
    assert len(turns.spent) >= 10
    assert max(turns.spent) <= BUDGET
    turns.spent.clear()
    assert await encode_in_turns(turns, CBOR, records, CBOR.change) == {}, "copied with the page"
    assert turns.spent == []


async def test_json_is_written_in_portions_each_time_and_what_is_damaged_is_noted() -> None:
    records = [Record(f"t/{number}", number, cbor2.dumps([number] * 3_000)) for number in range(1, 31)]
    records[3] = Record("t/bad", 4, b"\xff" * 3_000)
    turns = Recorder()
    for _ in range(2):
        turns.spent.clear()
        encoded = await encode_in_turns(turns, JSON, records, JSON.change)
        assert [record.topic for record in records if not encoded[id(record)]] == ["t/bad"]
        assert len(turns.spent) >= 20


async def test_a_page_that_many_are_answered_with_is_encoded_once_in_as_many_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 0
    change = JSON.change

    def counting(record: Record) -> bytes:
        nonlocal count
        count += 1
        return change(record)

    records = SharedRecords(
        Record(f"t/{number}", number, cbor2.dumps([number % 10] * 3_000)) for number in range(1, 31)
    )
    turns = Recorder()
    pages: list[bytes] = []

    async def answer(number: int) -> None:
        encoded = await encode_in_turns(turns, JSON, records, counting)
        pages.append(JSON.encode(Subscribed(number, POSITION), records, encoded))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(answer, number)
    assert count == 30
    alone, other = list(records), Recorder()
    await encode_in_turns(other, JSON, alone, JSON.change)
    assert sorted(pages) == sorted(JSON.encode(Subscribed(number, POSITION), alone) for number in range(20))
    assert sum(turns.spent) - turns.refunded == sum(other.spent), "what was not needed is given back"
    turns.spent.clear()
    assert await encode_in_turns(turns, JSON, records, counting) == {}
    assert (turns.spent, count) == ([], 30)


async def test_one_that_is_cancelled_leaves_the_rest_to_the_others() -> None:
    records = SharedRecords(Record(f"t/{number}", number, cbor2.dumps([number] * 3_000)) for number in range(1, 31))
    turns = Recorder()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await encode_in_turns(turns, JSON, records, JSON.change)
        nursery.start_soon(encode_in_turns, turns, JSON, records, JSON.change)
    assert records.made[JSON.change][0] == {id(record): JSON.change(record) for record in records}


@pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
def test_a_shared_page_reads_as_any_other_also_with_a_damaged_record(codec: Codec) -> None:
    good = [Record("t/1", 1, cbor2.dumps(1)), Record("t/2", 2, None)]
    bad = Record("t/bad", 3, b"\xff")
    message = Subscribed(1, POSITION, more=True)
    for records in (good, [*good, bad], []):
        shared = SharedRecords(records)
        for _ in range(2):
            assert codec.encode(message, shared) == codec.encode(message, records)
        assert codec in shared.made
