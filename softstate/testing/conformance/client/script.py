"""A scripted scenario: a recorded machine, a clock that moves only when told, and a node that answers as it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, final

from softstate.client.machine.events import (
    Action,
    Arrived,
    Connect,
    Connected,
    ConnectFailed,
    Event,
    FetchToken,
    Jumped,
    Lost,
    Opened,
    PollAnswered,
    PublishRequested,
    RequestFailed,
    Send,
    SendPoll,
    SendPublish,
    Ticked,
    TokenGot,
    Wanted,
)
from softstate.client.machine.machine import MachineOptions
from softstate.errors import RequestError
from softstate.model import Change, Mode
from softstate.position import Position
from softstate.testing.conformance.client.cells import covered
from softstate.testing.conformance.client.draws import RecordedDraws
from softstate.testing.conformance.client.recorder import Recorder
from softstate.testing.conformance.client.trace import Trace
from softstate.wire.messages import (
    Auth,
    Error,
    Limits,
    Poll,
    PollAdvice,
    Polled,
    Publish,
    RecoverAdvice,
    Renew,
    Renewed,
    ServerMessage,
    Subscribe,
    Subscribed,
    Welcome,
)

T = TypeVar("T")

URL = "ws://127.0.0.1:8700"
OTHER = "ws://127.0.0.1:8701"
POLL = PollAdvice(15_000, 1_000)
RECOVER = RecoverAdvice(2_000, 500, 30_000)
LIMITS = Limits(10_000, 65_536, 1_048_576, 1_024, 100_000, 600_000, 1_024, 4_096, 16_384)
TTL_MS, RENEW_MS, TIMEOUT_MS = 60_000, 20_000, 5_000
BEGIN = 1_000.0
TICKS_MAX = 10_000
SEED = 1
LOOK_NAMES_MAX = 16
"""Most names that the last look is about."""


def at(revision: int, lineage: str = "l1", epoch: str = "e") -> Position:
    """Return a position."""
    return Position(epoch, lineage, revision)


def set_to(topic: str, version: int, value: Any = None) -> Change:
    """Return a change that sets a topic."""
    return Change(topic, version, value if value is not None else f"v{version}")


def gone(topic: str, version: int) -> Change:
    """Return a deletion."""
    return Change(topic, version, deleted=True)


@final
class Script:
    """Drives a recorded machine. `log` holds every action so far, `last` those of the last call."""

    def __init__(self, name: str, about: str, clauses: Sequence[str], names: Sequence[str], options: Any) -> None:
        self.now = BEGIN
        self.log: list[Action] = []
        self.last: list[Action] = []
        self._clauses = clauses
        self._names = list(names)
        self._recorder = Recorder(name, about, MachineOptions(**{"urls": (URL,), **options}), RecordedDraws(SEED))
        self.machine = self._recorder.machine
        if names:
            self.do(Wanted(list(names)))

    def finish(self) -> Trace:
        """Look at everything once more, and return the trace."""
        self.look(*self._names[:LOOK_NAMES_MAX])
        trace = self._recorder.trace
        trace.header["covers"] = [*self._clauses, *covered(trace)]
        return trace

    # Driving ---------------------------------------------------------------------------------------------------------

    def do(self, *events: Event) -> list[Action]:
        """Give it events, now."""
        self.last = []
        for event in events:
            self.last += self._recorder.handle(event, self.now)
            if isinstance(event, Wanted):
                self._names += [name for name in event.names if name not in self._names]
        self.log += self.last
        return self.last

    def repeat(self, message: ServerMessage, times: int) -> None:
        """Have a message arrive so many times, of which the same comes each time."""
        self.last = self._recorder.handle(Arrived(self.conn, message), self.now, times)
        self.log += self.last

    def look(self, *names: str) -> None:
        """Record what it answers to questions, about the names that were wanted so far if none are given."""
        self._recorder.look(self.now, names or self._names)

    def pass_(self, seconds: float) -> None:
        """Let time pass, with no tick: as if the process were held up."""
        self.now += seconds

    def advance(self, seconds: float) -> list[Action]:
        """Let time pass, with a tick whenever the machine asks for one; return what it did."""
        end, before = self.now + seconds, len(self.log)
        for _ in range(TICKS_MAX):
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

    def tick(self) -> list[Action]:
        """Go on to the next time that the machine has asked for."""
        due = self.machine.deadline()
        assert due < math.inf, "nothing is due"
        self.now = max(self.now, due)
        return self.do(Ticked())

    def until(self, reached: Callable[[], bool]) -> None:
        """Tick until something is so."""
        for _ in range(TICKS_MAX):
            if reached():
                return
            self.tick()
        raise AssertionError("it never came to that")

    def arrive(self, *messages: ServerMessage) -> list[Action]:
        """Have messages arrive on the newest connection."""
        return self.do(*self.arrivals(*messages))

    def arrivals(self, *messages: ServerMessage, conn: int | None = None) -> list[Event]:
        """Return the events of messages that arrive on a connection, the newest if none is named."""
        return [Arrived(self.conn if conn is None else conn, message) for message in messages]

    def expect(self, mode: Mode) -> None:
        """Check the mode: a scenario that does not get where it was to is no use."""
        assert self.machine.mode == mode, f"{self._recorder.trace.name}: {self.machine.mode}, not {mode}"

    # Looking ---------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """The mode, as it is now."""
        return self.machine.mode

    @property
    def conn(self) -> int:
        """The newest connection."""
        return self.all(Connect)[-1].conn

    @property
    def poll(self) -> SendPoll:
        """The newest poll over HTTP."""
        return self.all(SendPoll)[-1]

    @property
    def batch(self) -> SendPublish:
        """The newest publishes over HTTP."""
        return self.all(SendPublish)[-1]

    @property
    def polling(self) -> bool:
        """Whether a poll over HTTP is in flight."""
        return self.machine.describe().polling

    @property
    def connected(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self.machine.describe().connection is not None

    def all(self, kind: type[T]) -> list[T]:
        """Return all actions of a kind."""
        return [action for action in self.log if isinstance(action, kind)]

    def sent(self, kind: type[T]) -> list[T]:
        """Return all messages of a kind that were sent on connections."""
        return [action.message for action in self.all(Send) if isinstance(action.message, kind)]

    # The node's part -------------------------------------------------------------------------------------------------

    def welcome(self, revision: int = 10, **fields: Any) -> Welcome:
        """Return a welcome."""
        usual: dict[str, Any] = {
            "session": "s1", "resumed": False, "node": "n1", "position": at(revision), "ttl_ms": TTL_MS,
            "renew_ms": RENEW_MS, "timeout_ms": TIMEOUT_MS, "poll": POLL, "recover": RECOVER, "limits": LIMITS,
            "durability": "durable",
        }  # fmt: skip
        return Welcome(**{**usual, **fields})

    def subscribed(self, *changes: Change, revision: int = 10, **fields: Any) -> Subscribed:
        """Answer the newest subscribe."""
        usual: dict[str, Any] = {"id": self.sent(Subscribe)[-1].id, "position": at(revision), "changes": list(changes)}
        return Subscribed(**{**usual, **fields})

    def renewed(self, revision: int = 10, **fields: Any) -> Renewed:
        """Answer the newest renewal."""
        usual: dict[str, Any] = {
            "id": fields.get("id") or self.sent(Renew)[-1].id, "match": True, "position": at(revision), "sent": 0,
            "ttl_ms": TTL_MS, "renew_ms": RENEW_MS, "poll": POLL, "recover": RECOVER, "store": "ok",
        }  # fmt: skip
        return Renewed(**{**usual, **fields})

    def polled_here(self, *changes: Change, revision: int = 10, **fields: Any) -> Polled:
        """Answer the newest poll on the connection."""
        usual: dict[str, Any] = {"id": self.sent(Poll)[-1].id, "position": at(revision), "changes": list(changes)}
        return Polled(**{**usual, **fields})

    def polled(self, *changes: Change, revision: int = 10, **fields: Any) -> PollAnswered:
        """Answer the newest poll over HTTP."""
        usual: dict[str, Any] = {"id": 0, "position": at(revision), "changes": list(changes)}
        return PollAnswered(self.poll.request, Polled(**{**usual, **fields}))

    def poll_failed(self, error: RequestError | None = None, *, unsent: bool = False) -> RequestFailed:
        """Have the newest poll over HTTP fail."""
        return RequestFailed(self.poll.request, "failed", error, unsent=unsent)

    def batch_failed(self, error: RequestError | None = None, *, unsent: bool = False) -> RequestFailed:
        """Have the newest publishes over HTTP fail."""
        return RequestFailed(self.batch.request, "failed", error, unsent=unsent)

    def error(
        self, code: str, to: type[Subscribe | Renew | Poll | Auth | Publish] | None = None, **fields: Any
    ) -> Error:
        """Answer the newest request of a kind with an error, or no request."""
        return Error(code, fields.pop("message", code), None if to is None else self.sent(to)[-1].id, **fields)

    def lost(self, code: int | None = None, reason: str = "cut") -> Lost:
        """Have the newest connection end."""
        return Lost(self.conn, code, reason)

    def refused(self, status: int | None = None, *, unsent: bool = False, **fields: Any) -> ConnectFailed:
        """Have the newest connection fail."""
        return ConnectFailed(self.conn, "refused", status, unsent=unsent, **fields)

    def token(self, token: str) -> TokenGot:
        """Answer the newest fetch of a token."""
        return TokenGot(self.all(FetchToken)[-1].number, token)

    def publish(self, ticket: int, topic: str = "a", value: Any = 1, **fields: Any) -> PublishRequested:
        """Have the application publish."""
        usual: dict[str, Any] = {"deleted": False, "expect": None, "key": None, "cbor_bytes": 1, "wire_bytes": 1}
        return PublishRequested(ticket, topic, value, **{**usual, **fields})

    # Ways into a mode ------------------------------------------------------------------------------------------------

    def open(self) -> Script:
        """Open the client."""
        self.do(Opened())
        return self

    def greeted(self) -> Script:
        """Open the connection as far as the hello."""
        if self.mode == "closed":
            self.open()
        self.until(lambda: self.connected)
        self.do(Connected(self.conn))
        return self

    def syncing(self, revision: int = 10, **fields: Any) -> Script:
        """Go on to the welcome."""
        self.greeted().arrive(self.welcome(revision, **fields))
        return self

    def live(self, *changes: Change, revision: int = 10, **fields: Any) -> Script:
        """Go on to the answer to what was subscribed."""
        self.syncing(revision, **fields)
        if self.mode != "live":
            self.arrive(self.subscribed(*changes, revision=revision))
        self.expect("live")
        return self

    def renewing(self) -> Script:
        """Let time pass up to the next renewal."""
        before = len(self.sent(Renew))
        self.until(lambda: len(self.sent(Renew)) > before)
        return self

    def into(self, mode: Mode) -> Script:
        """Go from `closed` to a mode in which the client runs, with a token if it has a provider."""
        self.open()
        if self.machine.describe().token is None and self.all(FetchToken):
            self.do(self.token("t1"))
        match mode:
            case "connecting":
                pass
            case "polling":
                self.do(self.refused())
            case "offline":
                while self.mode != "offline":
                    self.fail_next()
            case "syncing":
                self.syncing()
            case _:
                self.live()
                if mode == "suspect":
                    self.do(Jumped())
        self.expect(mode)
        return self

    def suspect(self) -> Script:
        """Go on to a renewal that was not answered in time."""
        self.live().renewing().advance(TIMEOUT_MS / 1000)
        self.expect("suspect")
        return self

    def answer_poll(self) -> None:
        """Answer the poll in flight, if there is one, with nothing new."""
        if self.polling:
            self.do(self.polled())

    def go_on(self, status: int | None = None, error: RequestError | None = None, *, answer: bool = False) -> None:
        """Go one step on: refuse the connection that is being made, fail the poll in flight (or answer it), or tick."""
        if self.connected:
            self.do(self.refused(status))
        elif self.polling:
            self.do(self.polled() if answer else self.poll_failed(error))
        else:
            self.tick()

    def fail_next(self) -> None:
        """Let the machine make its next attempt on either path, and fail it."""
        self.until(lambda: self.connected or self.polling)
        self.do(self.refused() if self.connected else self.poll_failed())

    def offline(self) -> Script:
        """Fail all attempts until it is offline."""
        self.open()
        while self.mode != "offline":
            self.fail_next()
        return self


Scenario: TypeAlias = Callable[[Script], None]


@final
class Scenarios:
    """A file of scenarios: functions that drive a script, each of which makes a trace."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._all: dict[str, Callable[[], Trace]] = {}

    def __call__(
        self, name: str, about: str, *names: str, clauses: str = "", **options: Any
    ) -> Callable[[Scenario], Scenario]:
        """Enter a scenario: `about` says what it shows, `names` are wanted from the beginning."""

        def enter(scenario: Scenario) -> Scenario:
            assert name not in self._all, f"there is one {name} already"
            self._all[name] = lambda: self._record(name, about, scenario, clauses.split(), names, options)
            return scenario

        return enter

    def record(self) -> list[Trace]:
        """Run every scenario, and return the traces."""
        return [run() for run in self._all.values()]

    def _record(
        self,
        name: str,
        about: str,
        scenario: Scenario,
        clauses: Sequence[str],
        names: Sequence[str],
        options: dict[str, Any],
    ) -> Trace:
        script = Script(f"{self._folder}/{name}", about, clauses, names, options)
        scenario(script)
        return script.finish()
