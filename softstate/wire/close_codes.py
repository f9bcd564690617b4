"""WebSocket close codes: the range says what a client does next, whether or not it knows the code.

4000-4099: reconnect. 4100-4199: reconnect with new credentials. 4200-4299: do not reconnect, something is wrong that
waiting does not mend. (A documented range instead of a list is centrifuge's idea.)
"""

from __future__ import annotations

from enum import IntEnum

from softstate.wire.messages import Farewell


class CloseCode(IntEnum):
    """Every close code that a node uses of its own."""

    DRAINING = 4000
    """The node is shutting down in order."""
    DROP_SESSION = 4001
    """The session token is worth nothing any more: the store was rewound, or another connection resumed the session."""
    IDLE = 4002
    """Nothing was heard for too long."""
    SLOW_HELLO = 4003
    """No `hello` within its time."""
    OVERLOADED = 4004
    """The node protects itself."""
    UNAVAILABLE = 4005
    """The store cannot be used now, so no session can begin."""
    UNAUTHENTICATED = 4100
    """Credentials are missing, wrong or expired."""
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
