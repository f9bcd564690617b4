"""Pages encoded in portions: what a portion costs depends on the codec, and on what was checked before."""

import cbor2
import pytest

from softstate.model import Record
from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.pages import encode_in_turns
from softstate.server.fanout.turns import Turns
from softstate.wire import CBOR, JSON, value as values

BUDGET = 256


class Recorder(Turns):
    """Turns that note what is spent in them."""

    def __init__(self) -> None:
        super().__init__(BUDGET, Bulkhead(strict=True))
        self.spent: list[int] = []

    def take(self, names: int) -> bool:
        self.spent.append(names)
        return super().take(names)


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


async def test_json_is_written_in_portions_each_time_and_what_is_damaged_is_left_out() -> None:
    records = [Record(f"t/{number}", number, cbor2.dumps([number] * 3_000)) for number in range(1, 31)]
    records[3] = Record("t/bad", 4, b"\xff" * 3_000)
    turns = Recorder()
    for _ in range(2):
        turns.spent.clear()
        encoded = await encode_in_turns(turns, JSON, records, JSON.change)
        assert set(encoded) == {id(record) for record in records if record.topic != "t/bad"}
        assert len(turns.spent) >= 20
