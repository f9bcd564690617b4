"""The states of the server's side of a connection."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a session machine is; see the drawing in `softstate.session.machine`."""

    NEW = "new"
    GREETING = "greeting"
    OPEN = "open"
    LAPSED = "lapsed"
    ENDED = "ended"
