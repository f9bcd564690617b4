"""The two codecs: messages to bytes and back.

Both refuse, with `Invalid`, everything but exactly one well-formed message (P-WIRE-1): trailing bytes, non-text keys,
nesting that would exhaust the stack; in CBOR also duplicate keys, indefinite lengths and every tag (P-WIRE-4). cbor2
would decode tags eagerly (tag 35 compiles a regular expression that the peer chose) and ignores trailing bytes, so both
are dealt with here. Of duplicate JSON keys the last one counts, as RFC 8259 section 4 allows: finding them would cost a
second pass (P-WIRE-5). Only a second `op` that differs is refused.

The `value` of a decoded message is anything that the syntax can carry (CBOR: undefined, NaN; JSON: long integers, deep
nesting). Before use it goes through `check_value`, which applies the rules of values.

Records are embedded into CBOR messages as stored, and are decoded once, to see that they are values
(`softstate.wire.value.cbor_of`); a change is encoded once, not once per reader.
"""

from __future__ import annotations

from softstate.model import Value
from softstate.wire.codec.base import DAMAGED as DAMAGED, Codec as Codec, check_batch as check_batch, damaged as damaged
from softstate.wire.codec.cbor import CBOR as CBOR
from softstate.wire.codec.json import JSON as JSON
from softstate.wire.value import wrap_bytes

CODECS = {codec.protocol: codec for codec in (CBOR, JSON)}
"""The codec for each WebSocket subprotocol, the preferred one first."""


def encode_value_for(codec: Codec, value: Value) -> bytes:
    """Encode a value that was checked, as the whole body of a request."""
    return codec.dumps(wrap_bytes(value) if codec is JSON else value)
