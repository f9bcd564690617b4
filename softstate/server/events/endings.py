"""The ends of a stream: why, and when its client is to come back."""

from __future__ import annotations

from collections.abc import Mapping

from softstate.wire.event_stream import Ending
from softstate.wire.messages import Farewell, Reason

ENDINGS: Mapping[Ending, tuple[int, int]] = {
    "renew": (0, 1_000),
    "draining": (500, 2_000),
    "slow_consumer": (5_000, 5_000),
    "overloaded": (5_000, 5_000),
    "denied": (5_000, 5_000),
    "rewound": (0, 1_000),
}
"""For each reason, how long to wait at least and over which time to spread, in ms, if nothing else tells it."""

_ENDING_OF: Mapping[Reason | Farewell, Ending] = {
    "expired": "renew",
    "slow_consumer": "slow_consumer",
    "overloaded": "overloaded",
    "denied": "denied",
    "draining": "draining",
    "rewound": "rewound",
    "replaced": "renew",
    "idle": "renew",
}


def ending_of(reason: Reason | Farewell) -> Ending:
    """Return what the end of a lease, or of a connection, is to a stream."""
    return _ENDING_OF[reason]
