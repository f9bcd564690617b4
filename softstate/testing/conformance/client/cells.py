"""Which cells of the machine's table a trace covers.

A row is covered by a step in which it ran. An ignored cell is covered by a step in which the machine came to it, or in
which it was told, in that mode, of something that the trigger means in another: the machine has to make nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from softstate.client.machine.table import IGNORED, TABLE
from softstate.client.machine.triggers import Trigger
from softstate.model import Mode
from softstate.testing.conformance.client.form import Json
from softstate.testing.conformance.client.trace import Trace

T = Trigger


def _event(*names: str) -> Callable[[Json], bool]:
    return lambda step: step["event"] in names


def _message(op: str, **fields: object) -> Callable[[Json], bool]:
    def means(step: Json) -> bool:
        message = step.get("message", {})
        return message.get("op") == op and all(message.get(name, False) == item for name, item in fields.items())

    return means


def _error(code: str) -> Callable[[Json], bool]:
    def means(step: Json) -> bool:
        return code in ((step.get("message") or {}).get("code"), (step.get("error") or {}).get("code"))

    return means


_TICKED = _event("ticked")

MEANINGS: dict[Trigger, Callable[[Json], bool]] = {
    T.OPENED: _event("opened"),
    T.OPENED_FOR_POLLING: _event("opened"),
    T.CLOSED: _event("closed"),
    T.WELCOME_RESUMED: _message("welcome", resumed=True),
    T.WELCOME_NEW: _message("welcome", resumed=False, reset=False),
    T.WELCOME_RESET: _message("welcome", reset=True),
    T.REWOUND: _error("rewound"),
    T.REFUSED: _event("connect_failed", "lost"),
    T.LOST: _event("lost"),
    T.BYE: _message("bye"),
    T.FORBIDDEN: _error("denied"),
    T.CREDENTIALS_DUE: _TICKED,
    T.CREDENTIALS_REFUSED: _error("unauthenticated"),
    T.TOKEN_GOT: _event("token_got"),
    T.TOKEN_FINAL: lambda step: step["event"] == "token_failed" and step["final"],
    T.HISTORY_MISMATCH: _message("position"),
    T.ALL_ANSWERED: _message("subscribed"),
    T.RENEWED_MATCH: _message("renewed", match=True, store="ok"),
    T.RENEWED_DOWN: _message("renewed", store="down"),
    T.MISMATCH: _message("renewed", match=False),
    T.NO_LEASE: _error("no_lease"),
    T.RETRY_LATER: _error("unavailable"),
    T.UNKNOWN: _message("notify", unknown=True),
    T.ANSWER_MISSED: _TICKED,
    T.SILENT: _TICKED,
    T.EXPIRED: _TICKED,
    T.STUCK: _TICKED,
    T.JUMPED: _event("jumped"),
    T.REVOKED: _message("revoked"),
    T.WAIT_OVER: _TICKED,
    T.OFFLINE_THRESHOLD: _event("request_failed"),
    T.HTTP_ANSWERED: _event("poll_answered", "publish_answered"),
}
"""For each trigger, whether a step tells of something that it means, in some mode."""


def cell_name(mode: Mode, trigger: Trigger) -> str:
    """Return the name of a cell, as steps and headers have it: ``live/LOST``."""
    return f"{mode}/{trigger.name}"


ROW_CELLS = {cell_name(*cell) for cell in TABLE}
IGNORED_CELLS = {cell_name(*cell) for cell in IGNORED}


def covered(trace: Trace) -> list[str]:
    """Return the rows that a trace covers, in the order of their names, as headers list them."""
    return [f"row:{cell}" for cell in sorted(set(cells_of(trace)) & ROW_CELLS)]


def cells_of(trace: Trace) -> Iterator[str]:
    """List the cells that a trace covers, rows and ignored ones, as often as it does."""
    mode: Mode = "closed"
    for step in trace.lines:
        if "event" not in step:
            continue
        yield from step.get("cells", ())
        for trigger, means in MEANINGS.items():
            if (mode, trigger) in IGNORED and means(step):
                yield cell_name(mode, trigger)
        mode = step["mode"]
