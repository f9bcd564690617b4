"""The components of a small world: interned objects, the client, and the remembered transitions of a component.

A state of the world is a tuple of small numbers, each of which stands for an interned object: a message, a node, a
client. A transition of a component depends on its state and its input alone, so it is computed once and remembered: the
real machine runs once for each of its own states and inputs, in however many states of the world that pair occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from softstate.client.machine.events import (
    Abandon,
    Action,
    Arrived,
    Connect,
    Connected,
    Deliver,
    Disconnect,
    Event,
    Lost,
    ModeChanged,
    NamesDenied,
    Opened,
    PollAnswered,
    RequestFailed,
    Reset,
    Send,
    SendPoll,
    Ticked,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.errors import RequestError
from softstate.wire.messages import Polled
from tests.exhaustive.copies import Freezer, Low, Shared, fork

URL = "ws://127.0.0.1:8700"

Output = tuple[Any, ...]
"""An output of a component: a word, and what belongs to it."""


class Interner(Shared):
    """Gives equal things (by their `repr`, unless told a key) the same number."""

    def __init__(self) -> None:
        self.things: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, thing: Any, key: Hashable = None) -> int:
        """Return the number of a thing; the first of equal things is kept."""
        key = repr(thing) if key is None else key
        number = self._numbers.setdefault(key, len(self.things))
        if number == len(self.things):
            self.things.append(thing)
        return number


class ModelClient:
    """A client: the real machine, with a time of its own that moves only when a timer fires."""

    def __init__(self, messages: Interner, part: float, *, beats: bool) -> None:
        random = Low()
        random.part = part
        self.messages = messages
        self.now = 1_000.0
        self.machine = Machine(MachineOptions((URL,), beat_ms=1_000 if beats else None), random)

    def begin(self, names: tuple[str, ...]) -> list[Output]:
        """Want names, and open."""
        return self._do(Wanted(names)) + self._do(Opened())

    def take(self, word: str, number: int | None) -> list[Output]:
        """Take an input; `number` is that of a message or an error, where the word needs one."""
        thing = None if number is None else self.messages.things[number]
        if word == "ticked":
            self.now = max(self.now, self.machine.deadline())
            return self._do(Ticked())
        if word == "wants":
            return self._do(Wanted([str(thing)]))
        return self._do(self._event(word, thing))

    def _event(self, word: str, thing: Any) -> Event:
        link, flight = self.machine._push.connection, self.machine._poll._pending
        conn = link.conn if link is not None else 0
        request = flight.request if flight is not None else 0
        match word, thing:
            case "connected", _:
                return Connected(conn)
            case "arrived", _:
                return Arrived(conn, thing)
            case "late", _:
                return Arrived(-1, thing)
            case "polled", Polled():
                return PollAnswered(request, thing)
            case "polled", _:
                assert thing is None or isinstance(thing, RequestError)
                return RequestFailed(request, "failed", thing)
            case _:
                assert word == "lost"
                return Lost(conn, thing, "lost")

    def _do(self, event: Event) -> list[Output]:
        held = self.machine._knowledge.subscriptions
        before = {name: (s.revision, s.asof) for name, s in held.items()}
        out: list[Output] = []
        for action in self.machine.handle(event, self.now):
            if isinstance(action, Deliver):
                out += [("deliver", c.topic, c.version, None if c.deleted else c.value) for c in action.changes]
            elif output := self._output(action):
                out.append(output)
        for name, subscription in held.items():
            certificate = (subscription.revision, subscription.asof)
            if certificate != before.get(name) and subscription.revision is not None:
                out.append(("certified", name, subscription.revision))
        return out

    def _output(self, action: Action) -> Output | None:
        match action:
            case Connect():
                # Request ids are valid for one connection: counting from 0 on each makes more states equal.
                self.machine._push._requests = 0
                return ("connect",)
            case Send():
                return "send", self.messages.number(action.message)
            case Disconnect():
                return ("disconnect",)
            case SendPoll():
                return "poll", self.messages.number(action.message)
            case Abandon():
                return ("abandon",)
            case Reset():
                return "reset", action.position
            case ModeChanged() | NamesDenied():
                return None
            case _:
                raise AssertionError(f"the model does not know {action}")


class Component:
    """All states of one kind of component so far, and their transitions."""

    def __init__(self, key: Callable[[Any], Hashable]) -> None:
        self.states = Interner()
        self.runs = 0
        self._key = key
        self._known: dict[tuple[int, Hashable], tuple[int, tuple[Output, ...]]] = {}

    def add(self, thing: Any) -> int:
        """Return the number of a state."""
        return self.states.number(thing, self._key(thing))

    def step(self, number: int, *given: Hashable) -> tuple[int, tuple[Output, ...]]:
        """Return the state after an input, and the outputs."""
        known = self._known.get((number, given))
        if known is None:
            self.runs += 1
            thing = fork(self.states.things[number], {})
            out = tuple(thing.take(*given))
            known = self._known[number, given] = (self.add(thing), out)
        return known


def client_key(client: ModelClient) -> Hashable:
    """Return a key that is equal for clients in the same state."""
    return Freezer(client.machine, client.now).frozen
