"""softstate: a notification server you may kill at any moment, whose clients know how old their knowledge can be.

These are the public names; `connect` is where to begin.
"""

from softstate.client.api.client import Client as Client, Receipt as Receipt, connect as connect
from softstate.client.api.updates import Updates as Updates
from softstate.client.machine.events import ModeChanged as ModeChanged, Reset as Reset
from softstate.errors import (
    Behind as Behind,
    ClientClosed as ClientClosed,
    Compacted as Compacted,
    ConfigError as ConfigError,
    Conflict as Conflict,
    Denied as Denied,
    Invalid as Invalid,
    KeyReused as KeyReused,
    NoLease as NoLease,
    NotFound as NotFound,
    OutcomeUnknown as OutcomeUnknown,
    Overloaded as Overloaded,
    RequestError as RequestError,
    Rewound as Rewound,
    SoftstateError as SoftstateError,
    StoreFault as StoreFault,
    StoreRefused as StoreRefused,
    StoreReplaced as StoreReplaced,
    StoreRewound as StoreRewound,
    TooLarge as TooLarge,
    Unauthenticated as Unauthenticated,
    Unavailable as Unavailable,
    Unsupported as Unsupported,
)
from softstate.model import Change as Change, Durability as Durability, Mode as Mode, Value as Value
from softstate.position import Position as Position
