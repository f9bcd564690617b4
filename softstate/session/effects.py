"""The effects that a session machine returns, for its shell to carry out in order.

`Send` queues a message; `SendFirst` and `SendAhead` do so ahead of what waits; `Replay` queues pushes; `Read` and
`ReadHead` ask the store and are answered with the same ticket; `Turn` asks for a turn of the loop, and `Inquire` about
a token or names, and both are answered likewise; `Submit` hands a publish on; `SetBeat` says how often beats are due;
`DropPending` and `DropUncovered` drop what waits; `CloseOther` ends another connection; `Close` ends this one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from softstate.auth.answers import Unasked
from softstate.auth.name_answers import NamesUnasked
from softstate.errors import RequestError
from softstate.lease.sink import Sink
from softstate.model import Query, Record
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import Message, Publish


@dataclass(frozen=True, slots=True)
class Send:
    """Queue a message behind everything pending; `records` become its `changes`."""

    message: Message
    records: Sequence[Record] = ()


@dataclass(frozen=True, slots=True)
class SendFirst:
    """Queue a message ahead of everything pending (P-REW-6)."""

    message: Message


@dataclass(frozen=True, slots=True)
class SendAhead:
    """Queue a message ahead of everything pending, but behind the welcome; nothing replaces it (P-AUTH-5)."""

    message: Message


@dataclass(frozen=True, slots=True)
class Replay:
    """Queue each record as a `notify`, behind everything pending, in the same turn as the message before it."""

    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Read:
    """*Begin* a store read now, not earlier; report it with `SessionMachine.answered` or `failed`.

    If what is read is below the revision `at_least`, wait for that, up to ``timeout_ms``, and read again (P-HTTP-6).
    """

    ticket: int
    query: Query
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Read the store's head now, wait until the hub has applied it, and report with `caught_up` or `failed`."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Call `SessionMachine.turn_begun` once the budget of a turn of the loop covers this many names (P-CONN-11)."""

    ticket: int
    names: int


@dataclass(frozen=True, slots=True)
class Inquire:
    """Have asked about a token, or names (`Gate.ask`), and report with `SessionMachine.inquired` (P-AUTH-12)."""

    ticket: int
    about: Unasked | NamesUnasked = field(repr=False)


@dataclass(frozen=True, slots=True)
class Submit:
    """Publish; the answer goes to the client when it is durable, in the order of commits (P-CONN-4).

    `reads`: the client may read the topic, so that the answer may tell of it what others did (P-AUTH-4). `refused`:
    nobody can tell just now whether it may publish, so that this and those behind it are refused (P-PUB-6).
    """

    message: Publish
    reads: bool = True
    refused: RequestError | None = None


@dataclass(frozen=True, slots=True)
class SetBeat:
    """Send beats, as long as the session vouches for them, with this time between two; none if it is 0 (P-BEAT-1)."""

    every_ms: int


@dataclass(frozen=True, slots=True)
class DropPending:
    """Drop the pushes that wait to be written, and what rests on them: `renewed`, `subscribed`, `beat` (P-REN-3)."""


@dataclass(frozen=True, slots=True)
class DropUncovered:
    """Drop the pushes that wait to be written and that none of `names` covers, and a beat, which counts them."""

    names: Collection[str]


@dataclass(frozen=True, slots=True)
class CloseOther:
    """This connection has resumed the session of another: have that one leave as `replaced` (P-RES-6)."""

    sink: Sink


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection with this code, once all that is queued has been written."""

    code: CloseCode
    reason: str


Effect: TypeAlias = (
    Send
    | SendFirst
    | SendAhead
    | Replay
    | Read
    | ReadHead
    | Turn
    | Inquire
    | Submit
    | SetBeat
    | DropPending
    | DropUncovered
    | CloseOther
    | Close
)
