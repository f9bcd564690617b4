"""Events of a session besides its client's messages: answers of the store, and decisions of the node.

Each is a key of the table, and carries the types of its arguments. Keys are compared by identity, so that a look-up
costs no more than one by a message's class.
"""

from __future__ import annotations

from typing import Generic, ParamSpec

from softstate.errors import RequestError
from softstate.model import Page
from softstate.position import Position
from softstate.session.request import (
    PendingHello,
    PendingInquiry,
    PendingPoll,
    PendingRenew,
    PendingSubscribe,
    PendingWork,
)
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import Farewell, Id, Reason

P = ParamSpec("P")


class NodeEvent(Generic[P]):
    """An event; `P` is what its functions are called with, behind the session."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


# The store answers the request under way, or fails.
HELLO_ANSWERED: NodeEvent[[PendingHello, Page, float]] = NodeEvent("hello answered")
HELLO_FAILED: NodeEvent[[PendingHello, RequestError, float]] = NodeEvent("hello failed")
SUBSCRIBE_ANSWERED: NodeEvent[[PendingSubscribe, Page, float]] = NodeEvent("subscribe answered")
SUBSCRIBE_FAILED: NodeEvent[[PendingSubscribe, RequestError]] = NodeEvent("subscribe failed")
POLL_ANSWERED: NodeEvent[[PendingPoll, Page, float]] = NodeEvent("poll answered")
POLL_FAILED: NodeEvent[[PendingPoll, RequestError]] = NodeEvent("poll failed")
RENEW_CAUGHT_UP: NodeEvent[[PendingRenew, Position, int, float, float]] = NodeEvent("renew caught up")
RENEW_FAILED: NodeEvent[[PendingRenew, RequestError, Position, int, float]] = NodeEvent("renew failed")

# The budget of a turn of the loop covers the next portion of the request under way.
TURN_BEGUN: NodeEvent[[PendingWork]] = NodeEvent("turn begun")

# Nobody can tell just now whether credentials are good, or names may be read or written.
INQUIRY_FAILED: NodeEvent[[PendingInquiry, RequestError]] = NodeEvent("inquiry failed")

# Other rules are in force.
RULES_CHANGED: NodeEvent[[float]] = NodeEvent("rules changed")

# The lease ends before the connection.
EXPIRED: NodeEvent[[Reason, int | None]] = NodeEvent("expired")
REVOKED: NodeEvent[[Reason, int | None]] = NodeEvent("revoked")
DENIED: NodeEvent[[Reason, int | None]] = NodeEvent("denied")

# The connection ends.
REPLACED: NodeEvent[[Farewell, int]] = NodeEvent("replaced")
DRAINING: NodeEvent[[Farewell, int]] = NodeEvent("draining")
REWOUND: NodeEvent[[Farewell, int]] = NodeEvent("rewound")
IDLE: NodeEvent[[Farewell, int]] = NodeEvent("idle")
REFUSED: NodeEvent[[RequestError, CloseCode]] = NodeEvent("refused")
DISCONNECTED: NodeEvent[[]] = NodeEvent("disconnected")

POSITION_MOVED: NodeEvent[[Position]] = NodeEvent("position moved")
UNREADABLE: NodeEvent[[RequestError, Id | None]] = NodeEvent("unreadable message")

EVENTS = (
    HELLO_ANSWERED, HELLO_FAILED, SUBSCRIBE_ANSWERED, SUBSCRIBE_FAILED, POLL_ANSWERED, POLL_FAILED, RENEW_CAUGHT_UP,
    RENEW_FAILED, TURN_BEGUN, INQUIRY_FAILED, EXPIRED, REVOKED, DENIED, REPLACED, DRAINING, REWOUND, IDLE, REFUSED,
    DISCONNECTED, POSITION_MOVED, UNREADABLE, RULES_CHANGED,
)  # fmt: skip
"""All of them."""
