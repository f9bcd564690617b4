"""Sizes and handshakes of all protocols; of softstate's, against the codec."""

from __future__ import annotations

import struct

import cbor2
import pytest

from bench.load.protocols import PROTOCOLS, VALUE_BYTES, WARM_CHANGES, Change, value_of
from softstate.model import Record
from softstate.wire import CBOR, frame, messages

TOPIC = "bench/00"


def delivered(name: str, change: Change) -> bytes:
    topic, value = change.topic.encode(), change.value
    match name:
        case "softstate":
            return frame(CBOR.notify(Record(change.topic, 40_000, cbor2.dumps(value))), text=False)
        case "websockets":
            return frame(PROTOCOLS[name].publish([change])[8:], text=False)
        case "nats":
            return b"MSG %b 17 100\r\n%b\r\n" % (topic, value)
        case "mqtt":
            return b"\x30\x6e\x00\x08" + topic + value
        case "redis":
            return b"*3\r\n$7\r\nmessage\r\n$8\r\n%b\r\n$100\r\n%b\r\n" % (topic, value)
    return bytes(PROTOCOLS[name].delivery_bytes(TOPIC))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_delivery_has_the_size_that_is_counted(name: str) -> None:
    protocol, change = PROTOCOLS[name], Change(TOPIC, value_of(7))
    data = delivered(name, change)
    assert len(data) == protocol.delivery_bytes(TOPIC)
    assert protocol.holds(data, change)
    assert not protocol.holds(data + b"x", change)
    assert not protocol.holds(data[:-1], change)
    if not name.startswith("floor"):
        assert data.endswith(change.value + protocol.trailer)
        assert not protocol.holds(data, Change(TOPIC, value_of(8)))


def test_values_have_one_size_and_differ() -> None:
    assert {len(value_of(number)) for number in (0, 9, 10**9)} == {VALUE_BYTES}
    assert value_of(1) != value_of(2)


@pytest.mark.parametrize(("version", "same"), [(255, False), (256, True), (65_535, True), (65_536, False)])
def test_softstates_frames_have_one_size_from_the_warm_up_to_65535(version: int, same: bool) -> None:
    assert WARM_CHANGES <= 256
    size = len(frame(CBOR.notify(Record(TOPIC, version, cbor2.dumps(value_of(0)))), text=False))
    assert (size == PROTOCOLS["softstate"].delivery_bytes(TOPIC)) is same


def test_the_server_decodes_a_publish() -> None:
    change = Change(TOPIC, value_of(3))
    data = PROTOCOLS["softstate"].publish([change])
    assert data[:2] == b"\x82\xfe"
    message = CBOR.client_message(data[8:])
    assert isinstance(message, messages.Publish)
    assert (message.topic, message.value) == change


def test_the_commands_of_the_floor_are_sizes() -> None:
    changes, size = [Change(TOPIC, value_of(1))] * 3, PROTOCOLS["floor"].delivery_bytes(TOPIC)
    assert PROTOCOLS["floor"].publish(changes) == struct.pack("=III", size, size, size)
    assert PROTOCOLS["floor-gathered"].publish(changes) == struct.pack("=I", 3 * size)


def test_a_refused_handshake_says_why() -> None:
    step = PROTOCOLS["softstate"].subscriber([TOPIC])[0]
    assert not step.complete(b"HTTP/1.1 101 Switching")
    assert step.complete(b"HTTP/1.1 101 Switching\r\n\r\n")
    with pytest.raises(ValueError, match="503"):
        step.complete(b"HTTP/1.1 503 Busy\r\n\r\n")
