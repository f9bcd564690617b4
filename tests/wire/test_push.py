import pytest

from softstate.model import Record
from softstate.wire import CBOR, JSON, Codec, encode_value, frame
from softstate.wire.push import EncodedChange

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
RECORDS = [Record("a", 7, encode_value({"state": "paid"})), Record("a", 8, None)]


@BOTH
@pytest.mark.parametrize("record", RECORDS, ids=["value", "deletion"])
def test_the_frame_is_the_framed_notify_of_its_codec(codec: Codec, record: Record) -> None:
    change = EncodedChange(record)
    assert change.record is record
    assert change.frame(codec) == frame(codec.notify(record), text=codec.text)


def test_a_frame_is_made_once_for_each_codec() -> None:
    change = EncodedChange(RECORDS[0])
    json = change.frame(JSON)
    cbor = change.frame(CBOR)
    assert change.frame(JSON) is json
    assert change.frame(CBOR) is cbor
    assert json != cbor
