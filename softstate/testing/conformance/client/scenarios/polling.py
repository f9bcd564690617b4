"""Polls over HTTP: rounds, pages, failures, waits that nodes ask for, and refusals (P-CLI-1 and on)."""

from __future__ import annotations

from softstate.client.machine.events import Unwanted, Wanted
from softstate.errors import Denied, Invalid, NotFound, Overloaded, TooLarge, Unavailable, Unsupported
from softstate.testing.conformance.client.script import OTHER, URL, Scenarios, Script, set_to
from softstate.wire.messages import Limits, RecoverAdvice

scenario = Scenarios("poll")

SOON_MS = 50

BY_NAME = Denied("not by this name", why="host")


def refuse_all(script: Script, error: Invalid | TooLarge | Unsupported, most: int) -> None:
    """Refuse polls that name more than `most` names, and answer the others, until none is in flight."""
    while script.polling:
        message = script.poll.message
        names = len(message.topics) + len(message.prefixes)
        script.do(script.poll_failed(error) if names > most else script.polled())


def until_poll(script: Script) -> None:
    """Refuse connections until a poll is in flight."""
    while not script.polling:
        script.go_on()


@scenario(
    "rounds", "A client that only polls: at once, then when the node says, or after the interval.", "a", push=False
)
def _rounds(script: Script) -> None:
    script.open().pass_(0.5)
    script.do(script.polled(set_to("a", 4), next_ms=4_000, lag_ms=250))
    script.tick()
    script.do(script.polled(revision=12))
    script.tick()
    script.do(script.polled(next_ms=7 * 24 * 3_600_000))  # an hour, at most


@scenario("pages", "An answer of several pages certifies with its last, as of the first request.", "p/", push=False)
def _pages(script: Script) -> None:
    script.open().do(script.polled(set_to("p/a", 3), more=True, cursor="c1"))
    script.pass_(2.0)
    script.do(script.polled(set_to("p/b", 4), revision=11))
    script.look()
    script.tick()
    script.do(script.polled(more=True, cursor="c2", revision=12))
    script.do(script.polled(more=True, cursor="c2", revision=12))  # the same cursor: it has no end
    script.tick()
    script.do(script.polled(more=True, revision=12))  # no cursor
    script.tick()
    script.do(script.polled(more=True, cursor="c3"))
    script.do(script.poll_failed(Invalid("a cursor")))  # which does not condemn the question
    script.tick()
    script.do(script.polled(revision=12))


@scenario(
    "failures",
    "Failures: the other URL at once, a backoff behind the last, waits as told, for an hour at most.",
    "a",
    push=False,
    urls=(URL, OTHER),
    clauses="P-CLI-5",
)
def _failures(script: Script) -> None:
    script.open().advance(10.0)  # given up
    script.tick()
    script.do(script.poll_failed(NotFound("no such route")))
    script.tick()
    script.do(script.poll_failed(Overloaded("busy", retry_ms=60_000)))
    script.do(script.poll_failed(Unavailable("down", retry_ms=30_000)))
    script.do(Wanted(["b"]))
    script.tick()
    script.do(script.poll_failed(Overloaded("busy", retry_ms=86_400_000)))
    script.until(lambda: script.polling)
    script.do(script.polled())


@scenario("beside-a-connection", "A connection that takes long is passed by a poll, and its welcome ends that.", "p/")
def _beside(script: Script) -> None:
    script.greeted().advance(1.5)
    script.do(script.polled(set_to("p/1", 1), more=True, cursor="1"))
    script.arrive(script.welcome())
    script.do(script.polled(set_to("p/2", 2), more=True, cursor="2"))  # the subscribe brings the rest
    script.advance(2.0)
    script.arrive(script.subscribed(set_to("p/3", 3)))
    script.expect("live")


@scenario(
    "beside-a-subscribe",
    "What a subscribe asks for in full is not polled; what is known is, and changes come.",
    "a",
    "p/",
)
def _beside_a_subscribe(script: Script) -> None:
    script.live(set_to("a", 4)).renewing().arrive(script.renewed(match=False))
    script.do(Wanted(["new/"]))
    script.advance(1.0)
    script.do(script.polled(revision=12))
    script.advance(4.2)


@scenario("wanted", "Names that come while it connects, polls, or waits as told.", push=True)
def _wanted(script: Script) -> None:
    script.open().do(Wanted(["a"]))
    script.advance(1.5)
    script.do(Wanted(["b"]), script.poll_failed(Unavailable("down", retry_ms=20_000)), Wanted(["c"]))
    script.advance(4.0)


@scenario(
    "refused",
    "A poll that is refused is told once, and not sent again unchanged until much later.",
    "a",
    push=False,
    clauses="P-CLI-12",
)
def _refused(script: Script) -> None:
    script.open().do(script.poll_failed(Invalid("a rule")))
    script.advance(40.0)
    script.do(Wanted(["b"]))
    script.do(script.poll_failed(Invalid("a rule")))
    script.do(Unwanted(["b"]))
    script.advance(20.0)
    script.until(lambda: script.polling)
    script.do(script.polled())


@scenario(
    "refused-and-back",
    "A set that is wanted again when its refusal has lapsed is asked about at once.",
    "a",
    push=False,
)
def _refused_and_back(script: Script) -> None:
    script.open().do(script.poll_failed(Unsupported("no polls")), Unwanted(["a"]))
    script.pass_(500.0)
    script.do(Wanted(["a"]))


@scenario("other-questions", "One of several questions is refused: the others are asked, in later rounds too.", *"abcd")
def _other_questions(script: Script) -> None:
    limits = Limits(100, 65_536, 1_110, 1_024, 100_000, 600_000, 1_024, 4_096, 16_384)
    script.syncing(limits=limits).do(script.lost())
    script.until(lambda: script.polling)
    script.do(script.poll_failed(Invalid("a rule")))
    refuse_all(script, Invalid("none"), 9)
    until_poll(script)
    refuse_all(script, Invalid("none"), 9)
    until_poll(script)
    script.do(script.poll_failed())  # of the first question: the others are not asked in this round


@scenario(
    "halves",
    "A poll that is too large goes in halves until they fit, and stays so for that set.",
    *(f"t{n}" for n in range(6)),
    push=False,
)
def _halves(script: Script) -> None:
    too_large = TooLarge("at most 2")
    script.open()
    refuse_all(script, too_large, 2)
    script.tick()
    refuse_all(script, too_large, 2)
    script.do(Wanted(["q"]))
    refuse_all(script, too_large, 2)
    script.do(Unwanted(["q"]))
    script.until(lambda: script.polling)
    refuse_all(script, too_large, 2)
    script.tick()
    script.do(script.polled(more=True, cursor="c"))
    script.do(script.poll_failed(too_large))
    refuse_all(script, too_large, 2)


@scenario(
    "dropped-on-the-way", "A name that left while its poll was on its way is not certified.", "a", "b", push=False
)
def _dropped(script: Script) -> None:
    script.open().do(Unwanted(["b"]), script.polled(set_to("a", 3), set_to("b", 4)))
    script.look()


@scenario(
    "not-by-this-name",
    "URLs that refuse polls by their host name are barred; all of them: much later.",
    "a",
    push=False,
    urls=(URL, OTHER),
    clauses="P-CLI-6",
)
def _by_name(script: Script) -> None:
    script.open().do(script.poll_failed(BY_NAME))
    script.do(script.poll_failed(BY_NAME))
    script.until(lambda: script.polling)
    script.do(script.polled())


@scenario(
    "avoided", "A wait holds for the node that asked for it, also when polls have moved on.", "a", urls=(URL, OTHER)
)
def _avoided(script: Script) -> None:
    script.suspect().do(script.poll_failed(Overloaded("busy", retry_ms=60_000)))
    script.fail_next()
    script.advance(4.0)


@scenario(
    "held",
    "A node that offers it holds polls: the age counts from the end of the hold, and is never of the future.",
    "a",
    "p/",
    push=False,
    clauses="P-CLI-20",
)
def _held(script: Script) -> None:
    script.open().do(script.polled(set_to("a", 4), next_ms=SOON_MS))
    script.tick()
    script.advance(10.0)
    script.do(script.polled(set_to("a", 11), revision=11, held_ms=9_900, lag_ms=50, next_ms=SOON_MS))
    script.tick()
    script.advance(2.0)
    script.do(script.polled(set_to("p/x", 12), revision=12, held_ms=2_000, more=True, cursor="c"))
    script.pass_(1.0)
    script.do(script.polled(set_to("p/y", 13), revision=13, held_ms=50_000, next_ms=SOON_MS))
    script.tick()
    script.advance(2.0)
    script.do(Wanted(["b"]))  # which has no age: asked about at once
    script.until(lambda: script.poll.message.wait_ms == 0)
    script.tick()
    script.do(script.polled(revision=13, next_ms=SOON_MS))
    script.tick()
    script.advance(30.0)


@scenario(
    "held-elsewhere", "After a failure, and at another node, a poll is to be answered at once.", "a", urls=(URL, OTHER)
)
def _held_elsewhere(script: Script) -> None:
    script.live(recover=RecoverAdvice(60_000, 500, 30_000)).do(script.lost())
    script.until(lambda: script.polling)
    script.do(script.polled(next_ms=SOON_MS))
    script.until(lambda: script.polling)
    script.do(script.poll_failed(Unavailable("cut")))
    script.do(script.polled(next_ms=SOON_MS))
    script.until(lambda: script.polling)
    script.until(lambda: script.connected)
    script.live()
