"""Beats: what they certify, and what the lack of them means (P-BEAT)."""

from __future__ import annotations

import math

from softstate.client.machine.events import FreshWanted, Jumped, SendPoll, Ticked, Wanted
from softstate.testing.conformance.client.script import OTHER, TTL_MS, URL, Scenarios, Script, at, set_to
from softstate.wire.messages import Beat, Notify, PositionMoved, Renew, Revoked, Subscribe

scenario = Scenarios("beat")


def beat(script: Script, revision: int, clock_s: float, *, sent: int = 0, lineage: str = "l1") -> None:
    """Have a beat arrive."""
    script.arrive(Beat(1_000, sent, at(revision, lineage), math.floor(clock_s * 1000)))


def beaten(script: Script) -> float:
    """Go live on a node whose clock reads 0; return when it did."""
    script.syncing(beat_ms=1_000, clock_ms=0)
    script.arrive(script.subscribed(set_to("a", 4), digest="d", count=1, clock_ms=0))
    script.expect("live")
    return script.now


@scenario("young", "A beat makes all that is certified young, and moves only forward.", "a", "p/", clauses="P-BEAT-5")
def _young(script: Script) -> None:
    began = beaten(script)
    script.pass_(10.0)
    beat(script, 15, script.now - began)
    script.pass_(1.0)
    beat(script, 15, script.now - began - 0.5)
    beat(script, 12, script.now - began - 5.0)
    script.arrive(Notify("p/x", 16, "v"))
    beat(script, 17, script.now - began, sent=1)
    script.arrive(Notify("p/y", 14, "late"))
    script.pass_(0.5)
    script.arrive(Beat(8_000, 2))  # a sign of life, and rarer from here on
    script.advance(10.5)


@scenario("not-answered", "A beat certifies nothing that was not answered, and a name takes over no earlier one.", "a")
def _not_answered(script: Script) -> None:
    began = beaten(script)
    script.do(Wanted(["b", "p/"]))
    script.pass_(5.0)
    beat(script, 15, script.now - began)
    script.look()
    script.arrive(script.subscribed(revision=12, more=True))
    beat(script, 15, script.now - began)
    script.look()
    script.arrive(script.subscribed(revision=12))
    script.look()
    script.pass_(1.0)
    beat(script, 16, script.now - began)


@scenario("doubt", "A beat certifies nothing that is in doubt.", "a", "b")
def _doubt(script: Script) -> None:
    began = beaten(script)
    script.arrive(Notify("a", 11, unknown=True))
    script.pass_(1.0)
    beat(script, 15, script.now - began, sent=1)
    script.look()
    script.arrive(script.polled_here(revision=12))
    beat(script, 16, script.now - began, sent=1)
    script.look()
    script.renewing().arrive(script.renewed(16, beat_ms=1_000, clock_ms=2_000, sent=1))
    script.pass_(1.0)
    beat(script, 17, script.now - began, sent=1)


@scenario("resumed", "A resumption is not enough for a beat to certify; a renewal that matches is.", "a")
def _resumed(script: Script) -> None:
    beaten(script)
    script.do(script.lost())
    script.greeted().arrive(script.welcome(12, resumed=True, beat_ms=1_000, clock_ms=0))
    script.pass_(1.0)
    beat(script, 15, 1.0)
    script.arrive(script.renewed(12, clock_ms=900, beat_ms=1_000))
    beat(script, 15, 1.0)


@scenario("subscribed-again", "Once the set is asked for again only the answer counts, and a beat after it.", "a")
def _again(script: Script) -> None:
    began = beaten(script)
    script.renewing().pass_(0.5)
    script.arrive(script.renewed(12, match=False, beat_ms=1_000, clock_ms=1_000))
    beat(script, 15, script.now - began)
    script.arrive(script.subscribed(revision=13))
    beat(script, 15, script.now - began)
    script.arrive(Revoked("expired", 0, 0))
    beat(script, 16, script.now - began)
    script.until(lambda: script.mode == "syncing")
    beat(script, 16, script.now - began)
    woken = script.now - began + 3_600.0  # the node's host slept
    script.arrive(script.subscribed(revision=16, clock_ms=round(woken * 1000)))
    script.pass_(1.0)
    beat(script, 17, woken + 1.0)


@scenario("pushes-lost", "A push that was lost shows in the next beat.", "a", clauses="P-REN-9")
def _lost(script: Script) -> None:
    began = beaten(script)
    script.pass_(1.0)
    beat(script, 15, script.now - began, sent=1)
    script.expect("syncing")
    script.arrive(script.subscribed(revision=15))
    beat(script, 16, script.now - began, sent=1)
    script.arrive(Beat(1_000, 2))
    script.expect("syncing")


@scenario("lineage", "A beat of another lineage moves nothing.", "a")
def _lineage(script: Script) -> None:
    began = beaten(script)
    script.pass_(1.0)
    beat(script, 15, script.now - began, lineage="l0")
    beat(script, 15, script.now - began, lineage="l2")
    script.arrive(PositionMoved(at(14, "l2")))
    beat(script, 15, script.now - began, lineage="l2")


@scenario("clocks", "A second on the node's clock is no second here, and less of one before the anchor.", "a")
def _clocks(script: Script) -> None:
    script.syncing(beat_ms=1_000, clock_ms=5_000)
    script.arrive(script.subscribed(clock_ms=5_000))
    began = script.now - 5.0
    script.pass_(1.0)
    beat(script, 15, 4.5)
    script.look()
    beat(script, 15, script.now - began)
    script.pass_(0.2)
    beat(script, 16, 1_000.0)  # the clock is broken: the anchor counts no more
    beat(script, 17, script.now - began)
    script.renewing().arrive(script.renewed(17, clock_ms=round((script.now - began) * 1000), beat_ms=1_000))
    script.pass_(0.5)
    beat(script, 17, script.now - began)


@scenario("before-the-anchor", "A beat whose clock is behind that of the anchor: no more than that is taken off.", "a")
def _before_the_anchor(script: Script) -> None:
    began = beaten(script)
    script.renewing().pass_(0.5)
    script.arrive(script.renewed(store="down", beat_ms=1_000, clock_ms=round((script.now - began - 0.5) * 1000)))
    beat(script, 15, script.now - began - 0.7)


@scenario("asleep", "After a sleep the anchor counts no more, and the end of the lease is looked at first.", "a")
def _asleep(script: Script) -> None:
    began = beaten(script)
    script.do(Jumped())
    script.pass_(2.0)
    beat(script, 15, script.now - began)
    script.arrive(script.renewed(15, clock_ms=round((script.now - began) * 1000), beat_ms=1_000))
    script.pass_(0.5)
    beat(script, 15, script.now - began)
    script.pass_(TTL_MS / 1000)
    beat(script, 16, script.now - began)
    script.expect("polling")


@scenario("anchor-of-its-connection", "An anchor ends with its connection.", "a")
def _anchor(script: Script) -> None:
    began = beaten(script)
    script.do(script.lost())
    script.greeted().arrive(script.welcome(beat_ms=1_000))
    script.arrive(script.subscribed())
    script.pass_(1.0)
    beat(script, 15, script.now - began)


@scenario(
    "silence",
    "Silence: the node is asked first, then the connection is suspect, then left.",
    "a",
    urls=(URL, OTHER),
    clauses="P-BEAT-7 B",
)
def _silence(script: Script) -> None:
    beaten(script)
    script.advance(1.9)
    script.expect("live")
    script.advance(0.5)
    script.expect("suspect")
    script.advance(1.0)
    script.answer_poll()
    script.advance(5.0)
    script.expect("polling")


@scenario("answers-instead", "A node that gives no beats is asked ever less often.", "a")
def _answers(script: Script) -> None:
    beaten(script)
    for _ in range(6):
        script.renewing().pass_(0.1)
        script.arrive(script.renewed(12, beat_ms=1_000))
    script.expect("live")
    script.arrive(script.renewed(12, match=False))
    script.renewing().arrive(script.renewed(12, match=False, beat_ms=1_000), script.subscribed(revision=12))
    script.renewing()


@scenario("held-up", "A process that was held up reads what has come before it takes the node for silent.", "a")
def _held_up(script: Script) -> None:
    began = beaten(script)
    script.pass_(5.0)
    script.do(Ticked())
    script.expect("live")
    beat(script, 15, script.now - began - 0.5)
    script.advance(1.5)
    script.arrive(script.renewed(15, beat_ms=1_000))
    script.pass_(5.0)
    script.do(Ticked())
    script.pass_(5.0)
    script.do(Ticked())  # it was excused before
    script.expect("suspect")


@scenario("slow-answers", "The patience with a node is as long as four of its round trips.", "a")
def _slow(script: Script) -> None:
    script.greeted().pass_(0.6)
    script.arrive(script.welcome(beat_ms=1_000, clock_ms=0))
    script.arrive(script.subscribed(clock_ms=0))
    script.advance(3.0)
    script.arrive(script.renewed(beat_ms=1_000, clock_ms=3_000))
    script.advance(3.0)


@scenario("none-asked-for", "A client that asks for no beats, and a node that gives none.", "a", beat_ms=None)
def _none(script: Script) -> None:
    script.live().advance(10.0)
    script.arrive(Beat(1_000, 0, at(12), 10_000))
    assert script.sent(Subscribe)
    script.advance(2.0)


@scenario("tombstones", "A beat makes a tombstone superfluous.", "p/")
def _tombstones(script: Script) -> None:
    began = beaten(script)
    script.arrive(Notify("p/x", 11, 1), Notify("p/x", 12, deleted=True))
    script.look()
    script.pass_(0.5)
    beat(script, 15, script.now - began, sent=2)


@scenario("fresh", "An application that wants to know now has the lease renewed, once, or polls.", "a")
def _fresh(script: Script) -> None:
    beaten(script)
    script.pass_(0.5)
    script.do(FreshWanted())
    assert len(script.sent(Renew)) == 1
    script.do(FreshWanted())
    assert len(script.sent(Renew)) == 1, "one is on its way"
    script.arrive(script.renewed(12, beat_ms=1_000, clock_ms=500))
    script.look()
    script.do(script.lost())
    polls = len(script.all(SendPoll))
    script.do(FreshWanted())
    assert len(script.all(SendPoll)) == polls + 1
    script.do(FreshWanted())
    assert len(script.all(SendPoll)) == polls + 1, "one is on its way"
