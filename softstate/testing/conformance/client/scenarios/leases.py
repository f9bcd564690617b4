"""Leases: subscribing, renewing, resuming, and the many ways in which a lease ends."""

from __future__ import annotations

from softstate.client.machine.events import Connected, Jumped, Unwanted, Wanted
from softstate.client.machine.push_path import BRIEF_MIN, RENEWALS_MAX
from softstate.testing.conformance.client.script import OTHER, TIMEOUT_MS, URL, Scenarios, Script, set_to
from softstate.wire.messages import Limits, Notify, RecoverAdvice, Renew, Revoked, ServerBye, Subscribe

scenario = Scenarios("lease")

TIMEOUT_S = TIMEOUT_MS / 1000
FEW = Limits(3, 65_536, 1_048_576, 1_024, 100_000, 20_000, 1_024, 4_096, 16_384)
WEEK_MS = 7 * 24 * 3_600_000


@scenario(
    "open",
    "A client connects, subscribes behind hello, and is live once that is answered; changes are pushed.",
    "a",
    "p/",
    clauses="P-CLI-16 P-KNOW-3",
)
def _open(script: Script) -> None:
    script.live(set_to("a", 4), set_to("p/x", 7), revision=10)
    script.arrive(Notify("p/x", 11, "new"), Notify("p/y", 12, {"n": 1}), Notify("a", 13, deleted=True))
    script.arrive(Notify("a", 12, "late"))  # older than what is known


@scenario("no-names", "Without names a client is live with its welcome, and renews an empty set.")
def _no_names(script: Script) -> None:
    script.live().renewing().arrive(script.renewed(match=False))
    script.arrive(script.subscribed())
    script.do(Wanted(["a"]))
    script.arrive(script.subscribed())
    script.do(Unwanted(["a", "stranger"]))


@scenario("renew", "Renewals extend the lease, and certify what it holds as of their sending.", "a", clauses="P-REN-2")
def _renew(script: Script) -> None:
    script.live(set_to("a", 4)).renewing().advance(2.0)
    script.arrive(script.renewed(15, lag_ms=500))
    script.renewing().do(Wanted(["b"]))  # certified by its own answer alone
    script.arrive(script.renewed(15), script.subscribed(revision=15))
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
    script.greeted().pass_(1.0)
    script.arrive(script.welcome(12, resumed=True))
    script.arrive(Notify("a", 11, "v11"), script.renewed(12, sent=1))
    script.expect("live")
    script.do(script.lost())
    script.greeted().arrive(script.welcome(13, resumed=True), script.renewed(13, store="down"))
    script.expect("syncing")
    script.advance(0.6)
    script.arrive(script.error("unavailable", Renew))
    script.renewing().arrive(script.renewed(13))
    script.expect("live")


@scenario(
    "resumed-from-the-lowest",
    "A resumed session is replayed from the lowest revision that is certified, not from the client's position.",
    "a",
    clauses="P-RES-4",
)
def _lowest(script: Script) -> None:
    script.live(set_to("a", 4)).do(Wanted(["b"]))
    script.arrive(script.subscribed(set_to("b", 18), revision=20))
    script.do(script.lost())
    script.greeted().arrive(script.welcome(22, resumed=True), script.renewed(22))


@scenario("set-changed-on-the-way", "What changes between hello and welcome is put right behind the welcome.", "a", "b")
def _changed(script: Script) -> None:
    script.greeted().do(Wanted(["c"]), Unwanted(["a"]), Wanted(["a"]), Unwanted(["b"]))
    script.arrive(script.welcome())
    script.arrive(script.subscribed(id="subscribe-1"), script.subscribed())
    script.expect("live")
    script.do(script.lost())
    script.greeted().do(Wanted(["d"]))
    script.arrive(script.welcome(11, resumed=True), script.subscribed(revision=11))
    script.do(script.lost())
    script.greeted().do(Unwanted(["d"]), Wanted(["d"]))  # the same set again, but for its values
    script.arrive(script.welcome(11, resumed=True))


@scenario(
    "not-resumed", "A session that is not resumed is subscribed from what is known; its renewal says nothing.", "a"
)
def _not_resumed(script: Script) -> None:
    script.live(set_to("a", 4)).do(script.lost())
    script.greeted().arrive(script.welcome(12))
    script.arrive(script.renewed(12, match=False))
    script.arrive(script.subscribed(revision=12))
    script.do(script.lost())
    script.greeted().arrive(script.welcome(12))
    script.arrive(script.error("no_lease", Renew))
    script.arrive(script.subscribed(revision=12))
    script.expect("live")
    script.do(script.lost(4_001, "replaced"))  # which drops the session
    script.greeted()


@scenario("farewell", "A bye is followed by a reconnect in its spread, after the wait that it asks for.", "a")
def _bye(script: Script) -> None:
    script.live(set_to("a", 4)).arrive(ServerBye("draining", 4_000, 1_000))
    script.advance(3.9)
    script.advance(1.2)
    script.live(revision=12).arrive(ServerBye("replaced", 0, 0))
    script.greeted()  # without the session
    script.arrive(ServerBye("draining", 100, 100))
    script.syncing().arrive(ServerBye("draining", 0, WEEK_MS))  # an hour, at most
    script.greeted().arrive(ServerBye("idle", 0, WEEK_MS))


@scenario("farewell-while-suspect", "A bye on a connection that is suspect, and one while a lease is awaited.", "a")
def _bye_while_suspect(script: Script) -> None:
    script.suspect().arrive(ServerBye("idle", 0, 0))
    script.live().arrive(Revoked("expired", 30_000, 0), ServerBye("draining", 1_000, 1_000))
    script.expect("polling")


@scenario("mismatch", "Digests differ, pushes are missing, the lease is gone: the set is subscribed again.", "a", "p/")
def _mismatch(script: Script) -> None:
    script.live(set_to("a", 4)).renewing().arrive(script.renewed(12, match=False))
    script.expect("syncing")
    script.advance(1.0)
    script.do(script.polled(revision=12))
    script.arrive(script.subscribed(set_to("a", 11), revision=12))
    script.renewing().arrive(script.renewed(12, sent=3))
    script.arrive(script.subscribed(revision=12))
    script.renewing().arrive(script.renewed(12, sent=3))
    script.expect("live")
    script.renewing().arrive(script.error("no_lease", Renew))
    script.arrive(script.subscribed(revision=12))
    script.expect("live")


@scenario("mismatch-while-suspect", "The renewal that decides about a suspect tells of a difference.", "a")
def _mismatch_while_suspect(script: Script) -> None:
    script.suspect().arrive(script.renewed(12, match=False))
    script.arrive(script.renewed(12, match=False))  # of an earlier lease
    script.arrive(script.error("no_lease"), script.subscribed(revision=12))
    script.expect("live")
    script.do(Jumped())
    script.arrive(script.error("no_lease", Renew))
    script.arrive(script.error("rewound", Subscribe))  # which names no position


@scenario("mismatch-while-syncing", "A resumed session turns out to have lost names, or its lease.", "a")
def _mismatch_while_syncing(script: Script) -> None:
    script.live().do(script.lost())
    script.syncing(12, resumed=True).arrive(script.renewed(12, match=False))
    script.arrive(script.subscribed(revision=12))
    script.do(script.lost())
    script.syncing(12, resumed=True).arrive(script.error("no_lease", Renew))
    script.arrive(script.subscribed(revision=12))
    script.expect("live")


@scenario("unanswered", "A renewal is answered ahead of a subscribe that was sent before it: that was lost.", "a")
def _unanswered(script: Script) -> None:
    script.live().do(Wanted(["b"]), Jumped())
    script.arrive(script.renewed(12))
    script.expect("syncing")
    script.arrive(script.subscribed(revision=12))


@scenario("store-down", "The store of the node is down: nothing is certified, and the mode stays.", "a")
def _store_down(script: Script) -> None:
    script.suspect().arrive(script.renewed(store="down"))
    script.expect("suspect")
    script.do(script.polled())
    script.advance(1.0)
    script.arrive(script.error("unavailable"))  # for no request


@scenario(
    "missed-with-another", "A silent node is not the first to be polled if there is another.", "a", urls=(URL, OTHER)
)
def _missed_with_another(script: Script) -> None:
    script.suspect().do(script.poll_failed())
    script.advance(1.0)
    script.do(script.polled())


@scenario(
    "expired", "A lease ends by the client's reckoning, before the node's: in each mode.", "a", clauses="S6 P-REN-6"
)
def _expired(script: Script) -> None:
    script.syncing(ttl_ms=1_000).advance(0.99)
    script.expect("polling")
    script.live(ttl_ms=4_000).advance(4.0)
    script.expect("polling")
    script.live(ttl_ms=4_000).do(Jumped())
    script.advance(4.0)
    script.expect("polling")


@scenario("timed-out", "An answer to a subscribe does not come, nor do pages after the first.", "p/", clauses="P-CLI-2")
def _timed_out(script: Script) -> None:
    script.greeted().advance(TIMEOUT_S - 0.5)
    script.arrive(script.welcome())  # which begins the time for what is behind it
    script.advance(TIMEOUT_S - 0.5)
    script.expect("syncing")
    for page in range(3):
        script.arrive(script.subscribed(set_to(f"p/{page}", page + 1), more=True))
        script.advance(TIMEOUT_S - 0.1)
    script.advance(0.2)
    script.expect("polling")
    script.answer_poll()
    script.syncing(revision=10).do(script.lost(1_006))
    script.expect("polling")


@scenario("later-answers", "Answers to later requests do not keep a lost renewal waiting.", "a", clauses="B")
def _later_answers(script: Script) -> None:
    script.live().renewing().advance(TIMEOUT_S / 2)
    script.do(Wanted(["b"]))
    script.arrive(script.subscribed(revision=12))
    script.advance(TIMEOUT_S / 2)
    script.expect("suspect")
    script.do(Wanted(["c"]))
    script.arrive(script.subscribed(revision=12))  # all is answered, which says nothing of the set
    script.expect("suspect")


@scenario(
    "revoked", "A lease is revoked: the connection stays, and another lease begins on it.", "a", clauses="P-CONN-8"
)
def _revoked(script: Script) -> None:
    script.live(set_to("a", 4)).renewing()
    script.arrive(Revoked("slow_consumer", 2_000, 1_000))
    script.arrive(Revoked("expired"), script.renewed(12), Notify("a", 11, "late"))
    script.advance(3.0)
    script.arrive(script.subscribed(revision=12))
    script.expect("live")
    script.do(Jumped())
    script.arrive(Revoked("expired", 0, 0))
    script.advance(0.01)
    script.arrive(Revoked("expired", WEEK_MS, 0))  # while it is syncing; an hour, at most
    script.expect("polling")


@scenario("brief", "Leases that end at once follow each other ever more slowly; one that lasted ends that.", "a")
def _brief(script: Script) -> None:
    script.live()
    for _ in range(BRIEF_MIN + 1):
        script.arrive(Revoked("expired", 0, 0))
        script.until(lambda: script.mode == "syncing")
        script.arrive(script.subscribed())
        script.expect("live")
    script.advance(6.0)
    script.arrive(Revoked("expired", 0, 0))
    script.advance(0.0)
    script.expect("syncing")
    script.do(script.lost())
    script.live().do(script.lost())
    script.live().do(script.lost())
    script.greeted()


@scenario("retry", "A subscribe that time may mend is sent again later, and renewed meanwhile.", "a", clauses="P-CLI-8")
def _retry(script: Script) -> None:
    script.syncing().arrive(script.error("overloaded", Subscribe))
    script.until(lambda: len(script.sent(Subscribe)) > 1)
    script.arrive(script.error("overloaded", Subscribe, retry_ms=300))
    script.expect("syncing")
    script.do(Wanted(["b"]))
    script.advance(3.2)
    script.arrive(script.subscribed())
    script.expect("live")
    script.renewing().do(Wanted(["c"]))
    script.arrive(script.error("unavailable", Subscribe, retry_ms=1_000))
    script.expect("syncing")
    script.arrive(script.renewed(match=False))
    script.arrive(script.error("no_lease", Renew))
    script.advance(1.6)
    script.arrive(script.subscribed(revision=12))
    script.expect("live")
    script.do(Wanted(["d"]), Jumped())
    script.arrive(script.error("behind", Subscribe))
    script.expect("syncing")
    script.advance(1.0)


@scenario(
    "turned-down", "A subscribe behind hello above limits not yet known is asked again, in smaller ones.", *"abcde"
)
def _turned_down(script: Script) -> None:
    script.greeted().arrive(script.welcome(limits=FEW))
    script.arrive(script.error("too_large", Subscribe))
    script.arrive(script.error("invalid", Subscribe))  # now it is the names that are refused
    script.do(Wanted(["x", "y", "z", "w"]))
    script.arrive(script.subscribed())
    script.do(script.lost())
    script.do(Wanted(["v"]))
    script.greeted()


@scenario("denied", "Names that may not be read leave the set; a renewal on its way expects the difference.", "a", "b")
def _denied(script: Script) -> None:
    script.syncing().arrive(script.subscribed(denied=["b"]))
    script.do(Wanted(["c"]), Jumped())
    script.arrive(script.subscribed(denied=["c"]), script.renewed(match=False))
    script.arrive(script.renewed())
    script.expect("live")
    script.do(Wanted(["d"]), Jumped())
    script.arrive(script.error("something_new", Subscribe), script.renewed(match=False))
    script.arrive(script.renewed())
    script.expect("live")


@scenario(
    "portions",
    "A set of 1,025 names: 1,024 go behind hello, in two requests, the first of which replaces.",
    *(f"{n:x}" for n in range(1_025)),
)
def _portions(script: Script) -> None:
    script.greeted().arrive(script.welcome())
    for number in (1, 2, 3):
        script.arrive(script.subscribed(id=f"subscribe-{number}"))
    script.expect("live")


@scenario(
    "portions-as-told",
    "As many names go early as the URL has told before, and others on another URL.",
    *"abcde",
    urls=(URL, OTHER),
    beat_ms=None,
)
def _portions_as_told(script: Script) -> None:
    script.syncing(limits=FEW).do(script.lost())
    script.do(Wanted(["f", "g"]))
    script.greeted().do(script.lost(4_000))
    script.greeted()


@scenario("portions-again", "A set above the limits of one message is subscribed again in several.", *"abcdef")
def _portions_again(script: Script) -> None:
    small = Limits(100, 65_536, 1_200, 1_024, 100_000, 600_000, 1_024, 4_096, 19)
    script.live(limits=small).renewing().arrive(script.renewed(match=False))
    script.arrive(script.subscribed(id="subscribe-3"), script.subscribed(id="subscribe-4"))
    script.expect("live")
    script.do(Unwanted(list("abcd")))


@scenario("welcomed-once", "Messages before the handshake is done, before the welcome, and a second welcome.", "a")
def _welcomed_once(script: Script) -> None:
    script.open().arrive(script.welcome())
    script.greeted().arrive(Notify("a", 3, 1), script.subscribed())
    script.arrive(script.welcome(), script.subscribed())
    script.arrive(script.welcome(12), script.welcome(12, resumed=True), script.welcome(12, reset=True))
    script.do(Connected(script.conn))
    script.expect("live")
    script.do(Jumped())
    script.arrive(script.welcome(12), script.welcome(12, resumed=True), script.welcome(12, reset=True))
    script.do(script.lost())
    script.syncing().arrive(script.welcome(12), script.welcome(12, resumed=True), script.welcome(12, reset=True))


@scenario(
    "renewals-unanswered", "Of renewals that are never answered some are forgotten; late answers of others count.", "a"
)
def _renewals_unanswered(script: Script) -> None:
    script.live()
    for _ in range(RENEWALS_MAX + 1):
        script.renewing().do(Jumped())
        script.arrive(script.renewed())
    script.expect("live")
    script.arrive(script.renewed(12, id="renew-2"))
    script.arrive(script.renewed(13, id=f"renew-{2 * RENEWALS_MAX}"))


@scenario("renewal-refused-late", "A renewal is refused while a failed subscribe waits to be sent again.", "a")
def _renewal_refused_late(script: Script) -> None:
    script.live().renewing().do(Wanted(["b"]))
    script.arrive(script.error("unavailable", Subscribe, retry_ms=1_000))
    script.arrive(script.error("no_lease", Renew))
    script.expect("syncing")
    script.advance(1.5)


@scenario("hurry", "A node that advises no waits at all is not asked faster than a client's own least.", "a")
def _hurry(script: Script) -> None:
    script.live(renew_ms=0, timeout_ms=0, recover=RecoverAdvice(0, 0, 0)).renewing().advance(0.09)
    script.expect("live")
    script.advance(0.02)
    script.expect("suspect")
    script.advance(0.2)


@scenario("unsubscribed", "Names that left may have left the lease or not: the session is not resumed.", "a", "b")
def _unsubscribed(script: Script) -> None:
    script.live().do(Unwanted(["b"]))
    script.do(script.lost())
    script.greeted().arrive(script.welcome(11))
    script.arrive(script.subscribed(revision=11))
    script.do(Wanted(["c"]))
    script.do(script.lost(4_000))
    script.greeted()


@scenario("retry-forgets", "A subscribe failed: answers to others that were in flight with it count no more.", "a")
def _retry_forgets(script: Script) -> None:
    script.live().do(Wanted(["b"]), Wanted(["c"]))
    script.arrive(script.error("unavailable", Subscribe, retry_ms=1_000))
    script.arrive(script.subscribed(id="subscribe-2", revision=12))
    script.expect("syncing")
