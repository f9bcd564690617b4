"""The session as a table: for each state, the rule of each message and each event.

::

             hello              welcome
    NEW ───────────▶ GREETING ───────────▶ OPEN ◀──────────┐
     │                  │                  │  revoked,     │ subscribe
     │                  │                  │  no_lease     │
     │                  │                  ▼               │
     │                  │                LAPSED ───────────┘
     └──────────────────┴──────────┬───────┴ bye, replaced, rewound, draining, idle,
                                   ▼         refused, disconnected
                                 ENDED

`ROWS` is the literal: states, messages or an event, the states that these may lead to (`SAME`: the same), and the
function that acts. Where two states are possible, the first is the usual one; a remark names the case of the second.
`IGNORED` gives the reason wherever nothing is done. Together they fill every cell exactly once; a test counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias, TypeVar, get_args

from softstate.session.credentials import authenticate, refuse_early
from softstate.session.effects import Effect
from softstate.session.events import (
    DENIED,
    DISCONNECTED,
    DRAINING,
    EVENTS,
    EXPIRED,
    HELLO_ANSWERED,
    HELLO_FAILED,
    IDLE,
    INQUIRY_FAILED,
    POLL_ANSWERED,
    POLL_FAILED,
    POSITION_MOVED,
    REFUSED,
    RENEW_CAUGHT_UP,
    RENEW_FAILED,
    REPLACED,
    REVOKED,
    REWOUND,
    RULES_CHANGED,
    SUBSCRIBE_ANSWERED,
    SUBSCRIBE_FAILED,
    TURN_BEGUN,
    UNREADABLE,
    NodeEvent,
)
from softstate.session.greeting import (
    greet,
    join,
    keep_for_welcome,
    keep_position,
    keep_unreadable,
    refuse_or_reset,
    refuse_unasked,
    reject_second_hello,
    send_position,
    welcome,
)
from softstate.session.inquiry import fail_inquiry
from softstate.session.permission import judge_changed
from softstate.session.poll import fail_poll, poll_page, read_poll
from softstate.session.publish import submit
from softstate.session.renewal import answer_renew, fail_renew, refuse_renew, renew
from softstate.session.state import SessionCore, State
from softstate.session.subscription import fail_subscribe, subscribe, subscribe_page, unsubscribe
from softstate.session.termination import (
    accept_bye,
    deny,
    deny_ahead,
    detach,
    expire,
    leave,
    leave_and_release,
    leave_to_other,
    refuse,
    refuse_unless_hello,
    refuse_unreadable,
    report_unreadable,
    reset_outbox,
    revoke,
)
from softstate.wire.messages import (
    Auth,
    ClientBye,
    ClientMessage,
    Hello,
    Message,
    Poll,
    Publish,
    Renew,
    Subscribe,
    Unsubscribe,
)

P = ParamSpec("P")
M = TypeVar("M", bound=Message)
T = TypeVar("T")

Key: TypeAlias = type[Message] | NodeEvent[Any]
Cell: TypeAlias = tuple[State, Key]
States: TypeAlias = tuple[State, ...]
Act: TypeAlias = Callable[..., list[Effect]]
Row: TypeAlias = tuple[States, tuple[Key, ...], States, Act]


class Rule(NamedTuple):
    """The content of a cell: the states that it may lead to, and the function that acts."""

    to: States
    act: Act


def _on(
    states: States, messages: tuple[type[M], ...], to: States, act: Callable[[SessionCore, M, float], list[Effect]]
) -> Row:
    """Make a row for messages. The types hold `act` to what it will be called with: the session, a message, now."""
    return states, messages, to, act


def _at(
    states: States, event: NodeEvent[P], to: States, act: Callable[Concatenate[SessionCore, P], list[Effect]]
) -> Row:
    """Make a row for an event, whose type holds `act` to what it will be called with."""
    return states, (event,), to, act


NEW, GREETING, OPEN, LAPSED, ENDED = State
ALIVE = (NEW, GREETING, OPEN, LAPSED)
WELCOMED = (OPEN, LAPSED)
NOT_OPEN = (NEW, GREETING, LAPSED)
SAME: States = ()

MESSAGES: tuple[type[Message], ...] = get_args(ClientMessage)
NOT_HELLO = (Subscribe, Unsubscribe, Renew, Poll, Publish, Auth, ClientBye)
KEPT = (Hello, Unsubscribe, Renew, Poll, Publish, ClientBye)

# fmt: off
ROWS: tuple[Row, ...] = (
    _on((NEW,),      (Hello,),           (GREETING, ENDED), greet),  # ENDED: refused for its credentials, or a limit
    _on((NEW,),      NOT_HELLO,          (ENDED,),        refuse_unless_hello),
    _on((GREETING,), (Subscribe,),       SAME,            join),
    _on((GREETING,), KEPT,               SAME,            keep_for_welcome),
    _on((GREETING,), (Auth,),            SAME,            refuse_early),
    _on(WELCOMED,    (Hello,),           SAME,            reject_second_hello),
    _on(WELCOMED,    (Subscribe,),       (OPEN, LAPSED),  subscribe),  # LAPSED: no new lease was granted
    _on((OPEN,),     (Unsubscribe,),     SAME,            unsubscribe),
    _on((OPEN,),     (Renew,),           (OPEN, LAPSED),  renew),  # LAPSED: past its deadline, or no credentials
    _on((LAPSED,),   (Renew,),           SAME,            refuse_renew),
    _on(WELCOMED,    (Poll,),            (OPEN, LAPSED),  read_poll),  # LAPSED: the credentials are over
    _on(WELCOMED,    (Publish,),         (OPEN, LAPSED),  submit),  # LAPSED: the same
    _on(WELCOMED,    (Auth,),            SAME,            authenticate),
    _on(WELCOMED,    (ClientBye,),       (ENDED,),        accept_bye),
    _at((NEW,),      UNREADABLE,         (ENDED,),        refuse_unreadable),
    _at((GREETING,), UNREADABLE,         SAME,            keep_unreadable),
    _at(WELCOMED,    UNREADABLE,         SAME,            report_unreadable),

    _at((GREETING,), HELLO_ANSWERED,     (OPEN, LAPSED, ENDED), welcome),  # ENDED: the lease table is full
    _at((GREETING,), HELLO_FAILED,       (ENDED, OPEN),   refuse_or_reset),  # OPEN: its position was rewound
    _at((OPEN,),     SUBSCRIBE_ANSWERED, (OPEN, LAPSED),  subscribe_page),  # LAPSED: the credentials are over
    _at((OPEN,),     SUBSCRIBE_FAILED,   SAME,            fail_subscribe),
    _at((OPEN,),     RENEW_CAUGHT_UP,    (OPEN, LAPSED),  answer_renew),  # LAPSED: past its deadline by now
    _at((OPEN,),     RENEW_FAILED,       (OPEN, LAPSED),  fail_renew),  # LAPSED: the same
    _at(WELCOMED,    POLL_ANSWERED,      (OPEN, LAPSED),  poll_page),  # LAPSED: the same
    _at(WELCOMED,    POLL_FAILED,        SAME,            fail_poll),
    _at((GREETING,), TURN_BEGUN,         SAME,            SessionCore.go_on),
    _at(WELCOMED,    TURN_BEGUN,         (OPEN, LAPSED),  SessionCore.go_on),  # LAPSED: a poll, or no new lease

    _at((NEW,),      INQUIRY_FAILED,     (ENDED,),        refuse_unasked),
    _at(WELCOMED,    INQUIRY_FAILED,     SAME,            fail_inquiry),

    _at((OPEN,),     RULES_CHANGED,      (OPEN, LAPSED),  judge_changed),  # LAPSED: the credentials are over

    _at((OPEN,),     EXPIRED,            (LAPSED,),       expire),
    _at((OPEN,),     REVOKED,            (LAPSED,),       revoke),
    _at((OPEN,),     DENIED,             (LAPSED,),       deny),
    _at(NOT_OPEN,    EXPIRED,            SAME,            reset_outbox),
    _at(NOT_OPEN,    REVOKED,            SAME,            reset_outbox),
    _at(NOT_OPEN,    DENIED,             SAME,            deny_ahead),

    _at((GREETING,), POSITION_MOVED,     SAME,            keep_position),
    _at(WELCOMED,    POSITION_MOVED,     SAME,            send_position),

    _at(ALIVE,       REPLACED,           (ENDED,),        leave_to_other),
    _at(ALIVE,       DRAINING,           (ENDED,),        leave),
    _at(ALIVE,       REWOUND,            (ENDED,),        leave_and_release),
    _at(ALIVE,       IDLE,               (ENDED,),        leave_and_release),
    _at(ALIVE,       REFUSED,            (ENDED,),        refuse),
    _at(ALIVE,       DISCONNECTED,       (ENDED,),        detach),
)
# fmt: on

_OF_LEASE = (SUBSCRIBE_ANSWERED, SUBSCRIBE_FAILED, RENEW_CAUGHT_UP, RENEW_FAILED)

_REASONS: tuple[tuple[States, tuple[Key, ...], str], ...] = (
    ((LAPSED,), (Unsubscribe,), "a lease that has ended holds no names"),
    ((NEW, *WELCOMED), (HELLO_ANSWERED, HELLO_FAILED), "hello is under way in GREETING alone"),
    ((NEW, GREETING), (*_OF_LEASE, POLL_ANSWERED, POLL_FAILED), "no other request is under way before the welcome"),
    ((LAPSED,), _OF_LEASE, "a request that rests on the lease has ended with it (P-CONN-8)"),
    ((NEW,), (TURN_BEGUN,), "no request is under way before hello"),
    ((GREETING,), (INQUIRY_FAILED,), "hello is asked about before it, and a subscribe behind the welcome"),
    ((NEW, GREETING), (RULES_CHANGED,), "no names were told to be in a lease yet: they are judged ahead of that"),
    ((LAPSED,), (RULES_CHANGED,), "no names are in a lease; the next request is judged by itself"),
    ((NEW,), (POSITION_MOVED,), "the welcome will name the lineage"),
    ((ENDED,), (*MESSAGES, *EVENTS), "the connection is over"),
)


def _filled(cells: Iterable[tuple[Cell, T]]) -> dict[Cell, T]:
    """Lay cells out as one table; a cell filled twice is a mistake in the literal."""
    table: dict[Cell, T] = {}
    for cell, content in cells:
        assert cell not in table, f"filled twice: {cell}"
        table[cell] = content
    return table


TABLE: dict[Cell, Rule] = _filled(
    ((state, key), Rule(to or (state,), act)) for states, keys, to, act in ROWS for state in states for key in keys
)
"""The rule of each cell in which something is done."""

IGNORED: dict[Cell, str] = _filled(
    ((state, key), reason) for states, keys, reason in _REASONS for state in states for key in keys
)
"""The reason why nothing is done, of each other cell."""
