"""Every message of protocol version 1, one class each, in the order of PROTOCOL.md sections 3 and 4.

A class is the schema: field names are those on the wire in both codecs, defaults are omitted when sent, unknown
fields are ignored when received (P-WIRE-3), and a wrong type is refused with the path of the field (P-WIRE-9).
Durations are integer milliseconds (P-WIRE-8). PROTOCOL.md says what each field means.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from softstate.model import Change, Durability, Value
from softstate.position import REVISION_MAX, Position, Revision
from softstate.wire.levels import Since

PROTOCOL_JSON = "softstate.v1.json"
PROTOCOL_CBOR = "softstate.v1.cbor"

ID_CHARS_MAX = 64
NAME_CHARS_MAX = 128
KEY_CHARS_MAX = 128
TOKEN_CHARS_MAX = 8192
NARROW_NAMES_MAX = 16
"""Most names that `narrow` gives for one that was denied."""
DURATION_MS_MAX = 7 * 24 * 3_600_000
AGE_MS_NEVER = DURATION_MS_MAX
"""`age_ms` of a client that does not know all that it wants, or whose knowledge is older still (P-REN-13)."""
MODE_CHARS_MAX = 16

Count: TypeAlias = Annotated[int, Meta(ge=0, le=REVISION_MAX)]
Ms: TypeAlias = Annotated[int, Meta(ge=0, le=DURATION_MS_MAX)]
Token: TypeAlias = Annotated[str, Meta(max_length=ID_CHARS_MAX)]
Credentials: TypeAlias = Annotated[str, Meta(max_length=TOKEN_CHARS_MAX)]
Cursor: TypeAlias = Annotated[str, Meta(max_length=128)]
"""Text that a node makes and a client sends back has one limit for both ways; else every node would refuse it."""
ModeName: TypeAlias = Annotated[str, Meta(max_length=MODE_CHARS_MAX)]
PublisherId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
Sequence: TypeAlias = Annotated[int, Meta(ge=0, le=REVISION_MAX)]
"""The number of a publish, from 1; 0 stands for none."""
Id: TypeAlias = Annotated[int, Meta(ge=0, le=REVISION_MAX)] | Annotated[str, Meta(max_length=ID_CHARS_MAX)]
Reason: TypeAlias = Literal["expired", "slow_consumer", "overloaded", "denied"]
Farewell: TypeAlias = Literal["draining", "rewound", "replaced", "idle"]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="op"):
    """Root of all messages; `op` on the wire is the class's tag."""


# Client to server ----------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """Open a session (P-CONN-1), or resume one: `session`, `since` and `position` together ask to resume (P-RES-2)."""

    position: Position | None = None
    session: Token | None = None
    since: Revision | None = None
    ttl_ms: Ms | None = None
    token: Credentials | None = None
    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX)] = ""
    beat_ms: Ms | None = None


class Subscribe(Message, frozen=True, tag="subscribe"):
    """Add names to the lease, each with the version or revision known; `replace` makes them the whole set (P-SUB-1)."""

    id: Id
    topics: dict[str, Revision] = {}
    prefixes: dict[str, Revision] = {}
    replace: bool = False


class Unsubscribe(Message, frozen=True, tag="unsubscribe"):
    """Take names out of the lease. Never needed for correctness, never answered (P-SUB-15)."""

    topics: list[str] = []
    prefixes: list[str] = []


class Renew(Message, frozen=True, tag="renew"):
    """Extend the lease (P-REN-5), and ask whether both sides hold the same set (P-REN-8).

    `age_ms` and `mode` tell how old what the client knows is, and what it does about it (P-REN-13).
    """

    id: Id
    digest: Annotated[str, Meta(max_length=16)]
    count: Count
    ttl_ms: Ms | None = None
    beat_ms: Ms | None = None
    age_ms: Annotated[Ms | None, Since(3)] = None
    mode: Annotated[ModeName | None, Since(3)] = None


class Poll(Message, frozen=True, tag="poll"):
    """Ask for changes, without a lease. Over HTTP `id` has no use, and `cursor` asks for the next page (P-HTTP-7).

    `wait_ms`, over HTTP: hold the answer for so long if there is no news (P-HTTP-19). `age_ms` and `mode` are as in
    `renew`.
    """

    id: Id = 0
    position: Position | None = None
    topics: dict[str, Revision] = {}
    prefixes: dict[str, Revision] = {}
    min_revision: Revision = 0
    cursor: Cursor | None = None
    wait_ms: Annotated[Ms | None, Since(2)] = None
    age_ms: Annotated[Ms | None, Since(3)] = None
    mode: Annotated[ModeName | None, Since(3)] = None


class Publish(Message, frozen=True, tag="publish"):
    """Set a topic's value, or delete it (P-PUB-1). Exactly one of `value` and `deleted` is given.

    `publisher`, `seq` and `settled` (P-PUB-9), or `key` (P-PUB-4), make it safe to repeat.
    """

    id: Id
    topic: str
    value: Value | UnsetType = UNSET
    deleted: bool = False
    expect: Revision | None = None
    key: Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX)] | None = None
    publisher: PublisherId | None = None
    seq: Sequence = 0
    settled: Revision = 0


class Auth(Message, frozen=True, tag="auth"):
    """Present new credentials of the same principal, in place (P-AUTH-6)."""

    id: Id
    token: Credentials


class ClientBye(Message, frozen=True, tag="bye"):
    """Release the lease at once (P-CONN-9)."""


ClientMessage: TypeAlias = Hello | Subscribe | Unsubscribe | Renew | Poll | Publish | Auth | ClientBye


# Server to client ----------------------------------------------------------------------------------------------------


class PollAdvice(msgspec.Struct, frozen=True):
    """Advice on polling when not live: the interval, and the span over which the first poll is spread."""

    every_ms: Ms
    spread_ms: Ms


class RecoverAdvice(msgspec.Struct, frozen=True):
    """Advice on reconnecting after a loss; sent before, since no node is left to send it after (P-CONN-3)."""

    spread_ms: Ms
    base_ms: Ms
    cap_ms: Ms


class Limits(msgspec.Struct, frozen=True):
    """Limits of the node that a client must know.

    `keys` and `key_ms` bound idempotency keys (P-PUB-4), `inflight` and `key_ms` the numbers of a publisher (P-PUB-9),
    `value_items` and `message_items` what a value and a message hold (P-WIRE-11).
    """

    subscriptions: Count
    value_bytes: Count
    message_bytes: Count
    pending: Count
    keys: Count
    key_ms: Count
    inflight: Count
    value_items: Count
    message_items: Count


class Welcome(Message, frozen=True, tag="welcome"):
    """Answer `hello`. If `resumed`, the missed changes follow at once as `notify`s (P-RES-2).

    `level` is the protocol level that the node knows (P-WIRE-10), `beat_ms` the time between two beats that it grants,
    `clock_ms` what its clock reads (P-BEAT-1). The credentials are good for `credentials_ms`, and those of `subject`.
    """

    session: Token
    resumed: bool
    node: str
    position: Position
    ttl_ms: Ms
    renew_ms: Ms
    timeout_ms: Ms
    poll: PollAdvice
    recover: RecoverAdvice
    limits: Limits
    durability: Durability
    reset: bool | UnsetType = UNSET
    level: Count = 0
    beat_ms: Ms = 0
    clock_ms: Count | None = None
    credentials_ms: Ms | None = None
    subject: str | None = None


class Subscribed(Message, frozen=True, tag="subscribed"):
    """Answer `subscribe` with one page; the fields from `digest` on come with the last page (P-SUB-4, P-SUB-7).

    But `unreadable` names topics on any page (P-KNOW-11).
    """

    id: Id
    position: Position
    changes: list[Change] = []
    more: bool = False
    digest: str = ""
    count: Count = 0
    compacted: list[str] = []
    denied: list[str] = []
    lag_ms: Count = 0
    unreadable: list[str] = []
    clock_ms: Count | None = None
    narrow: dict[str, list[str]] = {}


class Notify(Message, frozen=True, tag="notify"):
    """Push one change; or `unknown`: a change may have been missed, so poll this topic (P-KNOW-7)."""

    topic: str
    version: Revision
    value: Value | UnsetType = UNSET
    deleted: bool = False
    unknown: bool = False


class PositionMoved(Message, frozen=True, tag="position"):
    """Tell that a lineage row has passed: `position` names the lineage from here on (P-REW-6)."""

    position: Position


class Renewed(Message, frozen=True, tag="renewed"):
    """Answer `renew` (P-REN-2). `sent` counts the `notify`s written ahead of it on this connection (P-REN-9)."""

    id: Id
    match: bool
    position: Position
    sent: Count
    ttl_ms: Ms
    renew_ms: Ms
    poll: PollAdvice
    recover: RecoverAdvice
    store: Literal["ok", "down"]
    lag_ms: Count = 0
    beat_ms: Ms = 0
    clock_ms: Count | None = None
    credentials_ms: Ms | None = None


class Beat(Message, frozen=True, tag="beat"):
    """Tell that all up to `position`, as of `clock_ms`, has been pushed, or at least that the node lives (P-BEAT-2).

    The next one comes within `next_ms`. Without a `position` it certifies nothing. `sent` is as in `renewed`.
    """

    next_ms: Ms
    sent: Count
    position: Position | None = None
    clock_ms: Count = 0


class Revoked(Message, frozen=True, tag="revoked"):
    """Tell that the lease is over; the connection is not (P-CONN-8)."""

    reason: Reason
    retry_ms: Ms | None = None
    spread_ms: Ms | None = None


class DeniedNames(Message, frozen=True, tag="denied"):
    """Tell that names have left the lease, since they may not be read any more (P-AUTH-5)."""

    names: list[str]
    narrow: dict[str, list[str]] = {}


class Authenticated(Message, frozen=True, tag="authenticated"):
    """Answer `auth`: the new credentials count from here on (P-AUTH-6)."""

    id: Id
    credentials_ms: Ms | None = None
    subject: str | None = None


class Polled(Message, frozen=True, tag="polled"):
    """Answer `poll` with one page; what follows `compacted`, but for `unreadable`, comes with the last page.

    `unreadable` names topics on any page (P-KNOW-11).
    """

    id: Id
    position: Position
    changes: list[Change] = []
    more: bool = False
    cursor: Cursor | None = None
    compacted: list[str] = []
    denied: list[str] = []
    next_ms: Ms | None = None
    lag_ms: Count = 0
    unreadable: list[str] = []
    credentials_ms: Ms | None = None
    narrow: dict[str, list[str]] = {}
    held_ms: Ms = 0


class Published(Message, frozen=True, tag="published"):
    """Answer `publish`: it is durable at `version`. `repeated`: an earlier request with the same key did it."""

    id: Id
    topic: str
    version: Revision
    position: Position
    repeated: bool = False


UNTRIED = "untried"
"""`why` of `unavailable` to a publish that the node has not begun: it is not applied (P-PUB-5)."""


class Error(Message, frozen=True, tag="error"):
    """Answer a request that failed, or, without `id`, a message that could not be read (P-WIRE-9)."""

    code: str
    message: str
    id: Id | None = None
    retry_ms: Ms | None = None
    current: Revision | None = None
    position: Position | None = None
    why: str | None = None
    version: Revision | None = None


class ServerBye(Message, frozen=True, tag="bye"):
    """Announce the end of the connection: come back after `retry_ms` plus a random part of `spread_ms`."""

    reason: Farewell
    retry_ms: Ms
    spread_ms: Ms


ServerMessage: TypeAlias = (
    Welcome
    | Subscribed
    | Notify
    | PositionMoved
    | Renewed
    | Beat
    | DeniedNames
    | Authenticated
    | Revoked
    | Polled
    | Published
    | Error
    | ServerBye
)


# HTTP bodies ---------------------------------------------------------------------------------------------------------


class BatchChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of ``POST /v1/publish``."""

    topic: str
    value: Value | UnsetType = UNSET
    deleted: bool = False
    expect: Revision | None = None
    key: Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX)] | None = None


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``POST /v1/publish``: changes applied in order, each with its own verdict, not atomic.

    With a `publisher`, change i has the number `seq` + i (P-PUB-9).
    """

    changes: list[BatchChange]
    publisher: PublisherId | None = None
    seq: Sequence = 0
    settled: Revision = 0


class BatchResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One verdict of ``POST /v1/publish``: the fields of `published`, or of `error` (then `code` is set)."""

    topic: str = ""
    version: Revision = 0
    position: Position | None = None
    repeated: bool = False
    code: str = ""
    message: str = ""
    retry_ms: Ms | None = None
    current: Revision | None = None
    why: str | None = None


class BatchResults(msgspec.Struct, frozen=True):
    """The reply to ``POST /v1/publish``, in the order of the changes."""

    results: list[BatchResult]
