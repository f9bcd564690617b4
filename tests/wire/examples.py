"""DESIGN section 4 by example: what goes over the wire, beside the message that it stands for.

`EXAMPLES` holds every operation, every field (optional ones present and absent) and every error code. `fields` is the
map on the wire in the order in which a node or client writes it; in JSON a bytes object in it becomes ``$bytes``. The
table knows nothing of codecs or transports, so that it can be replayed against a running server as well.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

import cbor2
import msgspec

from softstate.errors import WIRE_ERRORS
from softstate.model import Change, Durability, Position, Record
from softstate.wire.codec import Codec
from softstate.wire.messages import (
    Bye,
    ClientMessage,
    Error,
    Goodbye,
    Hello,
    Limits,
    Moved,
    Notify,
    Poll,
    PollAdvice,
    Polled,
    Publish,
    Published,
    RecoverAdvice,
    Renew,
    Renewed,
    Revoked,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)

Direction = Literal["request", "reply"]


@dataclass(frozen=True)
class Example:
    """One message: its map on the wire, and the object that it stands for."""

    name: str
    direction: Direction
    fields: dict[str, Any]
    message: ClientMessage | ServerMessage

    @property
    def op(self) -> str:
        op: str = self.fields["op"]
        return op

    @property
    def json(self) -> str:
        """The exact JSON text, written by the standard library and not by the code under test."""
        return json.dumps(self.fields, separators=(",", ":"), ensure_ascii=False, default=_bytes_in_json)

    @property
    def records(self) -> list[Record]:
        """What a store would hold for the changes in a page, in order, or for a `notify`."""
        changes = [self.message] if isinstance(self.message, Notify) else getattr(self.message, "changes", [])
        return [Record(c.topic, c.version, None if c.deleted else cbor2.dumps(c.value)) for c in changes]

    def encode(self, codec: Codec) -> bytes:
        """Encode as a node or client does: changes come from records."""
        if isinstance(self.message, Subscribed | Polled):
            return codec.encode(msgspec.structs.replace(self.message, changes=[]), self.records)
        return codec.encode(self.message)

    def decode(self, codec: Codec, data: bytes | str) -> ClientMessage | ServerMessage:
        """Decode as the receiving side does."""
        return codec.client_message(data) if self.direction == "request" else codec.server_message(data)


def _bytes_in_json(value: object) -> dict[str, str]:
    assert isinstance(value, bytes)
    return {"$bytes": base64.b64encode(value).decode("ascii")}


def request(name: str, message: ClientMessage, op: str, /, **fields: Any) -> Example:
    return Example(f"{op}: {name}", "request", {"op": op, **fields}, message)


def reply(name: str, message: ServerMessage, op: str, /, **fields: Any) -> Example:
    return Example(f"{op}: {name}", "reply", {"op": op, **fields}, message)


AT: Final = Position("e5c1", "9f0a", 41)
AT_FIELDS: Final = {"epoch": "e5c1", "lineage": "9f0a", "revision": 41}
POLL: Final = PollAdvice(every_ms=10_000, spread_ms=5_000)
POLL_FIELDS: Final = {"every_ms": 10_000, "spread_ms": 5_000}
RECOVER: Final = RecoverAdvice(spread_ms=1_500, base_ms=250, cap_ms=30_000)
RECOVER_FIELDS: Final = {"spread_ms": 1_500, "base_ms": 250, "cap_ms": 30_000}
LIMITS: Final = Limits(
    subscriptions=10_000, value_bytes=65_536, message_bytes=1_048_576, pending=1_024, keys=100_000, key_ms=600_000
)
LIMITS_FIELDS: Final = {
    "subscriptions": 10_000,
    "value_bytes": 65_536,
    "message_bytes": 1_048_576,
    "pending": 1_024,
    "keys": 100_000,
    "key_ms": 600_000,
}
DIGEST: Final = "af63dc4c8601ec8c"
PAID: Final = {"state": "paid", "lines": [1, 2.5, None, True], "raw": b"\x00\xff", "für": "naïve ☃ 𝄞"}

CHANGES: Final = [Change("a", 38, value=PAID), Change("b/c", 40, deleted=True), Change("b/d", 41, value=None)]
CHANGES_FIELDS: Final[list[dict[str, Any]]] = [
    {"topic": "a", "version": 38, "value": PAID},
    {"topic": "b/c", "version": 40, "deleted": True},
    {"topic": "b/d", "version": 41, "value": None},
]

REQUESTS: Final = [
    request("of a new client", Hello(), "hello"),
    request(
        "that resumes",
        Hello(position=AT, session="s3cret", since=39),
        "hello",
        position=AT_FIELDS,
        session="s3cret",
        since=39,
    ),
    request(
        "with everything",
        Hello(position=AT, session="s3cret", since=0, ttl_ms=60_000, token="let me in", name="till 4"),
        "hello",
        position=AT_FIELDS,
        session="s3cret",
        since=0,
        ttl_ms=60_000,
        token="let me in",
        name="till 4",
    ),
    request("of nothing", Subscribe(id=1), "subscribe", id=1),
    request("with a text id", Subscribe(id="s-1", topics={"a": 0}), "subscribe", id="s-1", topics={"a": 0}),
    request(
        "of the whole set",
        Subscribe(id=2, topics={"a": 38, "b/c": 0}, prefixes={"b/": 12, "/": 0}, replace=True),
        "subscribe",
        id=2,
        topics={"a": 38, "b/c": 0},
        prefixes={"b/": 12, "/": 0},
        replace=True,
    ),
    request("of nothing", Unsubscribe(), "unsubscribe"),
    request("of both kinds", Unsubscribe(topics=["a"], prefixes=["b/"]), "unsubscribe", topics=["a"], prefixes=["b/"]),
    request("as usual", Renew(id=3, digest=DIGEST, count=1), "renew", id=3, digest=DIGEST, count=1),
    request(
        "with a shorter life",
        Renew(id=3, digest=DIGEST, count=0, ttl_ms=5_000),
        "renew",
        id=3,
        digest=DIGEST,
        count=0,
        ttl_ms=5_000,
    ),
    request("of nothing, over HTTP", Poll(), "poll"),
    request("of one topic", Poll(id=4, topics={"a": 38}), "poll", id=4, topics={"a": 38}),
    request(
        "with everything",
        Poll(id=5, position=AT, topics={"a": 38}, prefixes={"b/": 12}, min_revision=41, cursor="next"),
        "poll",
        id=5,
        position=AT_FIELDS,
        topics={"a": 38},
        prefixes={"b/": 12},
        min_revision=41,
        cursor="next",
    ),
    request("of a value", Publish(id=6, topic="a", value=PAID), "publish", id=6, topic="a", value=PAID),
    request("of null", Publish(id=6, topic="a", value=None), "publish", id=6, topic="a", value=None),
    request("of bytes", Publish(id=6, topic="a", value=b"\x01"), "publish", id=6, topic="a", value=b"\x01"),
    request("of a deletion", Publish(id=6, topic="a", deleted=True), "publish", id=6, topic="a", deleted=True),
    request(
        "that must be the first",
        Publish(id=7, topic="a", value=[], expect=0, key="k-1"),
        "publish",
        id=7,
        topic="a",
        value=[],
        expect=0,
        key="k-1",
    ),
    request("for good", Goodbye(), "bye"),
]


def welcome(name: str, *, reset: bool, durability: Durability) -> Example:
    optional: dict[str, Any] = {"reset": True} if reset else {}
    message = Welcome(
        session="s3cret",
        resumed=not reset,
        node="n1",
        position=AT,
        ttl_ms=60_000,
        renew_ms=20_000,
        timeout_ms=5_000,
        poll=POLL,
        recover=RECOVER,
        limits=LIMITS,
        durability=durability,
        **optional,
    )
    return reply(
        name,
        message,
        "welcome",
        session="s3cret",
        resumed=not reset,
        node="n1",
        position=AT_FIELDS,
        ttl_ms=60_000,
        renew_ms=20_000,
        timeout_ms=5_000,
        poll=POLL_FIELDS,
        recover=RECOVER_FIELDS,
        limits=LIMITS_FIELDS,
        durability=durability.value,
        **optional,
    )


def renewed(name: str, *, match: bool, store: Literal["ok", "down"], **optional: Any) -> Example:
    message = Renewed(
        id=3,
        match=match,
        position=AT,
        sent=17,
        ttl_ms=60_000,
        renew_ms=20_000,
        poll=POLL,
        recover=RECOVER,
        store=store,
        **optional,
    )
    return reply(
        name,
        message,
        "renewed",
        id=3,
        match=match,
        position=AT_FIELDS,
        sent=17,
        ttl_ms=60_000,
        renew_ms=20_000,
        poll=POLL_FIELDS,
        recover=RECOVER_FIELDS,
        store=store,
        **optional,
    )


def error(code: str) -> Example:
    """Make an error reply with what usually comes with its code."""
    optional: dict[str, Any] = {}
    if code in ("overloaded", "unavailable", "behind"):
        optional["retry_ms"] = 1_000
    if code == "conflict":
        optional["current"] = 40
    fields: dict[str, Any] = dict(optional)
    if code == "rewound":
        optional["position"], fields["position"] = AT, AT_FIELDS
    message = Error(code=code, message=f"it was {code}", id=9, **optional)
    return reply(code, message, "error", code=code, message=f"it was {code}", id=9, **fields)


REPLIES: Final = [
    welcome("resumed", reset=False, durability=Durability.DURABLE),
    *(welcome(f"reset, {durability}", reset=True, durability=durability) for durability in Durability),
    reply("nothing to say", Subscribed(id=1, position=AT), "subscribed", id=1, position=AT_FIELDS, changes=[]),
    reply(
        "one page of several",
        Subscribed(id="s-1", position=AT, changes=CHANGES, more=True),
        "subscribed",
        id="s-1",
        position=AT_FIELDS,
        more=True,
        changes=CHANGES_FIELDS,
    ),
    reply(
        "the last page",
        Subscribed(
            id=2, position=AT, changes=CHANGES, digest=DIGEST, count=1, compacted=["b/"], denied=["x", "y/"], lag_ms=4
        ),
        "subscribed",
        id=2,
        position=AT_FIELDS,
        digest=DIGEST,
        count=1,
        compacted=["b/"],
        denied=["x", "y/"],
        lag_ms=4,
        changes=CHANGES_FIELDS,
    ),
    reply("a value", Notify("a", 41, value=PAID), "notify", topic="a", version=41, value=PAID),
    reply("null", Notify("a", 41, value=None), "notify", topic="a", version=41, value=None),
    reply("a deletion", Notify("a", 41, deleted=True), "notify", topic="a", version=41, deleted=True),
    reply("unknown", Notify("a", 0, unknown=True), "notify", topic="a", version=0, unknown=True),
    reply("a lineage row has passed", Moved(position=AT), "position", position=AT_FIELDS),
    renewed("matching", match=True, store="ok"),
    renewed("not matching, from a cache", match=False, store="ok", lag_ms=12),
    renewed("while the store is down", match=True, store="down"),
    reply("expired", Revoked("expired"), "revoked", reason="expired"),
    reply("slow", Revoked("slow_consumer", retry_ms=0), "revoked", reason="slow_consumer", retry_ms=0),
    reply(
        "overloaded",
        Revoked("overloaded", retry_ms=2_000, spread_ms=8_000),
        "revoked",
        reason="overloaded",
        retry_ms=2_000,
        spread_ms=8_000,
    ),
    reply("denied", Revoked("denied"), "revoked", reason="denied"),
    reply("nothing new", Polled(id=4, position=AT), "polled", id=4, position=AT_FIELDS, changes=[]),
    reply(
        "one page of several",
        Polled(id=5, position=AT, changes=CHANGES, more=True, cursor="next"),
        "polled",
        id=5,
        position=AT_FIELDS,
        more=True,
        cursor="next",
        changes=CHANGES_FIELDS,
    ),
    reply(
        "the last page",
        Polled(
            id=5,
            position=AT,
            changes=CHANGES,
            compacted=["b/"],
            denied=["x", "y/"],
            next_ms=10_000,
            lag_ms=1_000_000_000,
        ),
        "polled",
        id=5,
        position=AT_FIELDS,
        compacted=["b/"],
        denied=["x", "y/"],
        next_ms=10_000,
        lag_ms=1_000_000_000,
        changes=CHANGES_FIELDS,
    ),
    reply(
        "the first time",
        Published(id=6, topic="a", version=41, position=AT),
        "published",
        id=6,
        topic="a",
        version=41,
        position=AT_FIELDS,
    ),
    reply(
        "once more",
        Published(id=6, topic="a", version=41, position=AT, repeated=True),
        "published",
        id=6,
        topic="a",
        version=41,
        position=AT_FIELDS,
        repeated=True,
    ),
    *map(error, WIRE_ERRORS),
    reply("without id", Error("invalid", "unreadable"), "error", code="invalid", message="unreadable"),
    *(
        reply(reason, Bye(reason, retry_ms=0, spread_ms=1_500), "bye", reason=reason, retry_ms=0, spread_ms=1_500)
        for reason in ("draining", "rewound", "replaced", "idle")
    ),
]

EXAMPLES: Final = [*REQUESTS, *REPLIES]
