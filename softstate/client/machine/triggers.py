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
