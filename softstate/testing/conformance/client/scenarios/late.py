"""Words that mean nothing where they come: to a client that is closed, stopped, or without a lease."""

from __future__ import annotations

from softstate.client.machine.events import (
    Closed,
    Connected,
    ConnectFailed,
    Event,
    Jumped,
    Lost,
    Opened,
    PollAnswered,
    PublishAnswered,
    RequestFailed,
    Ticked,
    TokenFailed,
    TokenGot,
    TokenRefused,
)
from softstate.errors import Denied, Unauthenticated
from softstate.model import Mode
from softstate.testing.conformance.client.script import Scenarios, Script, at
from softstate.wire.messages import (
    BatchResult,
    Error,
    Notify,
    Polled,
    PositionMoved,
    Revoked,
    ServerBye,
    ServerMessage,
    Subscribe,
    Subscribed,
)

scenario = Scenarios("late")

RUNNING: tuple[Mode, ...] = ("connecting", "syncing", "live", "suspect", "polling", "offline")


def answers(script: Script) -> list[ServerMessage]:
    """Return a message of each kind, none of which answers what was asked."""
    return [
        Subscribed("subscribe-99", at(12)),
        script.renewed(12, id="renew-99"),
        script.renewed(12, id="renew-99", store="down"),
        script.renewed(12, id="renew-99", match=False),
        *(Error(code, "late", "renew-99") for code in ("no_lease", "unavailable")),
        Notify("a", 12, unknown=True),
        PositionMoved(at(12)),
        Revoked("expired", 0, 0),
        Polled("poll-99", at(12)),
        ServerBye("idle", 0, 0),
    ]


def everything(script: Script) -> list[Event]:
    """Return an event of each kind but those of the application."""
    messages = [
        script.welcome(12),
        script.welcome(12, resumed=True),
        script.welcome(12, reset=True),
        Error("rewound", "late", position=at(3, "l2")),
        Error("unauthenticated", "late"),
        Error("denied", "late"),
        *answers(script),
    ]
    return [
        Connected(script.conn),
        *script.arrivals(*messages),
        ConnectFailed(script.conn, "late"),
        Lost(script.conn, 4_100, "late"),
        PollAnswered(99, Polled(0, at(12))),
        PublishAnswered(99, [BatchResult("a", 12, at(12))]),
        RequestFailed(99, "late", Unauthenticated("late")),
        TokenGot(99, "late"),
        TokenRefused("late", Unauthenticated("late")),
        TokenFailed(99, Denied("late"), final=True),
        Jumped(),
        Ticked(),
    ]


@scenario("closed", "A client that was closed, in each mode, hears nothing; one that is opened again is as new.", "a")
def _closed(script: Script) -> None:
    for mode in RUNNING:
        script.into(mode).do(Opened())
        script.do(Closed())
    script.pass_(100.0)
    script.do(Closed(), *everything(script))
    script.expect("closed")


@scenario("closed-polls", "A client that only polls is closed with a poll in flight.", "a", push=False)
def _closed_polls(script: Script) -> None:
    script.open().do(Opened())
    script.do(Closed())
    script.do(script.polled())
    script.expect("closed")


@scenario("stopped", "A client that has stopped hears nothing, and is closed.", "a")
def _stopped(script: Script) -> None:
    script.live().arrive(script.error("denied", why="rules"))
    script.pass_(100.0)
    script.do(Opened(), *everything(script))
    script.expect("stopped")
    script.do(Closed())


@scenario("before-the-welcome", "Answers before the welcome mean nothing, in each mode without a lease.", "a")
def _before(script: Script) -> None:
    for mode in ("connecting", "offline"):
        script.into(mode)
        while not script.connected:
            script.go_on()
        script.arrive(*answers(script))  # while it is being opened
        script.do(Jumped(), Connected(script.conn))
        if mode == "connecting":
            script.arrive(*(message for message in answers(script) if not isinstance(message, Error | ServerBye)))
        script.do(script.lost())
        script.do(Closed())


@scenario("lease-over", "Answers on a connection that waits for another lease mean nothing.", "a")
def _lease_over(script: Script) -> None:
    script.live().arrive(Revoked("expired", 60_000, 0))
    script.expect("polling")
    script.arrive(*(message for message in answers(script) if not isinstance(message, ServerBye)))
    script.do(Jumped())
    script.expect("polling")


@scenario("leased", "What a client with a lease makes nothing of.", "a")
def _leased(script: Script) -> None:
    for mode in ("syncing", "live", "suspect"):
        script.into(mode).do(RequestFailed(99, "late"), PublishAnswered(99, []), TokenGot(99, "late"))
        script.do(Ticked() if mode == "live" else Jumped(), Closed())


@scenario("left", "Nothing is heard of a connection that was left.", "a")
def _left(script: Script) -> None:
    script.live()
    old = script.conn
    script.do(script.lost())
    script.do(*everything_of(script, old))
    script.greeted().do(*everything_of(script, old))
    script.arrive(script.welcome())
    script.arrive(script.subscribed())
    script.expect("live")


def everything_of(script: Script, conn: int) -> list[Event]:
    """Return events of one connection."""
    messages: list[ServerMessage] = [script.welcome(99), Notify("a", 99, "late"), ServerBye("idle", 0, 0)]
    return [
        Connected(conn),
        *script.arrivals(*messages, conn=conn),
        Lost(conn, 4_100, "late"),
        ConnectFailed(conn, "late"),
    ]


@scenario("made-and-failed", "A connection is reported as failed after it was made: it is lost.", "a")
def _made(script: Script) -> None:
    script.live().do(script.refused())
    script.expect("polling")


@scenario("unasked", "A node resumes a session though the client did not ask for it.", "a")
def _unasked(script: Script) -> None:
    script.greeted().arrive(script.welcome(resumed=True))
    script.expect("syncing")
    script.arrive(script.subscribed())
    script.expect("live")


@scenario(
    "mismatch-while-live", "A poll had moved a client, live by now, to a history that its connection leaves again.", "a"
)
def _mismatch_live(script: Script) -> None:
    script.greeted().arrive(script.welcome())
    script.arrive(script.error("unavailable", Subscribe, retry_ms=3_000))
    script.until(lambda: script.polling)
    script.do(script.polled(position=at(12, "l2")))
    while script.mode == "syncing" and len(script.sent(Subscribe)) < 2:
        script.tick()
    script.arrive(script.subscribed(position=at(11, "l2")))
    script.expect("live")
    script.arrive(PositionMoved(at(13, "l3")))
    script.expect("polling")


@scenario(
    "mismatch-while-offline",
    "A welcome comes while offline, of another history than a poll brought.",
    "a",
    offline_after=1,
)
def _mismatch_offline(script: Script) -> None:
    script.open().do(script.refused())
    script.greeted()
    script.until(lambda: script.polling)
    script.do(script.polled(position=at(12, "l2"), next_ms=500))
    script.until(lambda: script.polling)
    script.do(script.poll_failed())
    script.expect("offline")
    script.arrive(script.welcome(11))
    script.expect("polling")
