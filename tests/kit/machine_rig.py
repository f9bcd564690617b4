"""A client machine on a bench: events go in by hand, actions are kept, and a node answers as it is told to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, TypeVar

from softstate.client.machine.description import ConnectionDescription
from softstate.client.machine.events import (
    Action,
    Arrived,
    Connect,
    Connected,
    Deliver,
    Disconnect,
    Event,
    ModeChanged,
    Opened,
    PollAnswered,
    Send,
    SendPoll,
    Ticked,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.model import Change
from softstate.testing.conformance.client.script import LIMITS, OTHER, POLL, RECOVER, URL, at, gone, set_to
from softstate.wire.messages import Hello, Polled, Renew, Renewed, ServerMessage, Subscribe, Subscribed, Welcome

T = TypeVar("T")

TTL_S, RENEW_S, TIMEOUT_S = 60.0, 20.0, 5.0

__all__ = [
    "LIMITS", "OTHER", "POLL", "RECOVER", "RENEW_S", "TIMEOUT_S", "TTL_S", "URL", "Rig", "at", "gone", "set_to"
]  # fmt: skip


class Rig:
    """`now` moves only by `at` and `advance`; `log` holds every action so far, `last` those of the last event."""

    def __init__(self, *names: str, seed: int = 1, **options: Any) -> None:
        self.random = Random(seed)
        self.machine = Machine(MachineOptions(**{"urls": (URL,), **options}), self.random)
        self.now = 1_000.0
        self.log: list[Action] = []
        self.last: list[Action] = []
        if names:
            self.do(Wanted(names))

    # Driving ---------------------------------------------------------------------------------------------------------

    def do(self, *events: Event) -> list[Action]:
        self.last = []
        for event in events:
            self.last += self.machine.handle(event, self.now)
        self.log += self.last
        return self.last

    def advance(self, seconds: float) -> list[Action]:
        """Let time pass, with a tick whenever the machine asks for one; return what it did."""
        end, before = self.now + seconds, len(self.log)
        for _ in range(10_000):
            due = self.machine.deadline()
            if due > end:
                break
            self.now = max(self.now, due)
            self.do(Ticked())
        else:
            raise AssertionError("the machine never stops asking for ticks")
        self.now = end
        self.last = self.log[before:]
        return self.last

    def tick_once(self) -> list[Action]:
        """Go on to the next deadline."""
        due = self.machine.deadline()
        assert due < math.inf
        self.now = max(self.now, due)
        return self.do(Ticked())

    def arrive(self, *messages: ServerMessage) -> list[Action]:
        return self.do(*(Arrived(self.conn, message) for message in messages))

    # Looking ---------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        return self.machine.mode

    @property
    def age(self) -> float:
        return self.machine._knowledge.elapsed_s(self.now)

    @property
    def connection(self) -> ConnectionDescription:
        """The connection that there is."""
        connection = self.machine.describe().connection
        assert connection is not None
        return connection

    @property
    def conn(self) -> int:
        return self.all(Connect)[-1].conn

    def all(self, kind: type[T], actions: Iterable[Action] | None = None) -> list[T]:
        return [action for action in (self.log if actions is None else actions) if isinstance(action, kind)]

    def recent(self, kind: type[T]) -> list[T]:
        return self.all(kind, self.last)

    def sent(self, kind: type[T], actions: Iterable[Action] | None = None) -> list[T]:
        messages = [action.message for action in self.all(Send, actions)]
        return [message for message in messages if isinstance(message, kind)]

    def recently_sent(self, kind: type[T]) -> list[T]:
        return self.sent(kind, self.last)

    def delivered(self) -> list[Change]:
        return [change for action in self.recent(Deliver) for change in action.changes]

    def modes(self) -> list[str]:
        return [action.mode for action in self.all(ModeChanged)]

    @property
    def poll(self) -> SendPoll:
        return self.all(SendPoll)[-1]

    def left(self) -> bool:
        return any(action.conn == self.conn for action in self.recent(Disconnect))

    # The node's part -------------------------------------------------------------------------------------------------

    def welcome(self, revision: int = 10, **fields: Any) -> Welcome:
        return Welcome(
            **{
                "session": "s1",
                "resumed": False,
                "node": "n1",
                "position": at(revision),
                "ttl_ms": int(TTL_S * 1000),
                "renew_ms": int(RENEW_S * 1000),
                "timeout_ms": int(TIMEOUT_S * 1000),
                "poll": POLL,
                "recover": RECOVER,
                "limits": LIMITS,
                "durability": "durable",
                **fields,
            }
        )

    def subscribed(self, *changes: Change, revision: int = 10, **fields: Any) -> Subscribed:
        """Answer the newest subscribe."""
        return Subscribed(
            **{"id": self.sent(Subscribe)[-1].id, "position": at(revision), "changes": list(changes), **fields}
        )

    def renewed(self, revision: int = 10, **fields: Any) -> Renewed:
        """Answer the newest renewal."""
        return Renewed(
            **{
                "id": self.sent(Renew)[-1].id,
                "match": True,
                "position": at(revision),
                "sent": 0,
                "ttl_ms": int(TTL_S * 1000),
                "renew_ms": int(RENEW_S * 1000),
                "poll": POLL,
                "recover": RECOVER,
                "store": "ok",
                **fields,
            }
        )

    def polled(self, *changes: Change, revision: int = 10, **fields: Any) -> PollAnswered:
        """Answer the newest poll."""
        fields = {"id": 0, "position": at(revision), "changes": list(changes), **fields}
        return PollAnswered(self.poll.request, Polled(**fields))

    # Ways into a state -----------------------------------------------------------------------------------------------

    def open(self) -> Rig:
        self.do(Opened())
        return self

    def greeted(self) -> Hello:
        """Open the connection as far as the hello."""
        if self.mode == "closed":
            self.open()
        while self.machine.describe().connection is None:
            self.tick_once()
        self.do(Connected(self.conn))
        return self.sent(Hello)[-1]

    def syncing(self, revision: int = 10, **fields: Any) -> Rig:
        self.greeted()
        self.arrive(self.welcome(revision, **fields))
        assert self.mode in ("syncing", "live")
        return self

    def live(self, changes: Sequence[Change] = (), revision: int = 10) -> Rig:
        self.syncing(revision)
        if self.mode != "live":
            self.arrive(self.subscribed(*changes, revision=revision))
        assert self.mode == "live"
        return self

    def renewing(self) -> Rig:
        """Let time pass up to the next renewal."""
        before = len(self.sent(Renew))
        while len(self.sent(Renew)) == before:
            self.tick_once()
        return self

    def suspect(self) -> Rig:
        self.live().renewing().advance(TIMEOUT_S)
        assert self.mode == "suspect"
        return self
