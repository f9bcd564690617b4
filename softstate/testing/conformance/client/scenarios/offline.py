"""Offline: one retry budget for both paths, and the ways out of it (P-CLI-15)."""

from __future__ import annotations

from softstate.client.machine.events import Connected, PublishAnswered, Wanted
from softstate.errors import Invalid, Overloaded
from softstate.testing.conformance.client.script import OTHER, URL, Scenarios, Script, at, set_to
from softstate.wire.messages import BatchResult

scenario = Scenarios("offline")


def fail_until(script: Script, what: str) -> None:
    """Fail attempts until one on the path `what` is in flight."""
    for _ in range(20):
        script.until(lambda: script.polling or script.connected)
        if script.polling if what == "poll" else script.connected:
            return
        script.do(script.refused() if script.connected else script.poll_failed())
    raise AssertionError(f"no {what}")


@scenario("poll-answered", "A poll is answered: both paths have their own budgets again.", "a")
def _answered(script: Script) -> None:
    script.offline()
    fail_until(script, "poll")
    script.do(script.polled(set_to("a", 4)))
    script.expect("polling")
    script.advance(2.0)


@scenario("welcome", "A connection is welcomed, or refused by its node.", "a")
def _welcome(script: Script) -> None:
    script.offline()
    fail_until(script, "connection")
    script.syncing()
    script.expect("syncing")


@scenario("resumed", "A connection resumes the session, which has outlived it.", "a", offline_after=1)
def _resumed(script: Script) -> None:
    script.live(set_to("a", 4)).do(script.lost())
    while script.mode != "offline":
        script.fail_next()
    fail_until(script, "connection")
    script.do(Connected(script.conn))
    script.arrive(script.welcome(12, resumed=True), script.renewed(12))
    script.expect("live")


@scenario("waits", "Waits that nodes ask for are kept by both paths; names that come hurry no node.", "a", push=False)
def _waits(script: Script) -> None:
    script.open()
    while script.mode != "offline":
        script.until(lambda: script.polling)
        script.do(script.poll_failed(Overloaded("busy", retry_ms=60_000)))
    script.do(Wanted(["b"]))
    script.advance(59.0)
    script.until(lambda: script.polling)
    script.do(script.polled())
    script.expect("polling")


@scenario("two-urls", "Every URL is tried in one round.", "a", urls=(URL, OTHER))
def _two_urls(script: Script) -> None:
    script.offline()
    for _ in range(8):
        script.fail_next()


@scenario("nothing-to-poll", "With nothing to poll connections count; names that come are asked about within the cap.")
def _nothing(script: Script) -> None:
    script.offline()
    script.fail_next()
    script.do(Wanted(["a"]))
    script.until(lambda: script.polling)


@scenario("refused-polls", "A refusal is an answer: the client is not offline.", "a", push=False)
def _refused_polls(script: Script) -> None:
    script.offline()
    script.until(lambda: script.polling)
    script.do(script.poll_failed(Invalid("a rule")))
    script.expect("polling")
    script.advance(60.0)


@scenario(
    "publishes",
    "Publishes that fail leave the timer of polls alone; one that is answered ends offline.",
    "a",
    push=False,
)
def _publishes(script: Script) -> None:
    script.offline()
    script.do(script.publish(1))
    script.do(script.batch_failed())
    script.until(lambda: script.machine.describe().publishing or script.polling)
    while not script.machine.describe().publishing:
        script.go_on()
    script.do(PublishAnswered(script.batch.request, [BatchResult("a", 3, at(3))]))
    script.expect("polling")
    script.advance(2.0)
