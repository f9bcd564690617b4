"""The scripts of bytes: numbers that the generator writes into them keep their length, for every system."""

from __future__ import annotations

import json

import pytest

from bench.load.frames import take_frames
from bench.peers.systems import MAKERS, OURS, Places, systems
from bench.peers.talks import CONNECTION, TALKS, VALUE, text
from softstate.wire import CBOR, messages

MARKERS_MAX, CARRY_MAX, STEPS_MAX = 4, 64, 8
"""Limits of `generator.c`."""


@pytest.mark.parametrize("name", TALKS)
def test_a_script_is_within_the_limits_of_the_generator(name: str) -> None:
    talk = TALKS[name]()
    published = talk.publish(f"bench{CONNECTION}")
    assert 1 <= published.count(VALUE.encode()) <= MARKERS_MAX
    assert CONNECTION.encode() in published
    assert 1 <= len(talk.ack) <= CARRY_MAX
    assert talk.ack not in talk.publish("bench") or name in ("nats", "lines")
    assert all(step.wait for step in (*talk.subscriber("bench"), *talk.publisher))
    assert len(talk.subscriber("bench")) <= STEPS_MAX


def test_a_frame_of_text_and_a_publish_of_softstate_can_be_read() -> None:
    assert text("40") == b"\x81\x82\0\0\0\0" + b"40"
    published = TALKS[OURS]().publish("bench")
    payload = published[8:]  # behind a head of four bytes, and a mask of zeros
    assert CBOR.client_message(payload) == messages.Publish(1, "bench", VALUE.encode())
    assert take_frames(b"\x82\x7e" + published[2:4] + payload) == ([payload], b"")


def test_a_publish_of_centrifugo_has_the_length_that_its_head_tells() -> None:
    head, _, body = TALKS["centrifugo"]().publish("bench").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"channel": "state:bench", "data": VALUE}


def test_every_system_that_is_installed_has_a_talk() -> None:
    found, _ = systems(Places())
    assert found.keys() <= MAKERS.keys()
    assert {system.talk for system in found.values()} <= TALKS.keys()
