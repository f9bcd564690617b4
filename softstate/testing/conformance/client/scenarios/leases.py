"""Leases: subscribing, renewing, resuming, and the many ways in which a lease ends."""

from __future__ import annotations

from softstate.testing.conformance.client.script import Scenarios, Script, set_to
from softstate.wire.messages import Notify, Renew

scenario = Scenarios("lease")


@scenario(
    "open",
    "A client connects, subscribes behind hello, and is live once that is answered; changes are pushed.",
    "a",
    "p/",
    clauses="P-CLI-16 P-KNOW-3",
)
def _open(script: Script) -> None:
    script.live(set_to("a", 4), set_to("p/x", 7), revision=10)
    script.look("a", "p/", "p/x")
    script.arrive(Notify("p/x", 11, "new"), Notify("p/y", 12, {"n": 1}), Notify("a", 13, deleted=True))
    script.arrive(Notify("a", 12, "late"))  # older than what is known


@scenario("renew", "Renewals extend the lease, and certify what it holds as of their sending.", "a", clauses="P-REN-2")
def _renew(script: Script) -> None:
    script.live(set_to("a", 4)).renewing().advance(2.0)
    script.arrive(script.renewed(15, lag_ms=500))
    script.renewing().arrive(script.renewed(15))
    script.renewing().arrive(script.renewed(16, store="down"))
    script.renewing().arrive(script.error("unavailable", Renew))


@scenario(
    "resumed",
    "After a cut the session is resumed, and a renewal behind hello certifies what the replay has brought.",
    "a",
    clauses="P-RES-2 P-RES-4",
)
def _resumed(script: Script) -> None:
    script.live(set_to("a", 4)).do(script.lost())
    script.greeted().arrive(script.welcome(12, resumed=True))
    script.arrive(Notify("a", 11, "v11"), script.renewed(12, sent=1))
    script.expect("live")
    script.do(script.lost())
    script.greeted().arrive(script.welcome(13, resumed=True), script.renewed(13, store="down"))
    script.expect("syncing")
    script.advance(0.6)
    script.arrive(script.renewed(13))
    script.expect("live")
