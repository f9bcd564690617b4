"""The store holds nothing that tells a ticket or its token; and only the ticket opens it."""

from __future__ import annotations

import pytest

from softstate.auth.tickets import SECRET_BYTES, TICKET_CHARS_MAX, is_over, opened, sealed, ticket_of, topic_of
from softstate.errors import Unauthenticated
from softstate.names import check_topic
from softstate.wire import decode_value, encode_value

TOKEN = "eyJ0eXAi.eyJzdWIi.c2lnbmF0dXJl" * 40
TICKET = ticket_of(bytes(range(SECRET_BYTES)))
OTHER = ticket_of(bytes(SECRET_BYTES))


def test_a_ticket_opens_what_it_has_sealed_until_its_time_is_over() -> None:
    value = sealed(TICKET, TOKEN, 1_000.5)
    assert opened(TICKET, value, 999.9) == TOKEN
    with pytest.raises(Unauthenticated) as over:
        opened(TICKET, value, 1_000.0)
    assert over.value.why == "expired"
    assert (is_over(value, 999.9), is_over(value, 1_000.0)) == (False, True)


def test_the_store_learns_neither_ticket_nor_token() -> None:
    value, topic = sealed(TICKET, TOKEN, 1_000), topic_of(TICKET)
    assert check_topic(topic) == topic
    assert TICKET.removeprefix("tkt_") not in topic
    assert TOKEN[:8].encode() not in value
    assert decode_value(value) != decode_value(sealed(OTHER, TOKEN, 1_000))
    assert topic != topic_of(OTHER)


def test_another_ticket_opens_it_not() -> None:
    try:
        found = opened(OTHER, sealed(TICKET, TOKEN, 1_000), 0)
    except Unauthenticated:
        return
    assert found != TOKEN


@pytest.mark.parametrize("value", [1, {}, {"sealed": "text", "until": 9}, {"sealed": b"x"}, {"until": 9.5}])
def test_what_is_no_ticket_s_value_opens_to_nothing(value: object) -> None:
    cbor = encode_value(value)
    with pytest.raises(Unauthenticated):
        opened(TICKET, cbor, 0)


@pytest.mark.parametrize("text", ["", "tkt_", TICKET[:-1], TICKET + "x", "sst_" + TICKET[4:], TICKET[:-1] + "/"])
def test_what_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated) as error:
        topic_of(text)
    assert error.value.why == "malformed"
    assert len(TICKET) <= TICKET_CHARS_MAX
