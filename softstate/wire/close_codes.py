"""WebSocket close codes. The range tells a client what to do next, also for a code that it does not know.

4000-4099: reconnect. 4100-4199: reconnect with new credentials. 4200-4299: do not reconnect, since waiting does not
mend it. (A documented range instead of a list is centrifuge's idea.)
"""

from __future__ import annotations

from enum import IntEnum

from softstate.wire.messages import Farewell


class CloseCode(IntEnum):
    """The close codes that nodes use, beside those that only a WebSocket library sends."""

    BUG = 1011
    """The node met an error that nobody foresaw, and gives up this connection alone (RFC 6455: internal error)."""

    DRAINING = 4000
    """The node is shutting down in order."""
    DROP_SESSION = 4001
    """The session token is no longer valid: the store was rewound, or another connection resumed the session."""
    IDLE = 4002
    """The client was silent, or took nothing, for too long (P-CONN-5)."""
    SLOW_HELLO = 4003
    """No `hello` within its time."""
    OVERLOADED = 4004
    """The node holds all the sessions it may, so no session can begin."""
    UNAVAILABLE = 4005
    """The store cannot be used now, so no session can begin."""
    UNAUTHENTICATED = 4100
    """`hello` presented no credentials that are good: come back with others (P-AUTH-1)."""
    REVOKED = 4101
    """The credentials of this session were revoked, and no others were presented in time (P-AUTH-9)."""
    PROTOCOL = 4200
    """The peer does not speak this protocol."""


CLOSE_FOR: dict[Farewell, CloseCode] = {
    "draining": CloseCode.DRAINING,
    "rewound": CloseCode.DROP_SESSION,
    "replaced": CloseCode.DROP_SESSION,
    "idle": CloseCode.IDLE,
}
"""The close code that follows each `bye`."""


def may_reconnect(code: int) -> bool:
    """Tell whether a client that was closed with `code` should come back by itself."""
    return not 4100 <= code <= 4299
