"""Connecting: refusals, waits, barred URLs, and dials that no process takes (P-CLI-4 and on)."""

from __future__ import annotations

from softstate.client.machine.events import Connected, Jumped, Wanted
from softstate.errors import Denied, Invalid, Unavailable
from softstate.testing.conformance.client.script import OTHER, URL, Scenarios, Script, set_to
from softstate.wire.messages import RecoverAdvice, ServerBye

scenario = Scenarios("connect")

WEEK_MS = 7 * 24 * 3_600_000


def dead(script: Script, seconds: float, *down: str, serves: bool = True) -> None:
    """Let time pass while no process takes dials to the URLs `down`; others answer polls, and no connection."""
    end = script.now + seconds
    while True:
        description = script.machine.describe()
        if description.connection is not None and not description.connection.open:
            url = description.connection.url
            script.do(script.refused(unsent=True) if url in down else script.refused(503))
        elif script.polling:
            gone = script.poll.url in down
            script.do(script.poll_failed(unsent=True) if gone else script.polled() if serves else script.poll_failed())
        elif script.machine.deadline() <= end:
            script.tick()
        else:
            script.now = end
            return


@scenario("timeouts", "A connection that does not come to be, and one that is not welcomed.", "a")
def _timeouts(script: Script) -> None:
    script.open().advance(5.0)
    script.expect("polling")
    script.answer_poll()
    script.until(lambda: script.connected)
    script.do(Connected(script.conn))
    script.advance(5.0)
    script.expect("polling")


@scenario("errors-before-the-welcome", "Errors and farewells in place of a welcome.", "a", clauses="P-CLI-5")
def _errors(script: Script) -> None:
    script.greeted().arrive(script.error("unavailable", retry_ms=9_000))
    script.answer_poll()
    script.until(lambda: script.connected)
    script.do(Connected(script.conn))
    script.arrive(ServerBye("draining", 86_400_000, 1_000))  # an hour, at most
    script.expect("polling")


@scenario(
    "no-websocket",
    "A URL that answers 404 is for polling only; if every one does, it is asked again much later.",
    "a",
    urls=(URL, OTHER),
    clauses="P-CLI-6",
)
def _no_websocket(script: Script) -> None:
    script.open().do(script.refused(404))
    script.expect("polling")
    script.do(script.refused())
    script.until(lambda: script.connected)
    script.do(script.refused(404))
    for _ in range(3):
        script.until(lambda: script.polling)
        script.do(script.polled(next_ms=120_000))
    script.until(lambda: script.connected)


@scenario(
    "not-by-this-name", "A node that refuses its host name bars the URL, and is reported once.", "a", urls=(URL, OTHER)
)
def _by_name(script: Script) -> None:
    error = Denied("not by this name", why="host")
    script.open().do(script.refused(403, error=error))
    script.live().do(script.lost())
    script.greeted()


@scenario("mistrusted", "A certificate that is not accepted is reported once, and tried again.", "a")
def _mistrusted(script: Script) -> None:
    error = Unavailable("the certificate is of another name", why="certificate")
    script.open().do(script.refused(error=error))
    script.until(lambda: script.polling)
    script.do(script.poll_failed(error))
    script.until(lambda: script.connected)
    script.do(script.refused(error=error))
    script.look()


@scenario(
    "early-alone", "After a connection that ended over what came with hello, hello goes alone.", "a", clauses="P-CLI-16"
)
def _early_alone(script: Script) -> None:
    script.greeted().do(script.lost(1_009))
    script.greeted().arrive(script.welcome())
    script.arrive(script.subscribed())
    script.expect("live")
    script.do(script.lost())
    script.pass_(60.0)
    script.greeted().do(script.lost(4_000))  # a code of the protocol says nothing against it
    script.greeted()


@scenario("short-spread", "Where the spread is short, a wait is drawn up to half of the time of absence.", "a")
def _short_spread(script: Script) -> None:
    script.live(recover=RecoverAdvice(100, 500, 30_000)).do(script.lost())
    dead(script, 8.0, URL)


@scenario("polls-only", "A client that only polls spreads its dials likewise.", "a", push=False)
def _polls_only(script: Script) -> None:
    script.open()
    dead(script, 8.0, URL)
    dead(script, 8.0)  # it answers again
    script.until(lambda: script.polling)
    dead(script, 2.0, URL)


@scenario("shared-probe", "While a URL refuses, one dial is made for both paths, and polls do not knock as well.", "a")
def _shared(script: Script) -> None:
    script.live().do(script.lost(), Wanted(["b"]))
    dead(script, 1.9, URL)
    script.do(Wanted(["c"]))
    dead(script, 10.0, URL)
    script.until(lambda: script.connected)
    script.do(Connected(script.conn))  # it takes connections again: polls may go
    script.advance(2.0)


@scenario("probe-that-hangs", "A probe that hangs holds the other path back no longer than its timeout.", "a")
def _hangs(script: Script) -> None:
    script.live().do(script.lost(), Wanted(["b"]))
    dead(script, 2.0, URL)
    script.until(lambda: script.connected)
    script.advance(5.2)


@scenario("place-kept", "A refused poll leaves the connection its place in the spread.", "a")
def _place_kept(script: Script) -> None:
    script.live(recover=RecoverAdvice(40_000, 500, 30_000)).do(script.lost())
    dead(script, 41.0, URL)


@scenario(
    "one-dead", "Of a dead and a live URL the live one is used, and the dead one left alone.", "a", urls=(URL, OTHER)
)
def _one_dead(script: Script) -> None:
    script.live().do(script.lost())
    script.until(lambda: script.connected)
    script.do(script.refused(unsent=True))
    script.live(set_to("a", 12)).do(Jumped())
    script.do(script.polled())


@scenario(
    "week", "A node that advises a week and dies does not keep a client from coming back.", "a", urls=(URL, OTHER)
)
def _week(script: Script) -> None:
    script.live(recover=RecoverAdvice(WEEK_MS, WEEK_MS, WEEK_MS)).do(script.lost())
    script.until(lambda: script.connected or script.polling)
    script.do(script.refused(unsent=True) if script.connected else script.poll_failed(unsent=True))


@scenario("dead-and-refusing", "No URL takes dials, and polls were turned down: connections count to offline.", "a")
def _dead_and_refusing(script: Script) -> None:
    script.live().do(script.lost())
    while not script.polling:
        script.go_on(503)
    script.do(script.poll_failed(Invalid("a rule")))
    while script.mode != "offline":
        script.until(lambda: script.connected or script.polling)
        script.do(script.refused(unsent=True) if script.connected else script.poll_failed(unsent=True))
    for _ in range(6):
        script.until(lambda: script.connected or script.polling)
        script.do(script.refused(503) if script.connected else script.poll_failed(Invalid("a rule")))
    script.do(Wanted(["b"]))
    script.until(lambda: script.polling)
