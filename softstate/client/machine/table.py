"""The client machine's table: what each trigger does in each mode. PROTOCOL.md section 16 has it for people.

`ROWS` is the literal: modes, triggers, the next mode (None: the same), and actions, done in order. `IGNORED` names the
reason wherever a trigger does nothing. Together they fill every cell exactly once; a test counts. CLIENT.md draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias, TypeVar, get_args

from softstate.client.machine import actions as do
from softstate.client.machine.actions import Parts
from softstate.client.machine.state import Cause
from softstate.client.machine.triggers import Trigger
from softstate.model import Mode

T = TypeVar("T")


_Cell: TypeAlias = tuple[Mode, Trigger]
_Modes: TypeAlias = tuple[Mode, ...]
_Triggers: TypeAlias = tuple[Trigger, ...]
_Actions: TypeAlias = tuple[Callable[[Parts, Cause], None], ...]


class Row(NamedTuple):
    """The next mode, None for the same, and the actions."""

    to: Mode | None
    actions: _Actions


MODES: _Modes = get_args(Mode)
_IDLE: _Modes = ("closed", "stopped")
_BEFORE: _Modes = ("connecting", "polling", "offline")
_LEASED: _Modes = ("syncing", "live", "suspect")
_RUNNING: _Modes = (*_BEFORE, *_LEASED)
_OPEN: _Modes = (*_RUNNING, "stopped")

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
    Trigger.SILENT,
    Trigger.EXPIRED,
)
_OF_CONNECTION = (*_OF_LEASE, Trigger.LOST, Trigger.BYE, Trigger.STUCK, Trigger.REVOKED, Trigger.WAIT_OVER)

ROWS: tuple[tuple[_Modes, _Triggers, Mode | None, _Actions], ...] = (
    (("closed",), (Trigger.OPENED,), "connecting", (do.connect, do.poll_early)),
    (("closed",), (Trigger.OPENED_FOR_POLLING,), "polling", (do.poll_now,)),
    (_BEFORE, (Trigger.WELCOME_RESUMED,), "syncing", (do.renew_resumed, do.poll_soon)),
    (_BEFORE, (Trigger.WELCOME_NEW,), "syncing", (do.subscribe_new, do.poll_soon)),
    (_BEFORE, (Trigger.WELCOME_RESET,), "syncing", (do.reset, do.subscribe_new, do.poll_soon)),
    (_RUNNING, (Trigger.REWOUND,), "polling", (do.reset, do.leave, do.poll_reset, do.reconnect_spread)),
    (("connecting",), (Trigger.REFUSED,), "polling", (do.leave, do.back_off, do.poll_soon)),
    (("polling", "offline"), (Trigger.REFUSED,), None, (do.leave, do.back_off)),
    (_RUNNING, (Trigger.HISTORY_MISMATCH,), "polling", (do.leave, do.poll_soon, do.reconnect_spread)),
    (("syncing",), (Trigger.ALL_ANSWERED, Trigger.RENEWED_MATCH), "live", (do.stop_polling, do.reset_backoff)),
    (("syncing",), (Trigger.RETRY_LATER,), None, (do.poll_soon,)),
    (("syncing",), (Trigger.RENEWED_DOWN,), None, (do.renew_later, do.poll_soon)),
    (("syncing",), (Trigger.WAIT_OVER,), None, (do.subscribe_all,)),
    (
        ("syncing",),
        (Trigger.LOST, Trigger.ANSWER_MISSED, Trigger.EXPIRED, Trigger.STUCK),
        "polling",
        (do.leave, do.back_off, do.poll_before_connecting),
    ),
    (_LEASED, (Trigger.BYE,), "polling", (do.leave, do.reconnect_after_bye, do.poll_before_connecting)),
    (_LEASED, (Trigger.MISMATCH, Trigger.NO_LEASE), "syncing", (do.subscribe_all, do.poll_soon)),
    (("live", "suspect"), (Trigger.RETRY_LATER,), "syncing", (do.poll_soon,)),
    (_LEASED, (Trigger.UNKNOWN,), None, (do.poll_uncertain,)),
    (_LEASED, (Trigger.REVOKED,), "polling", (do.await_lease, do.poll_soon)),
    (("live",), (Trigger.RENEWED_MATCH,), None, ()),
    (("live", "suspect"), (Trigger.RENEWED_DOWN,), None, ()),
    (
        ("live",),
        (Trigger.ANSWER_MISSED, Trigger.JUMPED),
        "suspect",
        (do.avoid_connected, do.poll_now, do.renew_once_more),
    ),
    (("live",), (Trigger.SILENT,), "suspect", (do.avoid_connected, do.poll_soon, do.renew_once_more)),
    (("suspect",), (Trigger.RENEWED_MATCH,), "live", (do.stop_polling, do.reset_backoff)),
    (("suspect",), (Trigger.ANSWER_MISSED,), "polling", (do.leave, do.reconnect_spread, do.poll_before_connecting)),
    (
        ("live", "suspect"),
        (Trigger.LOST, Trigger.EXPIRED, Trigger.STUCK),
        "polling",
        (do.leave, do.reconnect_spread, do.poll_before_connecting),
    ),
    (("polling",), (Trigger.WAIT_OVER,), "syncing", (do.subscribe_all,)),
    (("polling",), (Trigger.LOST, Trigger.STUCK), None, (do.leave, do.reconnect_spread)),
    (("polling",), (Trigger.BYE,), None, (do.leave, do.reconnect_after_bye)),
    (("polling",), (Trigger.OFFLINE_THRESHOLD,), "offline", (do.share_retry_budget,)),
    (("offline",), (Trigger.HTTP_ANSWERED,), "polling", (do.resume_paths,)),
    (_RUNNING, (Trigger.FORBIDDEN, Trigger.TOKEN_FINAL), "stopped", (do.leave, do.stop_polling, do.stop)),
    (_RUNNING, (Trigger.CREDENTIALS_DUE,), None, (do.fetch_token,)),
    (("connecting",), (Trigger.CREDENTIALS_REFUSED,), "polling", (do.leave_refused, do.hold_paths, do.fetch_token)),
    (("polling", "offline"), (Trigger.CREDENTIALS_REFUSED,), None, (do.leave_refused, do.hold_paths, do.fetch_token)),
    (_LEASED, (Trigger.CREDENTIALS_REFUSED,), "polling", (do.await_credentials, do.hold_paths, do.fetch_token)),
    (_LEASED, (Trigger.TOKEN_GOT,), None, (do.present_token,)),
    (_BEFORE, (Trigger.TOKEN_GOT,), None, (do.present_token, do.release_paths)),
    (_OPEN, (Trigger.CLOSED,), "closed", (do.say_goodbye, do.leave, do.stop_polling, do.settle_closed)),
)

_NOT_RUNNING = "not running: late events are ignored"

_REASONS: tuple[tuple[_Modes, _Triggers, str], ...] = (
    (_OPEN, (Trigger.OPENED, Trigger.OPENED_FOR_POLLING), "it was opened; only closing comes next"),
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
    (("syncing", "suspect"), (Trigger.SILENT,), "an answer is due already, and what is missing of it tells more"),
    (("live", "suspect"), (Trigger.WAIT_OVER,), "nothing waits: that is what syncing and polling are for"),
    (
        (*_BEFORE, "syncing", "suspect"),
        (Trigger.JUMPED,),
        "nothing is believed to be fresh, and timers run on a clock that counts suspend",
    ),
    (("connecting", *_LEASED), (Trigger.OFFLINE_THRESHOLD,), "the other path is open, or still has its first chance"),
    (("offline",), (Trigger.OFFLINE_THRESHOLD,), "it is offline already"),
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
"""The row of a trigger in a mode."""

IGNORED: dict[_Cell, str] = _filled((_cells(modes, triggers), reason) for modes, triggers, reason in _REASONS)
"""Why a trigger does nothing in a mode."""
