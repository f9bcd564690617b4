"""The wire, sans-I/O: messages, the two codecs, shared WebSocket frames, close codes, the subscription digest."""

from softstate.wire.close_codes import CLOSE_FOR as CLOSE_FOR, CloseCode as CloseCode, may_reconnect as may_reconnect
from softstate.wire.codec import (
    CBOR as CBOR,
    CODECS as CODECS,
    DAMAGED as DAMAGED,
    JSON as JSON,
    Codec as Codec,
    check_batch as check_batch,
    damaged as damaged,
    encode_value_for as encode_value_for,
)
from softstate.wire.subscription_digest import (
    digest_of as digest_of,
    digest_text as digest_text,
    name_hash as name_hash,
)
from softstate.wire.value import (
    VALUE_BYTES_MAX as VALUE_BYTES_MAX,
    VALUE_DEPTH_MAX as VALUE_DEPTH_MAX,
    check_value as check_value,
    decode_value as decode_value,
    encode_value as encode_value,
)
from softstate.wire.websocket.frames import frame as frame, is_close as is_close
