"""Any events in any order: the machine never raises, never goes back, and never gets stuck waiting for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from softstate.client.machine.certificate import LEGAL
from softstate.client.machine.connection import Stage
from softstate.client.machine.events import (
    Abandon,
    Action,
    Arrived,
    Closed,
    Connect,
    Connected,
    ConnectFailed,
    Deliver,
    Disconnect,
    Event,
    Jumped,
    Lost,
    Opened,
    PollAnswered,
    PublishAnswered,
    PublishDropped,
    PublishRequested,
    RequestFailed,
    Reset,
    Send,
    SendPoll,
    SendPublish,
    Settled,
    Ticked,
    Unwanted,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.errors import ERRORS_BY_CODE
from softstate.model import Change, Durability
from softstate.names import covers
from softstate.position import Position
from softstate.wire.messages import (
    BatchResult,
    Error,
    Limits,
    Notify,
    Poll,
    PollAdvice,
    Polled,
    PositionMoved,
    Publish,
    Published,
    RecoverAdvice,
    Renew,
    Renewed,
    Revoked,
    ServerBye,
    Subscribe,
    Subscribed,
    Welcome,
)
from tests.kit.machine_rig import OTHER, POLL, RECOVER, URL

NAMES = ["a", "p/", "p/x", "p/y", "/"]
TOPICS = ["a", "p/x", "p/y", "q"]
MALFORMED = ["/", "p/", "p/x/", "q//"]
"""Topics that a node must not name: nothing may come of them."""


class _Chaos:
    """Makes events out of one random number generator, mostly about what the machine has in flight."""

    def __init__(self, seed: int, *, push: bool, urls: int) -> None:
        self.random = Random(seed)
        options = MachineOptions((URL, OTHER)[:urls], push=push, publishes_waiting_max=6, inflight_max=2)
        self.machine = Machine(options, Random(seed))
        self.now, self.revision, self.ticket = 0.0, 5, 0
        self.conn, self.ids = 0, ["subscribe-1"]
        self.requests: list[int] = [0]
        self.waiting: set[int] = set()
        self.versions: dict[str, int] = {}
        self.revisions: dict[str, int] = {}

    # Invariants ------------------------------------------------------------------------------------------------------

    def step(self, event: Event) -> None:
        actions = self.machine.handle(event, self.now)
        for action in actions:
            self._check(action)
        self._check_revisions()
        deadline = self.machine.deadline()
        idle = self.machine.mode in ("closed", "stopped", "live")
        if (self.machine._knowledge.subscriptions or self.waiting) and not idle:
            assert deadline < math.inf, f"stuck in {self.machine.mode}"
        if self.machine.mode == "live":
            assert deadline < math.inf
        if self.machine.mode in ("closed", "stopped"):
            assert deadline == math.inf
            assert not self.waiting
        assert self.machine.age(self.now) >= 0.0

    def _check(self, action: Action) -> None:
        match action:
            case Deliver(changes):
                for change in changes:
                    assert change.topic in TOPICS
                    assert change.version > self.versions.get(change.topic, 0)
                    self.versions[change.topic] = change.version
            case Reset():
                self.versions.clear()
                self.revisions.clear()
            case Connect():
                assert self.machine._core.options.push
                self.conn = action.conn
            case Send():
                assert action.conn == self.conn
                if isinstance(action.message, Subscribe | Renew | Poll | Publish):
                    self.ids.append(str(action.message.id))
            case SendPoll() | SendPublish():
                assert action.request not in self.requests
                self.requests.append(action.request)
            case Abandon():
                assert action.request in self.requests
            case Settled():
                assert action.ticket in self.waiting, "each publish is settled once"
                self.waiting.remove(action.ticket)
            case _:
                pass

    def _check_revisions(self) -> None:
        held = self.machine._knowledge.subscriptions
        for name in list(self.revisions):
            if name not in held or held[name].revision is None:
                del self.revisions[name]  # given up, for another list
        connection = self.machine._push.connection
        if connection is not None:
            waits = connection.stage in (Stage.RETRYING, Stage.REVOKED)
            assert (connection.resubscribe_at < math.inf) == waits
        for name, subscription in held.items():
            assert subscription.doubt in LEGAL[subscription.evidence]
            if subscription.revision is not None:
                assert subscription.revision >= self.revisions.get(name, 0)
                self.revisions[name] = subscription.revision
                assert subscription.asof <= self.now
        for topic in list(self.versions):
            if not any(covers(name, topic) for name in held):
                del self.versions[topic]

    # Events ----------------------------------------------------------------------------------------------------------

    def event(self) -> Event:
        weighted: list[tuple[int, Callable[[], Event]]] = [
            (6, self._tick),
            (3, self._want),
            (1, self._unwant),
            (3, self._publish),
            (1, self._drop),
            (8, lambda: Connected(self._conn())),
            (2, self._connect_failed),
            (1, self._lost),
            (22, lambda: Arrived(self._conn(), self._message())),
            (5, lambda: PollAnswered(self._request(), self._polled())),
            (2, self._publish_answered),
            (2, self._request_failed),
            (1, Jumped),
        ]
        if self.machine.mode == "closed" and self.random.random() < 0.5:
            return Opened()
        if self.random.random() < 0.005:
            return Closed()
        made = self.random.choices([make for _, make in weighted], [weight for weight, _ in weighted])[0]
        return made()

    def _conn(self) -> int:
        return self.conn if self.random.random() < 0.95 else self.random.randrange(5)

    def _request(self) -> int:
        return self.requests[-1] if self.random.random() < 0.9 else self.random.choice(self.requests)

    def _tick(self) -> Event:
        due = self.machine.deadline()
        if due < math.inf and self.random.random() < 0.8:
            self.now = max(self.now, due)
        else:
            self.now += self.random.choice([0.0, 0.1, 3.0, 100.0])
        return Ticked()

    def _want(self) -> Event:
        names = [name for name in self.random.sample(NAMES, 2) if name not in self.machine._knowledge.subscriptions]
        return Wanted(names)

    def _unwant(self) -> Event:
        return Unwanted(self.random.sample(NAMES, 2))

    def _publish(self) -> Event:
        self.ticket += 1
        self.waiting.add(self.ticket)
        topic = self.random.choice(TOPICS)
        return PublishRequested(self.ticket, topic, 1, deleted=False, expect=None, key=str(self.ticket))

    def _drop(self) -> Event:
        ticket = self.random.randint(0, self.ticket)
        self.waiting.discard(ticket)
        return PublishDropped(ticket)

    def _connect_failed(self) -> Event:
        status = self.random.choice([None, 404, 503, 500])
        return ConnectFailed(self._conn(), "no", status, self.random.choice([None, 2_000]))

    def _lost(self) -> Event:
        return Lost(self._conn(), self.random.choice([None, 1006, 4000, 4001]), "gone")

    def _publish_answered(self) -> Event:
        count = self.random.choice([0, 1, 2, 3])
        results = [
            BatchResult("a", 3, self._position()) if self.random.random() < 0.5 else BatchResult(code=self._code())
            for _ in range(count)
        ]
        return PublishAnswered(self._request(), results)

    def _request_failed(self) -> Event:
        if self.random.random() < 0.5:
            return RequestFailed(self._request(), "unreachable")
        error = ERRORS_BY_CODE[self._code()]
        position = self._position() if self.random.random() < 0.9 else None
        return RequestFailed(self._request(), "refused", error("no", retry_ms=self._ms(), position=position))

    # Messages --------------------------------------------------------------------------------------------------------

    def _ms(self) -> int:
        return self.random.choice([0, 100, 5_000])

    def _code(self) -> str:
        return self.random.choice([code for code in ERRORS_BY_CODE if code not in ("denied", "unauthenticated")])

    def _position(self) -> Position:
        self.revision += self.random.choice([0, 0, 1, 2])
        lineage = "l1" if self.random.random() < 0.995 else "l2"
        return Position("e", lineage, max(0, self.revision - self.random.choice([0, 0, 0, 3])))

    def _change(self) -> Change:
        version = max(1, self.revision - self.random.randrange(5))
        topic = self.random.choice(TOPICS if self.random.random() < 0.97 else MALFORMED)
        return Change(topic, version, version, self.random.random() < 0.3)

    def _id(self) -> Any:
        text = self.ids[-1] if self.random.random() < 0.7 else self.random.choice(self.ids)
        return int(text) if text.isdigit() else text

    def _page(self) -> dict[str, Any]:
        more = self.random.random() < 0.2
        return {
            "position": self._position(),
            "changes": [self._change() for _ in range(self.random.randrange(3))],
            "more": more,
            "compacted": ["p/"] if self.random.random() < 0.1 else [],
            "denied": [self.random.choice(NAMES)] if self.random.random() < 0.05 else [],
            "lag_ms": self._ms(),
            "unreadable": [self._change().topic] if self.random.random() < 0.1 else [],
        }

    def _polled(self) -> Polled:
        page = self._page()
        cursor = "c" if page["more"] and self.random.random() < 0.9 else None
        return Polled(0, cursor=cursor, next_ms=self.random.choice([None, 1_000]), **page)

    def _message(self) -> Any:
        chance = self.random.random()
        if chance < 0.2:
            limits = Limits(
                self.random.choice([2, 100]),
                65_536,
                self.random.choice([1, 1_100, 1_048_576]),
                1,
                1,
                10_000,
                1_024,
                4_096,
                16_384,
            )
            flags: dict[str, Any] = {"resumed": self.random.random() < 0.3}
            if self.random.random() < 0.2:
                flags["reset"] = True
            position = self._position()
            return Welcome("s", **flags, node="n", position=position, ttl_ms=60_000, renew_ms=20_000, timeout_ms=5_000,
                           poll=POLL, recover=RECOVER, limits=limits, durability=Durability.DURABLE)  # fmt: skip
        if chance < 0.4:
            return Subscribed(self._id(), **self._page())
        if chance < 0.6:
            match, sent = self.random.random() < 0.8, self.random.choice([0, 0, 0, 1])
            store = "down" if self.random.random() < 0.2 else "ok"
            return Renewed(self._id(), match, self._position(), sent, 60_000, 20_000, PollAdvice(9_000, 500),
                           RecoverAdvice(1_000, 100, 5_000), store)  # type: ignore[arg-type] # fmt: skip
        if chance < 0.8:
            change = self._change()
            unknown = self.random.random() < 0.1
            return Notify(change.topic, change.version, change.value, change.deleted, unknown)
        return self.random.choice([
            PositionMoved(self._position()),
            Polled(self._id(), **self._page()),
            Published(self._id(), "a", 3, self._position()),
            Error(self._code(), "no", self._id(), self._ms(), None, self._position()),
            Error(self._code(), "no", None),
            Revoked("expired", self._ms(), self._ms()),
            Revoked("slow_consumer"),
            ServerBye(self.random.choice(["draining", "rewound", "replaced", "idle"]), self._ms(), self._ms()),
        ])  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), steps=st.integers(100, 250), push=st.booleans(), urls=st.integers(1, 2))
def test_random_events_break_no_invariant(seed: int, steps: int, push: bool, urls: int) -> None:
    chaos = _Chaos(seed, push=push, urls=urls)
    chaos.step(Opened())
    for _ in range(steps):
        chaos.step(chaos.event())


def test_disconnected_means_disconnected() -> None:
    """After `Disconnect`, nothing is sent on that connection, in any of many walks."""
    for seed in range(30):
        chaos = _Chaos(seed, push=True, urls=2)
        chaos.machine.handle(Opened(), 0.0)
        left: set[int] = set()
        for _ in range(150):
            for action in chaos.machine.handle(chaos.event(), chaos.now):
                match action:
                    case Connect():
                        chaos.conn = action.conn
                    case Disconnect():
                        left.add(action.conn)
                    case Send():
                        assert action.conn not in left
                    case _:
                        pass
