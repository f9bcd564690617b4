"""Values of a publish, decoded by one codec; and bytes that no way of decoding may accept."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from softstate.errors import Invalid, Unsupported
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Poll, Publish

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)

# A publish up to its value; what follows is the value, and for JSON a closing brace.
CBOR_HEAD = cbor2.dumps({"op": "publish", "id": 1, "topic": "a", "value": 0})[:-1]
JSON_HEAD = '{"op":"publish","id":1,"topic":"a","value":'


def cbor_value(item: bytes) -> Any:
    """Decode a publish whose value is this CBOR, without checking the value."""
    message = CBOR.client_message(CBOR_HEAD + item)
    assert isinstance(message, Publish)
    return message.value


def json_value(text: str) -> Any:
    message = JSON.client_message(f"{JSON_HEAD}{text}}}")
    assert isinstance(message, Publish)
    return message.value


def refused(data: bytes | str, codec: Codec) -> str:
    """Check that no way of decoding accepts this, and return why."""
    for decode in (codec.client_message, lambda data: codec.loads(data, Poll)):
        with pytest.raises(Invalid):
            decode(data)
    with pytest.raises((Invalid, Unsupported)):  # a client's `op` may be met before what is wrong with the rest
        codec.server_message(data)
    with pytest.raises(Invalid) as caught:
        codec.loads(data, object)
    return caught.value.message
