"""Messages read by their bytes: the same as their decoding."""

from __future__ import annotations

import pytest

from bench.load.churn_frames import Resuming, first_flight, matches, number_in, op_of, renew_frame, uint_in, was_resumed
from bench.load.process import LoadFailed
from bench.load.protocols import value_of
from bench.load.sessions import HELLO
from softstate.model import Change, Durability
from softstate.position import Position
from softstate.wire import CBOR, messages

POSITION = Position("1" * 16, "2" * 16, 70_000)
POLL, RECOVER = messages.PollAdvice(15_000, 20), messages.RecoverAdvice(1_500, 500, 30_000)
HEADS = {True: 8, False: 6}
"""Bytes ahead of a client message, whose mask is zeros: if it is longer than 125 bytes, and if not."""


def said(frame: bytes) -> messages.ClientMessage:
    """Return the message of a client's frame."""
    return CBOR.client_message(frame[HEADS[frame[1] & 0x7F == 126] :])


def welcome(*, resumed: bool) -> bytes:
    """Return a `welcome`."""
    limits = messages.Limits(1, 2, 3, 4, 5, 6, 7, 8, 9)
    return CBOR.encode(
        messages.Welcome(
            "token", resumed, "node", POSITION, 60_000, 20_000, 5_000, POLL, RECOVER, limits, Durability.DURABLE
        )
    )


def renewed(*, match: bool, renew_ms: int = 20_000) -> bytes:
    """Return a `renewed`."""
    return CBOR.encode(messages.Renewed(2, match, POSITION, 3, 60_000, renew_ms, POLL, RECOVER, "ok"))


def test_the_op_and_numbers_are_found() -> None:
    assert op_of(welcome(resumed=False)) == "welcome"
    assert op_of(CBOR.encode(messages.Revoked("expired"))) == "revoked"
    assert [uint_in(renewed(match=True, renew_ms=ms), "renew_ms") for ms in (7, 200, 20_000, 100_000)] == [
        7, 200, 20_000, 100_000,
    ]  # fmt: skip
    assert uint_in(CBOR.encode(messages.Error("overloaded", "wait", 1)), "retry_ms", 9) == 9
    assert [matches(renewed(match=match)) for match in (True, False)] == [True, False]
    assert [was_resumed(welcome(resumed=resumed)) for resumed in (True, False)] == [True, False]
    with pytest.raises(LoadFailed, match="unexpected frame"):
        op_of(b"\xa1ax\x01")


def test_a_delivery_has_its_number_and_other_pushes_have_none() -> None:
    assert number_in(CBOR.encode(messages.Notify("churn/0/01", 5, value_of(123)))) == 123
    assert number_in(CBOR.encode(messages.Notify("churn/0/01", 5, unknown=True))) == -1


def test_a_client_asks_for_its_session_from_what_was_certified_last() -> None:
    certified = CBOR.encode(messages.Subscribed(1, POSITION, [Change("churn/0/01", 3, b"x")], digest="d", count=1))
    hello = said(Resuming(welcome(resumed=False), certified).hello())
    assert hello == messages.Hello(position=POSITION, session="token", since=POSITION.revision)


def test_what_it_says_is_of_its_topic() -> None:
    flight = first_flight("churn/0/01")
    assert flight.startswith(HELLO)
    assert said(flight[len(HELLO) :]) == messages.Subscribe(1, {"churn/0/01": 0})
    renewal = said(renew_frame("churn/0/01"))
    assert isinstance(renewal, messages.Renew)
    assert renewal.count == 1
