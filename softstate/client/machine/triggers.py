"""The triggers: what an event means to the client machine."""

from __future__ import annotations

from enum import Enum, auto


class Trigger(Enum):
    """A meaning of an event. The table has a row, or a reason to ignore it, for each trigger in each mode."""

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
    """Credentials are refused, or something else is wrong that waiting does not mend."""
    CREDENTIALS_DUE = auto()
    """The token ends soon."""
    CREDENTIALS_REFUSED = auto()
    """A node refused the token, and there is a provider of others."""
    TOKEN_GOT = auto()
    """The provider gave another token."""
    TOKEN_FINAL = auto()
    """The provider gives none any more, or none that is good."""
    HISTORY_MISMATCH = auto()
    """The connection may be in another history than the client (P-REW-7)."""
    ALL_ANSWERED = auto()
    """Every subscribe is answered."""
    RENEWED_MATCH = auto()
    RENEWED_DOWN = auto()
    """The renewal was answered, but the node could not reach its store."""
    MISMATCH = auto()
    """Digests differ, or pushes went missing."""
    NO_LEASE = auto()
    RETRY_LATER = auto()
    """A subscribe ended in an error that time may mend."""
    UNKNOWN = auto()
    """The node says that a change may have been missed."""
    ANSWER_MISSED = auto()
    """An answer did not come in time."""
    SILENT = auto()
    """Nothing came on a connection on which beats are due."""
    EXPIRED = auto()
    """The lease ended by the client's reckoning."""
    STUCK = auto()
    """A publish stays unanswered on the connection, or an answer comes to no end."""
    JUMPED = auto()
    """The host slept."""
    REVOKED = auto()
    WAIT_OVER = auto()
    """It is time to subscribe again on the open connection."""
    OFFLINE_THRESHOLD = auto()
    """So many rounds of all URLs have failed that the client counts as offline."""
    HTTP_ANSWERED = auto()
    """A poll or a publish over HTTP was answered."""


BECAUSE: dict[Trigger, str] = {
    Trigger.OPENED: "the client was opened",
    Trigger.OPENED_FOR_POLLING: "the client was opened, to poll only",
    Trigger.CLOSED: "the application closed the client",
    Trigger.WELCOME_RESUMED: "the node took up the session again",
    Trigger.WELCOME_NEW: "the node began a session",
    Trigger.WELCOME_RESET: "the node began a session, in another history",
    Trigger.REWOUND: "the store's history changed",
    Trigger.REFUSED: "no connection came to be in time",
    Trigger.LOST: "the connection was lost",
    Trigger.BYE: "the node said goodbye",
    Trigger.FORBIDDEN: "the node refuses this client",
    Trigger.CREDENTIALS_REFUSED: "the node refuses the token",
    Trigger.TOKEN_FINAL: "no token is left that a node takes",
    Trigger.HISTORY_MISMATCH: "an answer may belong to another history",
    Trigger.ALL_ANSWERED: "every subscription is answered",
    Trigger.RENEWED_MATCH: "the node confirms that nothing is missing",
    Trigger.MISMATCH: "something is missing: the set is asked for again",
    Trigger.NO_LEASE: "the node no longer has the lease",
    Trigger.RETRY_LATER: "the node cannot answer a subscription now",
    Trigger.ANSWER_MISSED: "the node did not answer in time",
    Trigger.SILENT: "the node was silent for too long",
    Trigger.EXPIRED: "the lease is over",
    Trigger.STUCK: "the node answers, but not what was asked",
    Trigger.JUMPED: "the host slept",
    Trigger.REVOKED: "the node took the lease back",
    Trigger.WAIT_OVER: "it is time to subscribe again",
    Trigger.OFFLINE_THRESHOLD: "no node can be reached",
    Trigger.HTTP_ANSWERED: "a node answered over HTTP",
}
"""Why the mode changes, in words, for triggers that change it; what a failure tells itself says more."""

TOLD_BY_FAILURES = frozenset({Trigger.REFUSED, Trigger.LOST, Trigger.OFFLINE_THRESHOLD, Trigger.FORBIDDEN})
"""Triggers that a failure of a connection or a request means: its own words are the reason then."""
