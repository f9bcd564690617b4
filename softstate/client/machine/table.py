"""The client machine's table: what each trigger does in each state. PROTOCOL.md section 16 has it for people.

`ROWS` is the literal: states, triggers, the next state (None: the same), and actions by name, done in order.
`IGNORED` names the reason wherever a trigger does nothing. Together they fill every cell exactly once; a test counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple, TypeAlias, TypeVar, get_args

from softstate.model import Mode

T = TypeVar("T")


class Trigger(Enum):
    """What an event means to the machine."""

    OPENED = auto()
    OPENED_FOR_POLLING = auto()
    CLOSED = auto()
    WELCOME_RESUMED = auto()
    WELCOME_NEW = auto()
    WELCOME_RESET = auto()
    REWOUND = auto()
    """A request was answered `rewound`."""
    REFUSED = auto()
    """No connection: refused, timed out, or ended before its welcome."""
    LOST = auto()
    BYE = auto()
    FORBIDDEN = auto()
    """Credentials refused, or something else is wrong that waiting does not mend."""
    STRAYED = auto()
    """The connection may be in another history than the client."""
    ALL_ANSWERED = auto()
    """Every subscribe is answered."""
    RENEWED_MATCH = auto()
    RENEWED_DOWN = auto()
    """The renewal was answered, but the store could not be asked."""
    MISMATCH = auto()
    """Digests differ, or pushes went missing."""
    NO_LEASE = auto()
    RETRY_LATER = auto()
    """A subscribe ended in an error that time may mend."""
    UNKNOWN = auto()
    """The node says that a change may have been missed."""
    ANSWER_MISSED = auto()
    EXPIRED = auto()
    """The lease ended by the client's reckoning."""
    STUCK = auto()
    """A publish stays unanswered on the connection."""
    JUMPED = auto()
    REVOKED = auto()
    WAIT_OVER = auto()
    """Time to subscribe again on the open connection."""
    PATH_FAILED_K = auto()
    """So many rounds of all URLs in vain."""
    HTTP_ANSWERED = auto()


class Row(NamedTuple):
    """What happens: the next state, None for the same, and the actions."""

    to: Mode | None
    actions: tuple[str, ...]


_Cell: TypeAlias = tuple[Mode, Trigger]
_Modes: TypeAlias = tuple[Mode, ...]
_Triggers: TypeAlias = tuple[Trigger, ...]

MODES: _Modes = get_args(Mode)
_IDLE: _Modes = ("closed", "stopped")
_BEFORE: _Modes = ("connecting", "polling", "offline")
_LEASED: _Modes = ("syncing", "live", "suspect")
_RUNNING: _Modes = (*_BEFORE, *_LEASED)

_WELCOMES = (Trigger.WELCOME_RESUMED, Trigger.WELCOME_NEW, Trigger.WELCOME_RESET)
_OF_LEASE = (
    Trigger.ALL_ANSWERED,
    Trigger.RENEWED_MATCH,
    Trigger.RENEWED_DOWN,
    Trigger.MISMATCH,
    Trigger.NO_LEASE,
    Trigger.RETRY_LATER,
    Trigger.UNKNOWN,
    Trigger.ANSWER_MISSED,
    Trigger.EXPIRED,
)
_OF_CONNECTION = (*_OF_LEASE, Trigger.LOST, Trigger.BYE, Trigger.STUCK, Trigger.REVOKED, Trigger.WAIT_OVER)

ROWS: tuple[tuple[_Modes, _Triggers, Mode | None, tuple[str, ...]], ...] = (
    (("closed",), (Trigger.OPENED,), "connecting", ("connect", "poll_early")),
    (("closed",), (Trigger.OPENED_FOR_POLLING,), "polling", ("poll_now",)),
    (_BEFORE, (Trigger.WELCOME_RESUMED,), "syncing", ("renew", "poll_soon")),
    (_BEFORE, (Trigger.WELCOME_NEW,), "syncing", ("subscribe_new", "poll_soon")),
    (_BEFORE, (Trigger.WELCOME_RESET,), "syncing", ("reset", "subscribe_new", "poll_soon")),
    (_RUNNING, (Trigger.REWOUND,), "polling", ("reset", "leave", "poll_now", "reconnect_spread")),
    (("connecting",), (Trigger.REFUSED,), "polling", ("leave", "poll_soon", "back_off")),
    (("polling", "offline"), (Trigger.REFUSED,), None, ("leave", "back_off")),
    (_RUNNING, (Trigger.STRAYED,), "polling", ("leave", "poll_soon", "reconnect_spread")),
    (("syncing",), (Trigger.ALL_ANSWERED, Trigger.RENEWED_MATCH), "live", ("stop_polling", "settle_in")),
    (("syncing",), (Trigger.RETRY_LATER,), None, ("poll_soon",)),
    (("syncing",), (Trigger.RENEWED_DOWN,), None, ("renew_later", "poll_soon")),
    (("syncing",), (Trigger.WAIT_OVER,), None, ("subscribe_all",)),
    (
        ("syncing",),
        (Trigger.LOST, Trigger.ANSWER_MISSED, Trigger.EXPIRED, Trigger.STUCK),
        "polling",
        ("leave", "poll_soon", "back_off"),
    ),
    (_LEASED, (Trigger.BYE,), "polling", ("leave", "poll_soon", "reconnect_after_bye")),
    (_LEASED, (Trigger.MISMATCH, Trigger.NO_LEASE), "syncing", ("subscribe_all", "poll_soon")),
    (("live", "suspect"), (Trigger.RETRY_LATER,), "syncing", ("poll_soon",)),
    (_LEASED, (Trigger.UNKNOWN,), None, ("poll_doubtful",)),
    (_LEASED, (Trigger.REVOKED,), "polling", ("await_lease", "poll_soon")),
    (("live",), (Trigger.RENEWED_MATCH,), None, ()),
    (("live", "suspect"), (Trigger.RENEWED_DOWN,), None, ()),
    (("live",), (Trigger.ANSWER_MISSED, Trigger.JUMPED), "suspect", ("poll_elsewhere", "renew_once_more")),
    (("suspect",), (Trigger.RENEWED_MATCH,), "live", ("stop_polling", "settle_in")),
    (("suspect",), (Trigger.ANSWER_MISSED,), "polling", ("leave", "poll_soon", "reconnect_spread")),
    (
        ("live", "suspect"),
        (Trigger.LOST, Trigger.EXPIRED, Trigger.STUCK),
        "polling",
        ("leave", "poll_soon", "reconnect_spread"),
    ),
    (("polling",), (Trigger.WAIT_OVER,), "syncing", ("subscribe_all",)),
    (("polling",), (Trigger.LOST, Trigger.STUCK), None, ("leave", "reconnect_spread")),
    (("polling",), (Trigger.BYE,), None, ("leave", "reconnect_after_bye")),
    (("polling",), (Trigger.PATH_FAILED_K,), "offline", ("pool_retries",)),
    (("offline",), (Trigger.HTTP_ANSWERED,), "polling", ("resume_paths",)),
    (_RUNNING, (Trigger.FORBIDDEN,), "stopped", ("leave", "stop_polling", "stop")),
    ((*_RUNNING, "stopped"), (Trigger.CLOSED,), "closed", ("say_goodbye", "leave", "stop_polling", "settle_closed")),
)

_NOT_RUNNING = "the client is not running: nothing is in flight, and a late word is worth nothing"

_REASONS: tuple[tuple[_Modes, _Triggers, str], ...] = (
    ((*_RUNNING, "stopped"), (Trigger.OPENED, Trigger.OPENED_FOR_POLLING), "it was opened; only closing comes next"),
    (("closed",), (Trigger.CLOSED,), "it is closed already"),
    (
        _IDLE,
        tuple(t for t in Trigger if t not in {Trigger.OPENED, Trigger.OPENED_FOR_POLLING, Trigger.CLOSED}),
        _NOT_RUNNING,
    ),
    (_LEASED, _WELCOMES, "a connection is welcomed once"),
    (_LEASED, (Trigger.REFUSED,), "the connection has had its welcome: it can be lost, not refused"),
    (("connecting", "offline"), _OF_CONNECTION, "no connection has had its welcome"),
    (("polling",), _OF_LEASE, "the lease is over, and its requests with it"),
    (("polling",), (Trigger.REVOKED,), "the lease is over already, and the wait for another has begun"),
    (("live",), (Trigger.ALL_ANSWERED,), "names were added to a lease that was in order"),
    (("suspect",), (Trigger.ALL_ANSWERED,), "only a renewal proves the whole set"),
    (("live", "suspect"), (Trigger.WAIT_OVER,), "nothing waits: that is what syncing and polling are for"),
    (
        (*_BEFORE, "syncing", "suspect"),
        (Trigger.JUMPED,),
        "nothing is believed to be fresh, and timers run on a clock that counts suspend",
    ),
    (("connecting", *_LEASED), (Trigger.PATH_FAILED_K,), "the other path is open, or still has its first chance"),
    (("offline",), (Trigger.PATH_FAILED_K,), "it is offline already"),
    (("connecting", *_LEASED, "polling"), (Trigger.HTTP_ANSWERED,), "that polls are answered is nothing new"),
)


def _cells(modes: Iterable[Mode], triggers: Iterable[Trigger]) -> list[_Cell]:
    return [(mode, trigger) for mode in modes for trigger in triggers]


def _filled(groups: Iterable[tuple[list[_Cell], T]]) -> dict[_Cell, T]:
    """Lay groups of cells out as one table; a cell filled twice is a mistake in the literal."""
    table: dict[_Cell, T] = {}
    for cells, content in groups:
        assert not table.keys() & cells, f"filled twice: {sorted(table.keys() & cells, key=str)}"
        table.update(dict.fromkeys(cells, content))
    return table


TABLE: dict[_Cell, Row] = _filled((_cells(modes, triggers), Row(to, actions)) for modes, triggers, to, actions in ROWS)
"""What a trigger does in a state."""

IGNORED: dict[_Cell, str] = _filled((_cells(modes, triggers), reason) for modes, triggers, reason in _REASONS)
"""Why a trigger does nothing in a state."""
