"""softstate: a notification server you may kill at any moment, whose clients know how old their knowledge can be.

`connect` is where to begin. Public, and kept compatible within a major version, are the names of these modules:

- `softstate`: the client, and the values and errors that it deals in;
- `softstate.errors`: the tree of all errors, drawn;
- `softstate.sync`: the client for threads;
- `softstate.store`: stores, for programs that open one and for authors of engines;
- `softstate.testing`: a node in memory for tests of applications, and the conformance test for stores.

Every other module is internal. So is `softstate.wire`: its contract is the protocol itself, ``wire/PROTOCOL.md`` and
the examples beside it, which other languages implement and test against without a line of its Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from softstate.errors import (
    Behind,
    ClientClosed,
    Compacted,
    ConfigError,
    Conflict,
    Denied,
    Invalid,
    KeyReused,
    NodeFailed,
    NoLease,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RequestError,
    Rewound,
    SoftstateError,
    Stale,
    StoreFault,
    StoreMissing,
    StoreRefused,
    StoreReplaced,
    StoreRewound,
    TooLarge,
    TryLater,
    Unauthenticated,
    Unavailable,
    Unreadable,
    Unsupported,
)
from softstate.later import later
from softstate.model import Change, Durability, Mode, Value
from softstate.position import Position

if TYPE_CHECKING:
    from softstate import sync
    from softstate.client.api.client import Client
    from softstate.client.api.connect import connect
    from softstate.client.api.inbox import UpdateEvent
    from softstate.client.api.knowing import Known
    from softstate.client.api.receipt import Receipt
    from softstate.client.api.updates import Updates
    from softstate.client.machine.events import ModeChanged, NodeRefused, Reset, TopicsUnreadable
    from softstate.client.machine.state import Statistics
    from softstate.client.requests.reading import Listing
    from softstate.client.shell.clock import Clock
    from softstate.client.tokens import TokenRequest
    from softstate.http_client.streams import OpenStream, Stream
    from softstate.wire.messages import Published

__version__ = "0.1.0"

__all__ = [
    "Behind",
    "Change",
    "Client",
    "ClientClosed",
    "Clock",
    "Compacted",
    "ConfigError",
    "Conflict",
    "Denied",
    "Durability",
    "Invalid",
    "KeyReused",
    "Known",
    "Listing",
    "Mode",
    "ModeChanged",
    "NoLease",
    "NodeFailed",
    "NodeRefused",
    "NotFound",
    "OpenStream",
    "OutcomeUnknown",
    "Overloaded",
    "Position",
    "Published",
    "Receipt",
    "RequestError",
    "Reset",
    "Rewound",
    "SoftstateError",
    "Stale",
    "Statistics",
    "StoreFault",
    "StoreMissing",
    "StoreRefused",
    "StoreReplaced",
    "StoreRewound",
    "Stream",
    "TokenRequest",
    "TooLarge",
    "TopicsUnreadable",
    "TryLater",
    "Unauthenticated",
    "Unavailable",
    "Unreadable",
    "Unsupported",
    "UpdateEvent",
    "Updates",
    "Value",
    "__version__",
    "connect",
    "sync",
]

# A node, and a command that talks to a store, never import the client: that is a third of their start.
__getattr__ = later(
    __name__,
    {
        "Client": "client.api.client",
        "Clock": "client.shell.clock",
        "Known": "client.api.knowing",
        "Listing": "client.requests.reading",
        "ModeChanged": "client.machine.events",
        "NodeRefused": "client.machine.events",
        "OpenStream": "http_client.streams",
        "Published": "wire.messages",
        "Receipt": "client.api.receipt",
        "Reset": "client.machine.events",
        "Statistics": "client.machine.state",
        "Stream": "http_client.streams",
        "TokenRequest": "client.tokens",
        "TopicsUnreadable": "client.machine.events",
        "UpdateEvent": "client.api.inbox",
        "Updates": "client.api.updates",
        "connect": "client.api.connect",
        "sync": "sync",
    },
)
