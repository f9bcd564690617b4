"""Every error that softstate raises.

::

    SoftstateError
    ├── RequestError          a node answers with its `code`; each code is a class
    │   ├── Invalid           invalid 400          what you sent breaks a rule that the message names
    │   ├── Unsupported       unsupported 415      unknown operation, encoding or subprotocol
    │   ├── Unauthenticated   unauthenticated 401  credentials missing or expired
    │   ├── Denied            denied 403           credentials do not allow this
    │   ├── NotFound          not_found 404        no such topic or route
    │   ├── Conflict          conflict 412         compare-and-set lost; `current` has the version that won
    │   ├── KeyReused         key_reused 409       idempotency key used before for another request
    │   ├── NoLease           no_lease 410         the lease is over: subscribe again
    │   ├── Compacted         compacted 410        history before the floor is gone: list again
    │   ├── Rewound           rewound 410          the store's history changed: reset, `position` is the new one
    │   ├── TooLarge          too_large 413        a value, message or set is over the limit that the message names
    │   ├── Unreadable        unreadable 500       the topic's stored record is damaged; other topics are not
    │   └── TryLater          waiting helps: for `retry_ms`, if it is set
    │       ├── Overloaded    overloaded 429       the node protects itself
    │       ├── Unavailable   unavailable 503      the store cannot answer now; a publish's outcome is unknown
    │       └── Behind        behind 503           the node lags what you have seen: wait, or ask another node
    ├── OutcomeUnknown        a publish may or may not have been applied, and can no longer be asked about
    ├── Stale                 what is known is older than was asked for; `age` says how old
    ├── ClientClosed          the client was closed while you were using it
    ├── StoreFault            the store as a whole, met by the node
    │   ├── StoreRefused      the file is not ours, not readable or too new: waiting does not help
    │   │   └── StoreMissing  there is no store at that name, and none was to be made
    │   ├── StoreReplaced     the file open here is no longer the file at that path: reopen
    │   └── StoreRewound      the history no longer contains what this node has seen: reopen, reset
    ├── NodeFailed            a node ended because of errors that nobody foresaw: start it again
    └── ConfigError           a flag, environment variable or configuration key is wrong; the message names it
"""

from __future__ import annotations

from typing import ClassVar

from softstate.position import Position

__all__ = [
    "ERRORS_BY_CODE",
    "Behind",
    "ClientClosed",
    "Compacted",
    "ConfigError",
    "Conflict",
    "Denied",
    "Invalid",
    "KeyReused",
    "NoLease",
    "NodeFailed",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "RequestError",
    "Rewound",
    "SoftstateError",
    "Stale",
    "StoreFault",
    "StoreMissing",
    "StoreRefused",
    "StoreReplaced",
    "StoreRewound",
    "TooLarge",
    "TryLater",
    "Unauthenticated",
    "Unavailable",
    "Unreadable",
    "Unsupported",
]


class SoftstateError(Exception):
    """Root of every error that softstate raises on purpose."""


class RequestError(SoftstateError):
    """An answer that carries an error code, whether a node sent it or a local check found it first.

    `message` says what happened and what to do next. `retry_ms`, when set, is how long to wait before trying again;
    `current` is the version that won a compare-and-set; `position` is where the store stands now; `version` is that of
    the tombstone of a topic that is not found because it was deleted; `why` names the check that failed where one code
    stands for several (`denied`: ``host`` or ``origin``, which no credentials mend), or the limit that was met.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        retry_ms: int | None = None,
        current: int | None = None,
        position: Position | None = None,
        why: str | None = None,
        version: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_ms = retry_ms
        self.current = current
        self.position = position
        self.why = why
        self.version = version


class Invalid(RequestError):
    """The request breaks a rule; the message names the field and the rule. Do not send it again unchanged."""

    code = "invalid"
    http_status = 400


class Unsupported(RequestError):
    """An operation, encoding or subprotocol that this node does not know."""

    code = "unsupported"
    http_status = 415


class Unauthenticated(RequestError):
    """Credentials are missing or have expired: get new ones, then reconnect."""

    code = "unauthenticated"
    http_status = 401


class Denied(RequestError):
    """The credentials given do not allow this."""

    code = "denied"
    http_status = 403


class NotFound(RequestError):
    """No such topic, or no such route."""

    code = "not_found"
    http_status = 404


class Conflict(RequestError):
    """A compare-and-set found another version, `current`: read it, decide again, and publish with that version."""

    code = "conflict"
    http_status = 412


class KeyReused(RequestError):
    """The idempotency key was used before, on this topic, for a different request: choose a new key."""

    code = "key_reused"
    http_status = 409


class NoLease(RequestError):
    """The lease is over: subscribe again."""

    code = "no_lease"
    http_status = 410


class Compacted(RequestError):
    """Tombstones after the revision asked for may be forgotten: take the full list, then sweep what is not in it."""

    code = "compacted"
    http_status = 410


class Rewound(RequestError):
    """The store's history no longer contains what the asker has seen: forget it, and begin at `position`."""

    code = "rewound"
    http_status = 410


class TooLarge(RequestError):
    """A value, message or set is larger than the limit that the message names."""

    code = "too_large"
    http_status = 413


class Unreadable(RequestError):
    """The topic's stored record is damaged: publish the topic again, without `expect`, or restore a backup."""

    code = "unreadable"
    http_status = 500


class TryLater(RequestError):
    """The request was in order, and may succeed later, or on another node: useful for ``except`` around a retry.

    `softstate.Client` waits and tries again by itself; it raises one of these when its time is up, or when it has too
    much waiting itself.
    """


class Overloaded(TryLater):
    """The node protects itself: come back after `retry_ms`."""

    code = "overloaded"
    http_status = 429


class Unavailable(TryLater):
    """The store cannot be used now. To a publish: its outcome is unknown, retry with the same key (P-PUB-5)."""

    code = "unavailable"
    http_status = 503


class Behind(TryLater):
    """The node has not yet seen the revision asked for: wait `retry_ms`, or ask another node."""

    code = "behind"
    http_status = 503


ERRORS_BY_CODE: dict[str, type[RequestError]] = {
    error.code: error
    for error in (
        Invalid, Unsupported, Unauthenticated, Denied, NotFound, Conflict, KeyReused, NoLease, Compacted, Rewound,
        TooLarge, Unreadable, Overloaded, Unavailable, Behind,
    )
}  # fmt: skip
"""Every error code, with the class that carries it."""


class OutcomeUnknown(SoftstateError):
    """A publish may have been applied, and can no longer be asked about: read the topic to learn what happened.

    It was never answered and its number or key has expired, or a node refused to look (P-CLI-17), or the client had to
    stop while it was in flight.
    """


class Stale(SoftstateError):
    """The client's knowledge is older than was asked for, or nothing proves how old it is.

    `age` is how old it may be at most, in seconds; infinite if nothing is known.
    """

    def __init__(self, message: str, age: float) -> None:
        super().__init__(message)
        self.age = age


class ClientClosed(SoftstateError):
    """The client was closed while this call was waiting, or before it began."""


class StoreFault(SoftstateError):
    """The store as a whole cannot be used as it is."""


class StoreRefused(StoreFault):
    """The store is not ours to use, and will not become so by waiting; the message says why and what to do."""


class StoreMissing(StoreRefused):
    """There is no store at that name, and none was to be made: name another, or ``softstate store create`` one."""


class StoreReplaced(StoreFault):
    """The open store is no longer the one that its name refers to (a database file was swapped): reopen."""


class StoreRewound(StoreFault):
    """The history no longer contains the position that this node has seen: reopen, and reset every client."""


class ConfigError(SoftstateError):
    """A flag, environment variable or configuration key is wrong; the message names it and says what is allowed."""


class NodeFailed(SoftstateError):
    """A node met errors that nobody foresaw, and ended to keep its promises: its log has them; start it again."""
