"""Events that go into the client machine and actions that come out: its whole vocabulary.

Events tell the machine what happened; actions tell a shell what to do. Neither side calls the other back. `conn`,
`request` and `ticket` are numbers that one side chose to name a connection, an HTTP request or a publish; an event
about a number that the machine has given up on is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from softstate.errors import RequestError, SoftstateError, Unauthenticated
from softstate.model import Change, Mode, Value
from softstate.position import Position
from softstate.wire.messages import BatchChange, BatchResult, ClientMessage, Poll, Polled, Published, ServerMessage

# Events: the application ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The application opened the client."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The application closes the client."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The application wants these names from now on; none of them is held already."""

    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """If one of these prefixes is denied, the application wants the names below it that it may read; of no other."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The application no longer wants these names."""

    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """The application publishes; the value has been checked. Publishes of one topic are sent one at a time, in order.

    `key` is an idempotency key; a publish without one gets a number of this client when it is first sent. `cbor_bytes`
    is the size of the value as CBOR, `wire_bytes` as the client's codec writes it.
    """

    ticket: int
    topic: str
    value: Value
    deleted: bool
    expect: int | None
    key: str | None
    cbor_bytes: int = 0
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PublishDropped:
    """The application no longer waits for this publish. If it was sent, it may be applied all the same."""

    ticket: int


# Events: the network -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The WebSocket handshake of `conn` is done."""

    conn: int


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """`conn` did not come to be. `status` is the HTTP status, if the node answered with one (404: no WebSocket here).

    `retry_ms` is its Retry-After, if it sent one; `error` is the body of its answer, if that was an error of a node.
    `unsent`: the dial was refused: not even a stream came to be, so the other path would not get one either.
    """

    conn: int
    reason: str
    status: int | None = None
    retry_ms: int | None = None
    error: RequestError | None = None
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message arrived on `conn`."""

    conn: int
    message: ServerMessage


@dataclass(frozen=True, slots=True)
class Lost:
    """`conn` ended, not by our wish. `code` is the close code, None if there was none."""

    conn: int
    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class PollAnswered:
    """An HTTP poll was answered with this page."""

    request: int
    message: Polled


@dataclass(frozen=True, slots=True)
class PublishAnswered:
    """An HTTP batch of publishes was answered, in the order sent."""

    request: int
    results: Sequence[BatchResult]


@dataclass(frozen=True, slots=True)
class TokenGot:
    """The provider gave a token, for the `FetchToken` of this number."""

    number: int
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenFailed:
    """The provider gave no token; `final`: it never will again, and this says why."""

    number: int
    error: RequestError
    final: bool = False


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """A node refused a token in answer to a request that the machine knows nothing of, such as a read."""

    token: str | None = field(repr=False)
    error: Unauthenticated


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """An HTTP request failed: the node answered with `error`, or could not be reached or understood (`error` None).

    `unsent`: no connection came to be, so no node has seen it.
    """

    request: int
    reason: str
    error: RequestError | None = None
    unsent: bool = False


# Events: time --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ticked:
    """The machine's `deadline()` has come."""


@dataclass(frozen=True, slots=True)
class Jumped:
    """The clock that runs during suspend and the one that does not have drifted apart: the host slept."""


@dataclass(frozen=True, slots=True)
class FreshWanted:
    """The application wants to know how things are now, ahead of the next beat or poll."""


@dataclass(frozen=True, slots=True)
class Forked:
    """This process is a child of fork(): the machine that it was copied from goes on in the parent.

    `seed` is new: the child must not draw what the parent draws.
    """

    seed: int


Event: TypeAlias = (
    Opened
    | Closed
    | Wanted
    | Unwanted
    | Narrowing
    | PublishRequested
    | PublishDropped
    | FreshWanted
    | Forked
    | Connected
    | ConnectFailed
    | Arrived
    | Lost
    | PollAnswered
    | PublishAnswered
    | RequestFailed
    | TokenGot
    | TokenFailed
    | TokenRefused
    | Ticked
    | Jumped
)


# Actions: the network ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a WebSocket to `url`; report `Connected` or `ConnectFailed`, within `timeout_s`."""

    conn: int
    url: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message on `conn`, after those before it."""

    conn: int
    message: ClientMessage


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close `conn`, or give up opening it. Nothing it still says is wanted, not even `Lost` (P-RES-7)."""

    conn: int


@dataclass(frozen=True, slots=True)
class SendPoll:
    """Send ``POST /v1/poll`` to `url`; report `PollAnswered` or `RequestFailed`, within `timeout_s`."""

    request: int
    url: str
    message: Poll
    timeout_s: float


@dataclass(frozen=True, slots=True)
class SendPublish:
    """Send ``POST /v1/publish`` to `url`; report `PublishAnswered` or `RequestFailed`, within `timeout_s`.

    With a `publisher`, the changes have the numbers `seq`, `seq` + 1, …, and all up to `settled` is settled.
    """

    request: int
    url: str
    changes: Sequence[BatchChange]
    timeout_s: float
    publisher: str | None = None
    seq: int = 0
    settled: int = 0


@dataclass(frozen=True, slots=True)
class FetchToken:
    """Ask the provider for a token; report `TokenGot` or `TokenFailed`.

    `rejected` is the check that refused the last one, None if it is only about to end; `attempt` counts the fetches
    since a node has taken a token.
    """

    number: int
    rejected: str | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give up an HTTP request. Nothing about it is wanted any more."""

    request: int


# Actions: the application --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deliver:
    """These are the newest states of topics that the application wants, in order."""

    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Reset:
    """The store's history changed; everything known so far is of unknown age. Values of the new one will follow."""

    position: Position


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """The machine went into another state: `because` says why, in words, `url` where, if that was at one node."""

    mode: Mode
    because: str = field(default="", compare=False)
    url: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NodeRefused:
    """The node at `url` refuses this client, or one of its polls, and waiting does not mend that; the client goes on.

    Told once for each URL and reason; of a provider's tokens, if it refuses one that no node has taken yet. A URL that
    refuses this client is asked again much later if it is the only one; a poll that was refused is not sent again
    unchanged.
    """

    url: str
    error: RequestError


@dataclass(frozen=True, slots=True)
class TopicsUnreadable:
    """The stored records of these topics are damaged; what was known of them stays, and has no age (P-KNOW-11).

    Told once for each topic, until it is published again. Other topics go on.
    """

    topics: Sequence[str]


@dataclass(frozen=True, slots=True)
class NamesDenied:
    """The node refuses these names to this client; they have left the set.

    `narrow`: of some prefixes among them, names below them that the client may read. Of those that were told by
    `Narrowing`, these are in the set now.
    """

    names: Sequence[str]
    narrow: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of a publish: `Published`, or the error to raise."""

    ticket: int
    outcome: Published | SoftstateError


@dataclass(frozen=True, slots=True)
class Stopped:
    """The client cannot go on without the application: raise `error` to it."""

    error: SoftstateError


Action: TypeAlias = (
    Connect
    | Send
    | Disconnect
    | SendPoll
    | SendPublish
    | FetchToken
    | Abandon
    | Deliver
    | Reset
    | ModeChanged
    | NodeRefused
    | TopicsUnreadable
    | NamesDenied
    | Settled
    | Stopped
)
