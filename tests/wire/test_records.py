"""Stored records as changes and pages, and changes in request bodies."""

import re
from typing import Any

import cbor2
import msgspec
import pytest

from softstate.errors import Invalid
from softstate.model import Change, Record, SharedRecords
from softstate.position import Position
from softstate.wire import CBOR, CODECS, DAMAGED, JSON, Codec, check_batch, encode_value, encode_value_for
from softstate.wire.messages import (
    Batch,
    BatchChange,
    BatchResult,
    BatchResults,
    Notify,
    Poll,
    PollAdvice,
    Polled,
    Publish,
    RecoverAdvice,
    Renewed,
    Subscribed,
)

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
AT = Position("e", "l", 7)

RECORDS = [
    Record("a", 1, encode_value({"state": "paid", "raw": b"\x00\xff", "n": [1, 2.5, None, True, "☃"]})),
    Record("b/c", 2**53 - 1, None),
    Record("ü", 3, encode_value(None)),
    Record('"\\', 4, encode_value(b"")),
    Record("x" * 255, 5, encode_value([])),
]


@BOTH
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.topic[:9])
def test_an_embedded_record_is_the_same_to_the_byte_as_a_full_encoding(codec: Codec, record: Record) -> None:
    state = {"deleted": True} if record.cbor is None else {"value": _for(codec, cbor2.loads(record.cbor))}
    assert codec.change(record) == codec.dumps({"topic": record.topic, "version": record.version, **state})
    notify = codec.notify(record)
    assert notify == codec.dumps({"op": "notify", "topic": record.topic, "version": record.version, **state})
    assert notify == codec.encode(codec.server_message(notify))


@pytest.mark.parametrize("version", [1, 23, 24, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**53 - 1])
@pytest.mark.parametrize("topic_chars", [1, 23, 24, 127, 255])
@pytest.mark.parametrize("cbor", [None, encode_value([1])], ids=["deleted", "value"])
def test_what_cbor_writes_by_hand_is_what_the_encoder_writes(
    version: int, topic_chars: int, cbor: bytes | None
) -> None:
    record = Record("t" * topic_chars, version, cbor)
    state = {"deleted": True} if cbor is None else {"value": [1]}
    assert CBOR.change(record) == cbor2.dumps({"topic": record.topic, "version": version, **state})
    head = {"op": "notify", "topic": record.topic, "version": version}
    assert CBOR.notify(record) == cbor2.dumps({**head, **state})


@pytest.mark.parametrize("number", [0, 23, 24, 2**53 - 1, "", "i", "id\x00", "x" * 64])
@pytest.mark.parametrize("sent", [0, 23, 24, 2**53 - 1])
@pytest.mark.parametrize("match", [True, False])
@pytest.mark.parametrize("lag_ms", [0, 70])
@pytest.mark.parametrize("lineage", ["l", "bid\x00dsent\x00"])
def test_a_renewed_put_together_is_what_the_encoder_writes(
    number: int | str, sent: int, match: bool, lag_ms: int, lineage: str
) -> None:
    polls, recovers = PollAdvice(15_000, 100), RecoverAdvice(100, 500, 30_000)
    for store in ("ok", "down"):
        message = Renewed(
            number, match, Position("e", lineage, 300), sent, 60_000, 20_000, polls, recovers, store, lag_ms
        )  # fmt: skip
        assert CBOR.encode(message) == CBOR.dumps(message)


def _for(codec: Codec, value: object) -> object:
    """Return what the codec's own syntax, unlike the codec, reads from this value."""
    return value if codec is CBOR else msgspec.json.decode(encode_value_for(codec, value))


@BOTH
@pytest.mark.parametrize("kind", [Subscribed, Polled], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("size", [0, 1, 2, 23, 24, 255, 256, 300, 70_000])
def test_a_page_of_any_size(codec: Codec, kind: type[Subscribed | Polled], size: int) -> None:
    records = [RECORDS[index % 3] for index in range(size)]
    data = codec.encode(kind(id=1, position=AT, more=True), records)
    page = codec.server_message(data)
    assert isinstance(page, kind)
    values = [None if record.cbor is None else cbor2.loads(record.cbor) for record in RECORDS[:3]]
    changes = [Change(r.topic, r.version, value, deleted=r.deleted) for r, value in zip(RECORDS, values, strict=False)]
    assert page == kind(id=1, position=AT, more=True, changes=[changes[index % 3] for index in range(size)])


@BOTH
def test_a_full_last_page_with_every_field_still_has_a_short_map_head(codec: Codec) -> None:
    message = Subscribed(1, AT, [], more=True, digest="0" * 16, count=1, compacted=["a/"], denied=["b"], lag_ms=1)
    page = codec.server_message(codec.encode(message, RECORDS[1:2]))
    assert isinstance(page, Subscribed)
    assert page.changes == [Change("b/c", 2**53 - 1, deleted=True)]
    assert page.lag_ms == 1


@BOTH
@pytest.mark.parametrize(
    "bad", [Record("bad", 9, None, unreadable=True), Record("bad", 9, b"\x82\x01"), Record("bad", 9, b"\xf7")], ids=str
)
def test_a_damaged_record_makes_no_other_be_encoded_again(
    codec: Codec, bad: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Subscribed(1, AT, more=True)
    records = [*RECORDS, bad, *RECORDS]
    whole = codec.encode(message, records)
    page = codec.server_message(whole)
    assert isinstance(page, Subscribed)
    assert ([change.topic for change in page.changes], page.unreadable) == ([r.topic for r in RECORDS] * 2, ["bad"])

    ahead = {id(record): codec.change(record) for record in RECORDS}
    tried: list[str] = []
    change = type(codec).change

    def noted(codec: Codec, record: Record) -> bytes:
        tried.append(record.topic)
        return change(codec, record)

    monkeypatch.setattr(type(codec), "change", noted)
    assert codec.encode(message, records, ahead) == whole
    assert tried == ["bad"]
    assert codec.encode(message, records, {**ahead, id(bad): DAMAGED}) == whole
    assert tried == ["bad"]
    shared = SharedRecords(records)
    assert codec.encode(message, shared, {**ahead, id(bad): DAMAGED}) == whole
    for number in range(2, 5):
        assert codec.encode(Subscribed(number, AT, more=True), shared) == codec.encode(
            Subscribed(number, AT, more=True), records, {**ahead, id(bad): DAMAGED}
        )
    assert tried == ["bad"], "a herd that shares the page shares what is damaged of it"


# HTTP bodies, and the rest -------------------------------------------------------------------------------------------


@BOTH
def test_a_poll_over_http_needs_neither_op_nor_id(codec: Codec) -> None:
    assert codec.loads(codec.dumps({"topics": {"a": 1}}), Poll) == Poll(topics={"a": 1})
    with pytest.raises(Invalid, match=r"\$\.op"):
        codec.loads(codec.dumps({"op": "hello"}), Poll)


@BOTH
def test_a_batch_and_its_results(codec: Codec) -> None:
    fields = {"changes": [{"topic": "a", "value": None, "expect": 0, "key": "k"}, {"topic": "b", "deleted": True}]}
    batch = codec.loads(codec.dumps(fields), Batch)
    assert batch == Batch([BatchChange("a", value=None, expect=0, key="k"), BatchChange("b", deleted=True)])
    assert check_batch(batch) is batch
    assert codec.dumps(batch) == codec.dumps(fields)
    results = BatchResults(
        [BatchResult(topic="a", version=8, position=AT), BatchResult(code="conflict", message="no", current=7)]
    )
    assert codec.loads(codec.dumps(results), BatchResults) == results


@BOTH
@pytest.mark.parametrize("change", [{"topic": "a"}, {"topic": "a", "value": 1, "deleted": True}], ids=repr)
def test_a_change_in_a_batch_has_either_a_value_or_is_a_deletion(codec: Codec, change: dict[str, Any]) -> None:
    batch = codec.loads(codec.dumps({"changes": [{"topic": "a", "value": 1}, change]}), Batch)
    with pytest.raises(Invalid, match=re.escape("changes[1] needs either value or deleted")):
        check_batch(batch)


@BOTH
def test_a_wrong_field_in_a_batch_is_named(codec: Codec) -> None:
    with pytest.raises(Invalid, match=re.escape("$.changes[1].expect")):
        codec.loads(codec.dumps({"changes": [{"topic": "a"}, {"topic": "a", "expect": -1}]}), Batch)


@BOTH
@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text", b"bytes", [b"x"], {"k": [b"x", 1]}], ids=repr)
def test_a_value_alone_is_a_body(codec: Codec, value: object) -> None:
    body = encode_value_for(codec, value)
    assert codec.loads(body, object) == value
    assert codec.value(encode_value(value)) == body


def test_the_codecs_are_found_by_subprotocol_and_cbor_comes_first() -> None:
    assert list(CODECS.items()) == [("softstate.v1.cbor", CBOR), ("softstate.v1.json", JSON)]
    assert [(codec.name, codec.content_type, codec.text) for codec in CODECS.values()] == [
        ("cbor", "application/cbor", False),
        ("json", "application/json", True),
    ]


@BOTH
def test_bytes_survive_in_every_message_that_carries_values(codec: Codec) -> None:
    value = {"raw": [b"\x00\xff"]}
    publish = Publish(id=1, topic="a", value=value)
    assert codec.client_message(codec.encode(publish)) == publish
    for message in (
        Notify("a", 1, value=value),
        Subscribed(id=1, position=AT, changes=[Change("a", 1, value=value)]),
        Polled(id=1, position=AT, changes=[Change("a", 1, value=value)]),
    ):
        assert codec.server_message(codec.encode(message)) == message
    batch = Batch([BatchChange("a", value=value), BatchChange("b", deleted=True)])
    assert codec.loads(codec.dumps(batch), Batch) == batch
