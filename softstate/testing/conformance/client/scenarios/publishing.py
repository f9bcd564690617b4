"""Publishing: order, numbers and keys, repeats, outcomes that stay unknown, and batches over HTTP (P-PUB)."""

from __future__ import annotations

from softstate.client.machine.events import Closed, Forked, Jumped, PublishAnswered, PublishDropped
from softstate.errors import Conflict, Denied, Invalid, NotFound, Overloaded, Unauthenticated, Unavailable
from softstate.testing.conformance.client.script import BEGIN, OTHER, URL, Scenarios, Script, at
from softstate.wire.messages import UNTRIED, BatchResult, Error, Limits, Published, Revoked

scenario = Scenarios("publish")
GIVEN = "t1"

forks = Scenarios("fork")


def published(ticket: int, topic: str = "a", version: int = 11) -> Published:
    """Return what answers a publish."""
    return Published(ticket, topic, version, at(version))


def result(topic: str = "a", version: int = 11) -> BatchResult:
    """Return a good verdict of a batch."""
    return BatchResult(topic, version, at(version))


@scenario(
    "order",
    "Publishes of one topic go one at a time, in order; those of others beside them; numbers count.",
    clauses="P-PUB-9",
)
def _order(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2, value={"n": [1, None]}), script.publish(3, "b", None))
    script.do(script.publish(4, "c", deleted=True, value=None, expect=3), script.publish(5, "d", b"\x00\xff", key="k5"))
    script.arrive(published(3, "b"), published(1))
    script.arrive(published(2, version=12), Error("conflict", "lost", 4, current=9), published(5, "d", 13))
    script.arrive(published(5, "d", 13), published(99))
    script.do(script.publish(6))


@scenario(
    "before-the-connection",
    "Publishes wait a second for the first connection, then go over HTTP, one request at a time.",
)
def _before(script: Script) -> None:
    script.open().do(script.publish(1), script.publish(2), script.publish(3, "b"))
    script.advance(1.0)
    script.do(script.publish(4, "c"), PublishDropped(4), PublishDropped(99))
    script.do(PublishAnswered(script.batch.request, [result(), result("b", 12)]))
    script.do(PublishAnswered(script.batch.request, [result("a", 13)]))


@scenario("again", "What a lost connection owes is sent again, with its number, ahead of what is new.")
def _again(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2, "b"), script.publish(3))
    script.do(script.lost())
    script.do(script.publish(4, "c"))
    script.do(script.batch_failed())
    script.live()
    script.arrive(published(1), published(2, "b", 12), published(3, version=13), published(4, "c", 14))
    script.look()


@scenario("later", "Answers after which a publish is sent again later, and holds back its topic alone.")
def _later(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2), script.publish(3, "b"))
    script.arrive(Error("overloaded", "busy", 1, retry_ms=700), Error("unavailable", "down", 3))
    script.do(script.publish(4, "c"))
    script.advance(1.5)
    script.arrive(Error("invalid", "no", 1), Error("invalid", "no", 3), published(4, "c"))
    script.arrive(Error("unavailable", "not begun", 2, why=UNTRIED))
    script.advance(1.0)
    script.arrive(Error("denied", "not yours", 2))
    script.look()


@scenario("unseen", "A refusal says nothing of an earlier attempt, unless the store has looked.", clauses="P-CLI-17")
def _unseen(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2, "b"), script.publish(3, "c"), script.publish(4, "d"))
    script.do(script.lost())
    script.do(script.batch_failed(unsent=True))
    script.live()
    script.arrive(Error("denied", "no", 1), Error("conflict", "lost", 2, current=9), Error("teapot", "no", 3))
    script.arrive(Error("overloaded", "busy", 4))
    script.advance(1.0)
    script.arrive(Error("key_reused", "another", 4))


@scenario("unanswered", "A publish that stays unanswered has the connection left, in each mode.", "a")
def _unanswered(script: Script) -> None:
    script.live(renew_ms=100_000).do(script.publish(1))
    script.advance(20.0)
    script.expect("polling")
    script.until(lambda: script.connected)
    script.live(renew_ms=100_000, timeout_ms=1_000).advance(3.5)
    script.do(script.publish(2))
    script.arrive(Revoked("expired", 100_000))
    script.advance(4.0)
    script.expect("polling")


@scenario("unanswered-while-suspect", "A publish stays unanswered while the connection is suspect.", "a")
def _stuck_suspect(script: Script) -> None:
    script.live(renew_ms=100_000, timeout_ms=2_000).do(script.publish(1))
    script.advance(7.5)
    script.do(Jumped())
    script.expect("suspect")
    script.advance(0.6)
    script.expect("polling")


@scenario(
    "dropped", "A publish that nobody waits for: forgotten, unless it is in flight; then it holds its topic back."
)
def _dropped(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2), script.publish(3), PublishDropped(2), PublishDropped(1))
    script.arrive(published(1))
    script.arrive(Error("overloaded", "busy", 3, retry_ms=1_000))
    script.do(PublishDropped(3))
    script.advance(2.0)


@scenario(
    "expired",
    "A publish that was not answered while its number is remembered: its outcome stays unknown.",
    clauses="P-CLI-10",
)
def _expired(script: Script) -> None:
    limits = Limits(10, 65_536, 1_048_576, 1_024, 100_000, 10_000, 1_024, 4_096, 16_384)
    script.live(limits=limits).do(script.publish(1), script.publish(2, "b"))
    script.arrive(Error("overloaded", "busy", 2, retry_ms=8_900))
    script.do(script.lost())
    while script.now < BEGIN + 9.0:
        if script.machine.describe().publishing:
            script.do(script.batch_failed())
        else:
            script.go_on()
    script.look()


@scenario("new-publisher", "After a long silence a client takes a new id.", clauses="P-PUB-10")
def _new_publisher(script: Script) -> None:
    script.open().do(script.refused(404))
    script.do(script.publish(1))
    script.do(PublishAnswered(script.batch.request, [result()]))
    script.pass_(600.0)
    script.do(script.publish(2))
    script.do(script.publish(3, "b"))
    script.do(PublishAnswered(script.batch.request, [result()]))


@scenario(
    "limits",
    "As many at once as the options and the node allow; what is too large is refused.",
    publishes_waiting_max=5,
    inflight_max=2,
)
def _limits(script: Script) -> None:
    limits = Limits(10, 100, 700, 1_024, 100_000, 600_000, 2, 4_096, 16_384)
    script.open()
    for ticket in range(1, 7):
        script.do(script.publish(ticket, f"t{ticket}", cbor_bytes=101 if ticket == 3 else 1))
    script.live(limits=limits)
    script.do(script.publish(7, "t7", cbor_bytes=101), script.publish(8, "t8", wire_bytes=600))
    script.arrive(published(2, "t2"))
    script.arrive(published(1, "t1"))
    script.look()


@scenario("one-at-a-time", "A node that takes no number beyond what is settled gets one publish at a time.")
def _one(script: Script) -> None:
    script.live(limits=Limits(10, 65_536, 1_048_576, 1_024, 1, 600_000, 0, 4_096, 16_384))
    script.do(script.publish(1), script.publish(2, "b"), script.publish(3, "c", key="k"))
    script.arrive(published(1))


@scenario(
    "elsewhere",
    "Over HTTP: another URL, a silent one, an answer of the wrong length, a refusal.",
    push=False,
    urls=(URL, OTHER),
)
def _elsewhere(script: Script) -> None:
    script.open().do(script.publish(1))
    script.do(script.batch_failed())
    script.advance(10.0)
    script.until(lambda: script.machine.describe().publishing)
    script.do(PublishAnswered(script.batch.request, []))
    script.until(lambda: script.machine.describe().publishing)
    script.do(script.batch_failed(Invalid("no")))
    script.do(script.publish(2))
    script.do(script.batch_failed(Overloaded("busy", retry_ms=3_000)))
    script.do(script.batch_failed(NotFound("no such route")))
    script.until(lambda: script.machine.describe().publishing)
    script.do(PublishAnswered(script.batch.request, [result()]))
    script.do(script.publish(3))


@scenario("unsent", "Dials for publishes that no process takes, and the polls learn of it.", "a", push=False)
def _unsent(script: Script) -> None:
    script.open().do(script.polled())
    script.do(script.publish(1))
    for _ in range(3):
        script.do(script.batch_failed(unsent=True))
        script.until(lambda: script.machine.describe().publishing)
    script.do(script.batch_failed(Invalid("no")))
    script.advance(20.0)


@scenario(
    "batches", "Batches: verdicts one by one, taken apart when refused as a whole, keys and numbers apart.", push=False
)
def _batches(script: Script) -> None:
    script.open().do(script.publish(1))
    for ticket in range(2, 7):
        script.do(script.publish(ticket, f"t{ticket}", key="k5" if ticket == 5 else None))
    script.do(PublishAnswered(script.batch.request, [result()]))
    script.do(script.batch_failed(Invalid("one of them")))
    for _ in range(2):
        script.do(PublishAnswered(script.batch.request, [result(each.topic) for each in script.batch.changes]))
    verdicts = [BatchResult(code="conflict", message="lost", current=9), BatchResult("t9", 9)]
    script.do(PublishAnswered(script.batch.request, verdicts[: len(script.batch.changes)]))
    script.advance(1.0)
    if script.machine.describe().publishing:
        count = len(script.batch.changes)
        script.do(PublishAnswered(script.batch.request, [BatchResult(code="overloaded", retry_ms=500)] * count))
    script.advance(1.0)


@scenario(
    "by-name",
    "Every URL refuses publishes by its host name: they are refused, unless they were sent before.",
    push=False,
    urls=(URL, OTHER),
)
def _by_name(script: Script) -> None:
    error = Denied("not by this name", why="host")
    script.open().do(script.publish(1))
    script.do(script.batch_failed(error))
    script.do(script.batch_failed(error))
    script.do(script.publish(2))
    script.do(script.batch_failed())
    script.do(script.batch_failed(error))
    script.until(lambda: script.machine.describe().publishing)
    script.do(script.batch_failed(error))


@scenario("credentials", "A publish is refused for its credentials over HTTP: the client stops.", push=False)
def _credentials(script: Script) -> None:
    script.open().do(script.publish(1))
    script.do(script.batch_failed(Unauthenticated("expired")))
    script.expect("stopped")
    script.do(Closed())


@scenario("closing", "Closing tells what may have been applied, and what was not.")
def _closing(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2))
    script.do(Closed())
    script.open().do(script.publish(3))
    script.advance(1.0)
    script.do(Closed(), script.publish(4))


@scenario(
    "conflict-over-http",
    "A request as a whole is answered with a verdict, and with an error to be tried again.",
    push=False,
)
def _conflict(script: Script) -> None:
    script.open().do(script.publish(1))
    script.do(script.batch_failed(Unavailable("down", retry_ms=200)))
    script.until(lambda: script.machine.describe().publishing)
    script.do(script.batch_failed(Conflict("lost", current=9)))


@forks("publishes", "A child of fork() has a publisher of its own, and leaves what waits to its parent.", "a")
def _forked(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2))
    script.do(Forked(7))
    script.do(script.publish(3))
    script.do(Closed())


@scenario(
    "odd-answers", "Answers to what is not in flight, results that say nothing, drops at the wrong time.", push=False
)
def _odd(script: Script) -> None:
    script.open().do(script.publish(1), PublishDropped(1))
    script.do(script.batch_failed())
    script.do(script.publish(2))
    script.do(PublishAnswered(script.batch.request, [BatchResult("a", 9)]))
    script.until(lambda: script.machine.describe().publishing)
    script.do(PublishDropped(2), Closed())


@scenario("odd-answers-on-a-connection", "Answers to publishes that wait to be sent again.", provider=True, token=GIVEN)
def _odd_here(script: Script) -> None:
    script.live().do(script.publish(1), script.publish(2, "b"))
    script.arrive(Error("overloaded", "busy", 1, retry_ms=5_000))
    script.arrive(published(1), Error("invalid", "late", 1), Error("unauthenticated", "late", 1))
    script.do(script.lost())
    script.do(script.token("t2"))
    script.do(script.batch_failed())
    script.greeted().arrive(script.welcome())
    script.arrive(Error("unauthenticated", "no", 2, why="expired"))
    script.do(script.token("t3"), PublishDropped(2))
    script.do(script.lost())


@scenario(
    "barred-and-answered",
    "Publishes go to the URL that has answered last, unless it is barred for them.",
    "a",
    urls=(URL, OTHER),
    push=False,
)
def _barred_and_answered(script: Script) -> None:
    script.open().do(script.polled())
    script.do(script.publish(1))
    script.do(script.batch_failed(Denied("not by this name", why="host")))
    script.do(PublishAnswered(script.batch.request, [result()]))
    script.tick()
    script.do(script.polled())
    script.do(script.publish(2))


@scenario(
    "where-it-was-connected", "A publish over HTTP goes first to the node that welcomed the client.", urls=(URL, OTHER)
)
def _where(script: Script) -> None:
    script.open().do(script.refused())
    script.live().do(script.lost())
    script.do(script.publish(1))
