"""Knowledge that a client may rely on: versions, certificates, sweeps, doubts, damage, denials (P-KNOW)."""

from __future__ import annotations

from softstate.client.machine.events import Narrowing, Unwanted, Wanted
from softstate.errors import Compacted
from softstate.testing.conformance.client.script import Scenarios, Script, at, gone, set_to
from softstate.wire.messages import DeniedNames, Notify, Poll, Revoked, Subscribe

scenario = Scenarios("knowledge")


@scenario("versions", "A change is applied only if it is newer, and no certificate covers it.", "a", "p/")
def _versions(script: Script) -> None:
    script.live(set_to("a", 4), set_to("p/x", 7))
    script.arrive(Notify("a", 11, 1), Notify("a", 11, 2), Notify("a", 9, 3), Notify("p/new", 10, "covered"))
    script.arrive(Notify("p/new", 12, "news"), Notify("stranger", 13, 1), Notify("p/", 14, 1), Notify("", 15, 1))
    script.arrive(Notify("p/x", 16, None), Notify("p/x", 0, 1))
    script.look("a", "p/", "/", "stranger")
    script.renewing().arrive(script.renewed(16, sent=10))
    script.expect("live")


@scenario("tombstones", "A deletion is remembered until certificates make that superfluous.", "a", "p/", clauses="S8")
def _tombstones(script: Script) -> None:
    script.live(set_to("a", 4), set_to("p/x", 7), set_to("p/y", 8))
    script.arrive(Notify("p/x", 12, deleted=True), Notify("a", 13, deleted=True), Notify("p/x", 11, "late"))
    script.look()
    script.renewing().arrive(script.renewed(14, sent=3))
    script.look()
    script.arrive(Notify("p/x", 12, "late"), Notify("p/x", 15, "again"))
    script.do(script.lost())
    script.pass_(60.0)
    script.greeted()  # says the version of the tombstone


@scenario(
    "sweep", "A full answer deletes what it does not list; not what was certified or changed later.", "p/", "p/q/"
)
def _sweep(script: Script) -> None:
    script.live(set_to("p/a", 3), set_to("p/b", 4), set_to("p/q/c", 5))
    script.renewing().arrive(script.renewed(match=False), Notify("p/d", 13, "new"))
    script.arrive(script.subscribed(set_to("p/b", 12), compacted=["p/"], revision=12, more=False))
    script.look()
    script.arrive(Notify("p/a", 14, "again"))
    script.do(script.lost())
    script.pass_(60.0)
    script.greeted()


@scenario("swept-topic", "A topic that was swept is asked for from nothing.", "a", "b")
def _swept(script: Script) -> None:
    script.live(set_to("a", 4), set_to("b", 5))
    script.do(Unwanted(["a"]), Wanted(["a"]))
    script.arrive(script.subscribed(set_to("a", 4)))
    script.arrive(Revoked("expired"))
    script.until(lambda: script.mode == "syncing")
    script.arrive(script.error("compacted", Subscribe))
    script.until(lambda: len(script.sent(Subscribe)) > 3)
    script.arrive(script.subscribed(revision=15))
    script.arrive(Notify("a", 16, "again"))
    script.do(script.lost())
    script.pass_(60.0)
    script.greeted()


@scenario("pages", "Pages are applied as they come, and certify with the last one.", "p/", clauses="P-KNOW-9")
def _pages(script: Script) -> None:
    script.syncing().arrive(script.subscribed(set_to("p/a", 3), more=True))
    script.pass_(1.0)
    script.arrive(script.subscribed(set_to("p/b", 4), gone("p/c", 6), revision=12, lag_ms=500))
    script.look()


@scenario("compacted", "The history since is gone: all is listed again, and what is not in it is deleted.", "p/")
def _compacted(script: Script) -> None:
    script.live(set_to("p/a", 3)).arrive(Revoked("expired"))
    script.until(lambda: script.mode == "syncing")
    script.arrive(script.error("compacted", Subscribe))
    script.advance(1.0)
    script.arrive(script.subscribed(set_to("p/b", 12), revision=15))
    script.look()


@scenario("compacted-and-dropped", "A subscribe is answered `compacted` some of whose names have left.", "p/", "q/")
def _compacted_and_dropped(script: Script) -> None:
    script.syncing().do(Unwanted(["q/"]))
    script.arrive(script.error("compacted", Subscribe))
    script.until(lambda: len(script.sent(Subscribe)) > 1)


@scenario("compacted-poll", "A poll is told that the history since is gone.", "p/", push=False)
def _compacted_poll(script: Script) -> None:
    script.open().do(script.polled(set_to("p/a", 3)))
    script.until(lambda: script.polling)
    script.do(script.poll_failed(Compacted("too old")))
    script.until(lambda: script.polling)
    script.do(script.polled(set_to("p/b", 12), revision=12))
    script.until(lambda: script.polling)
    script.do(script.polled(set_to("p/c", 13), revision=14, compacted=["p/"]))


@scenario(
    "doubt",
    "A change may have been missed: polled on the connection; only that answer certifies.",
    "a",
    "b",
    clauses="P-KNOW-7",
)
def _doubt(script: Script) -> None:
    script.live().renewing().arrive(Notify("a", 12, unknown=True), Notify("stranger", 13, unknown=True))
    script.arrive(script.renewed(13, sent=2))
    script.look()
    script.arrive(script.polled_here(set_to("a", 12), revision=13))
    script.arrive(Notify("b", 14, unknown=True))
    script.arrive(script.polled_here(revision=14, denied=["b"]))
    script.arrive(Notify("a", 15, unknown=True))
    script.arrive(script.error("unavailable", Poll, retry_ms=1_000))
    script.expect("syncing")
    script.advance(1.6)
    script.arrive(Notify("a", 16, unknown=True))
    script.arrive(script.subscribed(set_to("a", 16), revision=16))
    script.look()
    script.arrive(script.polled_here(revision=16))


@scenario("doubt-while-suspect", "A doubt while the connection is suspect, and one in a resumed session.", "a")
def _doubt_while_suspect(script: Script) -> None:
    script.suspect().arrive(Notify("a", 12, unknown=True))
    script.arrive(script.renewed(12, sent=1), script.polled_here(set_to("a", 12), revision=12))
    script.arrive(Notify("a", 13, unknown=True))
    script.do(script.lost())
    script.greeted().arrive(script.welcome(14, resumed=True))
    script.arrive(Notify("a", 13, "v13"), script.renewed(14, sent=1))
    script.look()


@scenario(
    "unreadable",
    "Damaged records: told once, left out of ages, healed by the next publish.",
    "a",
    "p/",
    clauses="P-KNOW-11 S18",
)
def _unreadable(script: Script) -> None:
    script.live(set_to("a", 3), set_to("p/x", 4), set_to("p/y", 5))
    for _ in range(2):
        script.arrive(Notify("p/x", 11, unknown=True))
        script.arrive(script.polled_here(revision=11, unreadable=["p/x"]))
    script.arrive(Notify("a", 12, unknown=True))
    script.arrive(script.polled_here(revision=12, unreadable=["a", "stranger"]))
    script.pass_(2.0)
    script.look("a", "p/", "p/x", "/")
    script.arrive(Notify("p/x", 10, "late"), Notify("a", 13, "healed"))
    script.look()
    script.renewing().arrive(script.renewed(14, sent=5))
    script.look()
    script.arrive(Notify("p/x", 15, deleted=True))
    script.look()


@scenario(
    "unreadable-listed",
    "A full answer does not sweep what it calls unreadable; the next one that is silent does.",
    "p/",
    push=False,
)
def _unreadable_listed(script: Script) -> None:
    script.open().do(script.polled(set_to("p/x", 4), set_to("p/y", 5)))
    script.until(lambda: script.polling)
    script.do(script.polled(set_to("p/y", 5), revision=12, compacted=["p/"], unreadable=["p/x", "p/"]))
    script.look()
    script.until(lambda: script.polling)
    script.do(script.polled(set_to("p/z", 8), revision=12, more=True, cursor="c1", unreadable=["p/z"]))
    script.do(script.polled(set_to("p/x", 4), revision=13, compacted=["p/"]))
    script.look()
    script.do(Unwanted(["p/"]))
    script.look()


@scenario("unreadable-and-reset", "Damage is forgotten with its name, and in another history.", "a", "p/")
def _unreadable_and_reset(script: Script) -> None:
    script.syncing().arrive(script.subscribed(revision=10, unreadable=["a", "p/x"]))
    script.expect("live")
    script.do(Unwanted(["a"]))
    script.look("a", "p/")
    script.arrive(script.error("rewound", position=at(2, "l2")))
    script.look("a", "p/")


@scenario("names", "Names come and go; what nothing covers any more is forgotten.", "a", "p/", "p/q/")
def _names(script: Script) -> None:
    script.live(set_to("a", 3), set_to("p/x", 4), set_to("p/q/y", 5))
    script.do(Unwanted(["p/"]))
    script.look("a", "p/", "p/q/", "/")
    script.do(Wanted(["p/", "a"]))
    script.arrive(script.subscribed(set_to("p/x", 4), revision=12))
    script.do(Unwanted(["p/q/"]))
    script.look("p/q/", "p/")
    script.renewing()


@scenario("narrowed", "A denied prefix is replaced by what may be read below it, if the application wants that.", "p/")
def _narrowed(script: Script) -> None:
    script.live().do(Narrowing(frozenset({"p/"})))
    script.arrive(Notify("p/x/1", 13, 1), Notify("p/y", 14, 1))
    script.arrive(DeniedNames(["p/"], {"p/": ["p/x/", "p/z"]}))
    script.look("p/x/", "p/z", "p/")
    script.arrive(script.subscribed(revision=14), DeniedNames(["p/x/"], {"p/x/": ["p/x/2"]}))
    script.arrive(script.subscribed(revision=14, denied=["p/x/2"]))
    script.do(Wanted(["q/"]))
    script.arrive(script.subscribed(denied=["q/"], narrow={"q/": ["q/x/"]}))
    script.look()


@scenario(
    "names-lost",
    "Names are taken away while a renewal is on its way, which is no repair.",
    "a",
    "b/",
    clauses="P-AUTH-5 S17",
)
def _names_lost(script: Script) -> None:
    script.live().renewing().arrive(DeniedNames(["b/"], {"b/": ["b/c"]}))
    script.arrive(script.renewed(match=False))
    script.arrive(script.renewed())
    script.expect("live")


@scenario("denied-polls", "Polls tell of names that may not be read.", "a", "b", "p/", push=False)
def _denied_polls(script: Script) -> None:
    script.open().do(script.polled(denied=["b", "p/"], narrow={"p/": ["p/a/"]}))
    script.look()


@scenario("endless", "An answer whose pages bring nothing new comes to no end: the connection is left.", "p/")
def _endless(script: Script) -> None:
    script.syncing().arrive(script.subscribed(set_to("p/a", 5), more=True))
    script.repeat(script.subscribed(set_to("p/a", 5), more=True), 1_000)
    script.arrive(script.subscribed(set_to("p/a", 5), more=True))
    script.expect("polling")


@scenario("idle-pages", "Names are polled beside an answer whose pages bring nothing.", "p/")
def _idle_pages(script: Script) -> None:
    script.syncing().arrive(script.subscribed(set_to("p/1", 1), more=True))
    for _ in range(8):
        script.advance(2.5)
        script.arrive(script.subscribed(set_to("p/1", 1), more=True))
    script.advance(4.0)
    script.do(script.polled(set_to("p/1", 1)))
    script.arrive(script.subscribed(set_to("p/2", 2)))
    script.expect("live")


@scenario(
    "healed-unchanged",
    "A topic that is named as unreadable no more is readable, also if nothing has changed.",
    "a",
    "b",
)
def _healed(script: Script) -> None:
    script.live(set_to("a", 4), set_to("b", 5))
    for damaged in (["a"], []):
        script.arrive(Notify("a", 11, unknown=True))
        script.arrive(script.polled_here(revision=12 + (not damaged), unreadable=damaged))
        script.look()


@scenario(
    "news-between-idle-pages", "Pages that bring something restart the time for which others may bring nothing.", "p/"
)
def _news_between(script: Script) -> None:
    script.syncing()
    for page in range(8):
        script.arrive(script.subscribed(set_to("p/1", 1 + (page > 3)), more=True))
        script.advance(4.5)
    script.arrive(script.subscribed())
    script.expect("live")
