"""Messages of the subscribers of `bench.load.churn`, as bytes: to decode each would take more CPU than the node does.

A frame is a map in CBOR whose first key is `op`; its other keys are found by their bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from bench.load.frames import client_frame
from bench.load.process import LoadFailed
from bench.load.protocols import SEQUENCE_BYTES
from bench.load.sessions import HELLO
from softstate.wire import CBOR, messages
from softstate.wire.subscription_digest import digest_of, digest_text

_OP_AT = 4
"""Where the length of the text behind `op` stands: the map, and a text of two characters, are before it."""
_TEXT_SHORT_MAX = 23
_UINT_SIZES = {0x18: 1, 0x19: 2, 0x1A: 4}


def op_of(payload: bytes) -> str:
    """Return the `op` of a message. Raises `LoadFailed` for what is none."""
    if payload[1:_OP_AT] != b"bop":
        raise LoadFailed(f"unexpected frame: {payload[:40]!r}")
    return payload[_OP_AT + 1 : _OP_AT + 1 + (payload[_OP_AT] & 0x1F)].decode()


def uint_in(payload: bytes, key: str, default: int = 0) -> int:
    """Return the unsigned integer of a key, the first one of that name at any depth; `default` without it."""
    assert len(key) <= _TEXT_SHORT_MAX
    name = bytes((0x60 + len(key),)) + key.encode()
    at = payload.find(name)
    if at < 0:
        return default
    at += len(name)
    head = payload[at]
    if head < min(_UINT_SIZES):
        return head
    return int.from_bytes(payload[at + 1 : at + 1 + _UINT_SIZES[head]], "big")


def matches(renewed: bytes) -> bool:
    """Return whether a `renewed` says that both sides hold the same names."""
    return b"ematch\xf5" in renewed


def number_in(notify: bytes) -> int:
    """Return the number of the value that a `notify` delivers; -1 if it delivers none."""
    last = notify[-SEQUENCE_BYTES:]
    return int(last) if last.isdigit() else -1


@cache
def subscribe_frame(topic: str) -> bytes:
    """Return the frame that subscribes to a topic."""
    return client_frame(CBOR.encode(messages.Subscribe(1, {topic: 0})))


@cache
def renew_frame(topic: str) -> bytes:
    """Return the frame that renews a lease of a topic."""
    return client_frame(CBOR.encode(messages.Renew(2, digest_text(digest_of([topic])), 1)))


@dataclass(frozen=True, slots=True)
class Resuming:
    """The `welcome` of a client, and the last answer that was certified: enough to resume its session."""

    welcome: bytes
    certified: bytes

    def hello(self) -> bytes:
        """Return the frame of a `hello` that asks for the session (P-RES-2)."""
        welcome, certified = CBOR.server_message(self.welcome), CBOR.server_message(self.certified)
        assert isinstance(welcome, messages.Welcome)
        assert isinstance(certified, messages.Welcome | messages.Subscribed | messages.Renewed)
        position = certified.position
        hello = messages.Hello(position=position, session=welcome.session, since=position.revision)
        return client_frame(CBOR.encode(hello))


def was_resumed(welcome: bytes) -> bool:
    """Return whether a `welcome` says that the session was resumed."""
    return b"gresumed\xf5" in welcome


def first_flight(topic: str) -> bytes:
    """Return `hello` and `subscribe`, in one flight as the client sends them."""
    return HELLO + subscribe_frame(topic)
