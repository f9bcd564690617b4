"""Rewound stores: resets, and answers that may be of another history (P-REW)."""

from __future__ import annotations

from softstate.client.machine.events import Wanted
from softstate.errors import Rewound
from softstate.testing.conformance.client.script import Scenarios, Script, at, set_to
from softstate.wire.messages import Error, Notify, PositionMoved, Subscribe

scenario = Scenarios("history")


def rewound(revision: int, lineage: str = "l2") -> Rewound:
    """Return the error that a node answers."""
    return Rewound("rewound", position=at(revision, lineage))


@scenario(
    "welcome",
    "A welcome resets: what was sent with hello is void, and all is subscribed from nothing.",
    "a",
    "b",
    clauses="P-REW-5 S9",
)
def _welcome(script: Script) -> None:
    script.live(set_to("a", 8), set_to("b", 9)).do(script.lost())
    script.pass_(60.0)
    script.greeted().arrive(script.welcome(reset=True, position=at(3, "l2")))
    script.look()
    script.arrive(script.subscribed(id=script.sent(Subscribe)[-2].id, position=at(3, "l2")))
    script.arrive(Error("rewound", "void", script.sent(Subscribe)[-2].id, position=at(3, "l2")))
    script.arrive(script.subscribed(set_to("a", 2), position=at(4, "l2")))
    script.expect("live")
    script.look()


@scenario("welcome-of-a-resumption", "A welcome resets a client that asked to resume.", "a")
def _resumption(script: Script) -> None:
    script.live(set_to("a", 4)).do(script.lost())
    script.greeted().arrive(script.welcome(reset=True, position=at(3, "l2")))
    script.arrive(script.renewed(match=False, position=at(3, "l2")), PositionMoved(at(4, "l3")))
    script.arrive(script.subscribed(set_to("a", 2), position=at(4, "l3")))
    script.expect("live")


@scenario("connection", "A request on the connection is answered `rewound`: reset, leave, poll, come back.", "a", "b")
def _connection(script: Script) -> None:
    script.live(set_to("a", 8), set_to("b", 9)).arrive(script.error("rewound", position=at(3, "l2")))
    script.expect("polling")
    script.do(script.polled(set_to("a", 2), position=at(4, "l2")))
    script.look()
    script.greeted().arrive(script.error("rewound", position=at(2, "l3")))
    script.greeted().do(script.lost())
    script.syncing(position=at(5, "l3")).arrive(script.error("rewound", position=at(1, "l4")))
    script.expect("polling")


@scenario("connecting", "A first hello, and a suspect's renewal, are answered `rewound`.", "a")
def _connecting(script: Script) -> None:
    script.greeted().arrive(script.error("rewound", position=at(3, "l2")))
    script.expect("polling")
    script.do(script.polled(position=at(4, "l2")))


@scenario("suspect", "A poll beside a suspect connection is answered `rewound`.", "a")
def _suspect(script: Script) -> None:
    script.suspect().do(script.poll_failed(rewound(2)))
    script.expect("polling")
    script.do(script.polled(set_to("a", 1), position=at(2, "l2")))


@scenario(
    "polls",
    "Polls are answered `rewound`: each reset polls again, ever more slowly while no age comes.",
    "a",
    push=False,
    clauses="P-CLI-4",
)
def _polls(script: Script) -> None:
    script.open().do(script.polled(set_to("a", 8)))
    for revision in range(3, 6):
        script.until(lambda: script.polling)
        script.do(script.poll_failed(rewound(revision, f"l{revision}")))
        script.do(script.polled(set_to("a", 2), position=at(revision, f"l{revision}")))
    for revision in range(6, 10):
        script.until(lambda: script.polling)
        script.do(script.poll_failed(rewound(revision, f"l{revision}")))
    script.until(lambda: script.polling)
    script.do(script.poll_failed(rewound(10, "l10")))
    script.until(lambda: script.polling)
    script.do(Wanted(["b"]), script.polled(position=at(10, "l10")))  # `b` has no age yet
    script.do(script.poll_failed(rewound(11, "l11")))
    script.until(lambda: script.polling)
    script.do(script.poll_failed(Rewound("rewound, and no position")))


@scenario("offline", "Polls of a client that was offline are answered `rewound`, or are of another history.", "a")
def _offline(script: Script) -> None:
    script.offline()
    script.until(lambda: script.polling or script.connected)
    if script.connected:
        script.do(script.refused())
        script.until(lambda: script.polling)
    script.do(script.poll_failed(rewound(3)))
    script.expect("polling")


@scenario("offline-welcome", "A client that was offline is reset by its welcome, or met with `rewound`.", "a")
def _offline_welcome(script: Script) -> None:
    script.live(set_to("a", 8)).do(script.lost())
    _fail_until_offline(script)
    _connect(script)
    script.greeted().arrive(script.welcome(reset=True, position=at(3, "l2")))
    script.expect("syncing")
    script.do(script.lost())
    _fail_until_offline(script)
    _connect(script)
    script.greeted().arrive(script.error("rewound", position=at(1, "l3")))
    script.expect("polling")


def _fail_until_offline(script: Script) -> None:
    """Fail every attempt until the client is offline."""
    while script.mode != "offline":
        script.fail_next()


def _connect(script: Script) -> None:
    """Fail polls until a connection is tried."""
    while True:
        script.until(lambda: script.polling or script.connected)
        if script.connected:
            return
        script.do(script.poll_failed())


@scenario("connecting-welcome", "A first welcome may reset, though nothing was known.", "a")
def _connecting_welcome(script: Script) -> None:
    script.greeted().arrive(script.welcome(reset=True, position=at(3, "l2")))
    script.expect("syncing")


@scenario(
    "mismatch",
    "A poll moved the client to another lineage: what the connection says is not used, it is left.",
    "a",
    clauses="P-REW-7",
)
def _mismatch(script: Script) -> None:
    script.suspect().do(script.polled(position=at(12, "l2")))
    script.arrive(Notify("a", 11, "other history"))
    script.expect("polling")
    script.advance(3.0)


@scenario("mismatch-while-syncing", "A subscribe is answered in another history than a poll brought.", "a")
def _mismatch_while_syncing(script: Script) -> None:
    script.syncing().arrive(script.error("unavailable", Subscribe, retry_ms=8_000))
    script.until(lambda: script.polling)
    script.do(script.polled(position=at(12, "l2")))
    script.arrive(Notify("a", 11, "other history"))
    script.expect("polling")


@scenario("mismatch-of-a-welcome", "A welcome in another history than a poll brought meanwhile, in each mode.", "a")
def _mismatch_of_a_welcome(script: Script) -> None:
    script.greeted()
    script.until(lambda: script.polling)
    script.do(script.polled(position=at(12, "l2")))
    script.arrive(script.welcome(9))
    script.expect("polling")
    script.greeted()
    script.until(lambda: script.polling)
    script.do(script.polled(position=at(14, "l3")))
    script.arrive(script.error("rewound", position=at(5, "l9")))
    script.expect("polling")


@scenario("mismatch-of-a-poll", "An answer to a poll that carried another position than the client has now.", "a")
def _mismatch_of_a_poll(script: Script) -> None:
    script.live().do(script.lost())
    script.greeted()
    script.until(lambda: script.polling)
    script.arrive(script.welcome(11))
    script.do(script.polled(set_to("a", 12), position=at(12, "l2")))
    script.until(lambda: script.polling)
    script.do(script.poll_failed(rewound(3, "l7")))  # asked at the present position, so it counts


@scenario(
    "rewound-too-late", "A poll is answered `rewound` that carried another position than the client has now.", "a"
)
def _rewound_too_late(script: Script) -> None:
    script.live().do(script.lost())
    script.greeted()
    script.until(lambda: script.polling)
    script.arrive(script.welcome(11))
    script.do(script.poll_failed(rewound(3, "l7")))
    script.until(lambda: script.polling)


@scenario("tombstones", "A deletion that is remembered is forgotten with its history.", "p/")
def _tombstones(script: Script) -> None:
    script.live(set_to("p/x", 4)).arrive(Notify("p/x", 11, deleted=True), Notify("p/y", 12, 1))
    script.do(script.lost())
    script.greeted().arrive(script.welcome(reset=True, position=at(30, "l2")))
    script.arrive(script.subscribed(set_to("p/y", 20), position=at(31, "l2")))
    script.look()
