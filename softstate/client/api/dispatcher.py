"""The machine's actions for the application, given to the handles and receipts that they are about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import final

from softstate.client.api.inbox import Inboxes
from softstate.client.api.receipt import Outcome, dropped
from softstate.client.machine.events import (
    Deliver,
    ModeChanged,
    NamesDenied,
    NodeRefused,
    Reset,
    Settled,
    Stopped,
    TopicsUnreadable,
)
from softstate.client.shell.bell import Bell
from softstate.client.shell.shell import ToApplication
from softstate.errors import ClientClosed, SoftstateError

LOGGER = logging.getLogger(__name__.rpartition(".api")[0])
"""``softstate.client``. It says why: changes of mode (info), and what an operator should see (warning, error)."""

TOPICS_SHOWN = 10
"""How many damaged topics a line of the log names."""


@final
class Dispatcher:
    """Implements the shell's `Application`: holds everything of one client that waits for the machine."""

    def __init__(self) -> None:
        self.inboxes = Inboxes()
        self.progress = Bell()
        """Where tasks wait for the machine to take another event."""
        self.mode_changes = Bell()
        self._outcomes: dict[int, Outcome] = {}
        self._tickets = 0
        self._over: SoftstateError | None = None
        self.after: Callable[[], None] = lambda: None
        """Called behind each event; it may give the machine others."""

    def perform(self, action: ToApplication) -> None:
        """Take one action of the machine."""
        match action:
            case Settled():
                if (outcome := self._outcomes.pop(action.ticket, None)) is not None:
                    outcome.settle(action.outcome)
            case Stopped():
                LOGGER.error("stopped: %s", action.error)
                self.end(action.error)
            case _:
                self.inboxes.perform(action)
                if isinstance(action, ModeChanged):
                    self.mode_changes.ring()
                if not isinstance(action, Deliver | NamesDenied):
                    _log(action)

    def advanced(self) -> None:
        """Wake the tasks that wait for progress: the machine has taken an event and its actions were performed."""
        self.progress.ring()
        self.after()

    def new_publish(self, outcome: Outcome) -> int:
        """Choose the ticket of another publish, to be settled in `outcome`; return it."""
        self._tickets += 1
        self._outcomes[self._tickets] = outcome
        return self._tickets

    def drop_publish(self, ticket: int) -> bool:
        """Settle a publish as dropped; tell whether it was not settled before."""
        outcome = self._outcomes.pop(ticket, None)
        if outcome is None:
            return False
        outcome.settle(dropped())
        return True

    def end(self, error: SoftstateError) -> None:
        """Raise `error` to every task that waits for the client, and from now on in `raise_if_over`."""
        if isinstance(error, ClientClosed) or self._over is None:
            self._over = error
        self.inboxes.end(error)
        for outcome in self._outcomes.values():
            outcome.settle(error)
        self._outcomes.clear()
        self.progress.ring()
        self.mode_changes.ring()

    def raise_if_over(self) -> None:
        """Raise the error that stopped the client, or `ClientClosed`."""
        if self._over is not None:
            raise self._over.with_traceback(None)


def _log(action: Reset | ModeChanged | NodeRefused | TopicsUnreadable) -> None:
    match action:
        case ModeChanged():
            LOGGER.info("%s: %s%s", action.mode, action.because, f" ({action.url})" if action.url else "")
        case Reset():
            LOGGER.warning("reset: the store's history changed; the new one is at %s", action.position)
        case NodeRefused():
            LOGGER.warning("%s refuses this client, which goes on without: %s", action.url, action.error)
        case TopicsUnreadable():
            LOGGER.warning(
                "the stored records of these topics are damaged: %s", ", ".join(action.topics[:TOPICS_SHOWN])
            )
