"""The rest of the examples kept as data: what is no message, values, names, digests and HTTP bodies."""

from typing import Any

import cbor2
import pytest

from softstate.errors import Invalid, TooLarge, Unsupported
from softstate.names import check_prefix, check_topic
from softstate.wire import CBOR, JSON, Codec, digest_of, digest_text, encode_value
from softstate.wire.messages import Batch, BatchResults, Error, Poll, Polled, Published
from tests.wire.example_files import expand, json_text, load, with_bytes, write

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
VALUES = load("values.json")
NAMES = load("names.json")
CHECKS = {"topics": check_topic, "prefixes": check_prefix}
BODIES: dict[tuple[str, str], Any] = {
    ("POST /v1/publish", "request"): Batch,
    ("POST /v1/publish", "reply"): BatchResults,
    ("POST /v1/poll", "request"): Poll,
    ("POST /v1/poll", "reply"): Polled,
    ("PUT /v1/topics/a", "reply"): Published,
}


def name_of(each: dict[str, Any]) -> str:
    return str(each["name"])


@pytest.mark.parametrize("malformed", load("malformed.json"), ids=lambda each: f"{each['codec']}: {each['name']}")
def test_what_is_no_message_is_invalid(malformed: dict[str, str]) -> None:
    codec = CBOR if malformed["codec"] == "cbor" else JSON
    data = bytes.fromhex(malformed["hex"]) if "hex" in malformed else expand(malformed["text"])
    with pytest.raises(Invalid):
        codec.client_message(data)
    with pytest.raises((Invalid, Unsupported)):  # a client's `op` may be met before what is wrong with the rest
        codec.server_message(data)


@pytest.mark.parametrize("value", VALUES["accepted"], ids=name_of)
def test_a_value_is_read_alike_from_both_forms(value: dict[str, str]) -> None:
    cbor = bytes.fromhex(value["cbor"])
    item = JSON.loads(value["text"], object)
    assert (encode_value(item), CBOR.loads(cbor, object)) == (cbor, item)
    assert JSON.loads(JSON.value(cbor), object) == item
    assert json_text(with_bytes(item)) == json_text(cbor2.loads(cbor))  # 1.0 is not 1 here, nor is True


@pytest.mark.parametrize("value", VALUES["refused"], ids=name_of)
def test_a_value_that_may_not_be_published_is_invalid(value: dict[str, str]) -> None:
    forms: list[tuple[Codec, bytes | str]] = []
    if "text" in value:
        forms.append((JSON, value["text"]))
    if "hex" in value:
        forms.append((CBOR, bytes.fromhex(value["hex"])))
    for codec, data in forms:
        with pytest.raises(Invalid):
            encode_value(codec.loads(data, object))


@pytest.mark.parametrize("kind", CHECKS)
def test_names_are_accepted_and_refused(kind: str) -> None:
    for name in expand(NAMES[kind]["accepted"]):
        assert CHECKS[kind](name) == name
    for name in expand(NAMES[kind]["refused"]):
        with pytest.raises(Invalid):
            CHECKS[kind](name)


@pytest.mark.parametrize("example", load("digests.json"), ids=lambda each: repr(each["names"]))
def test_a_set_has_its_digest(example: dict[str, Any]) -> None:
    assert digest_text(digest_of(example["names"])) == example["digest"]
    assert len(set(example["names"])) == example["count"]


@BOTH
@pytest.mark.parametrize("example", load("http.json"), ids=name_of)
def test_an_http_body_is_read_and_written(codec: Codec, example: dict[str, Any]) -> None:
    body = with_bytes(example["body"])
    assert cbor2.dumps(body).hex() == example["cbor"]
    kind = Error if body.get("op") == "error" else BODIES[example["of"], example["part"]]
    written = write(codec, body)
    assert codec.loads(written, kind) == codec.loads(codec.dumps(codec.loads(written, kind)), kind)
    if kind not in (Poll, Polled):  # `op` may be left out of the one, the other is made from records
        assert codec.dumps(codec.loads(written, kind)) == written


def test_the_value_limit_is_the_one_that_is_written_down() -> None:
    assert encode_value("x" * (64 * 1024 - 3))
    with pytest.raises(TooLarge):
        encode_value("x" * (64 * 1024 - 2))
