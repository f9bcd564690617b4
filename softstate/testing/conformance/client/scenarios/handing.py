"""The handing out to an application: pending changes, order, names, ends; publishes that replace others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from softstate.testing.conformance.client.form import Json
from softstate.testing.conformance.client.handles import record
from softstate.testing.conformance.client.trace import Trace

Steps: TypeAlias = Iterator[Json]

SCENARIOS: list[tuple[str, str, Callable[[], Steps]]] = []


def scenario(name: str, about: str) -> Callable[[Callable[[], Steps]], Callable[[], Steps]]:
    """Enter a generator of steps under the name of its trace."""

    def enter(steps: Callable[[], Steps]) -> Callable[[], Steps]:
        SCENARIOS.append((name, about, steps))
        return steps

    return enter


def generate_handing() -> list[Trace]:
    """Play every scenario, and return the traces."""
    return [record(name, about, steps()) for name, about, steps in SCENARIOS]


def subscribe(handle: str, *names: str, **more: Any) -> Json:
    """Open a handle."""
    return {"do": "subscribe", "handle": handle, "names": list(names), **more}


def act(name: str, **fields: Any) -> Json:
    """Have the machine do something for the application."""
    return {"do": "act", "action": {name: fields}}


def value(topic: str, version: int, given: Any = None) -> Json:
    """Return a change with a value."""
    return {"topic": topic, "version": version, "value": version if given is None else given}


def gone(topic: str, version: int) -> Json:
    """Return a deletion."""
    return {"topic": topic, "version": version, "deleted": True}


def deliver(*changes: Json) -> Json:
    """Have the machine deliver changes."""
    return act("deliver", changes=list(changes))


def reset(lineage: str, revision: int = 1) -> Json:
    """Have the machine tell of another history."""
    return act("reset", position={"epoch": "e", "lineage": lineage, "revision": revision})


def take(handle: str = "h", **more: Any) -> Json:
    """Take what there is."""
    return {"do": "take", "handle": handle, **more}


def on(do: str, handle: str = "h") -> Json:
    """Do something else with a handle."""
    return {"do": do, "handle": handle}


def publish(receipt: str, topic: str, given: Any, **more: Any) -> Json:
    """Publish, and keep the receipt."""
    return {"do": "publish", "receipt": receipt, "topic": topic, "value": given, **more}


def ask(receipt: str) -> Json:
    """Ask a receipt for the outcome."""
    return {"do": "ask", "receipt": receipt}


def settled(ticket: int, topic: str, version: int) -> Json:
    """Have a publish succeed."""
    position = {"epoch": "e", "lineage": "l1", "revision": version}
    outcome = {"op": "published", "id": ticket, "topic": topic, "version": version, "position": position}
    return act("settled", ticket=ticket, outcome=outcome)


# Pending changes -----------------------------------------------------------------------------------------------------


@scenario("pending/newest-in-place", "Of each topic the newest state is pending, where the older one was.")
def _newest() -> Steps:
    yield subscribe("h", "/")
    yield deliver(value("a", 1), value("b", 2), value("c", 3))
    yield deliver(value("a", 4))
    yield take(most=1)
    yield deliver(value("c", 5), value("a", 6))
    yield take()
    yield take()


@scenario(
    "pending/deletions", "A deletion is a state as any other: it takes the place of a value, and a value its place."
)
def _deletions() -> Steps:
    yield subscribe("h", "p/")
    yield deliver(value("p/a", 1), value("p/b", 2), gone("p/a", 3))
    yield take()
    yield deliver(gone("p/b", 4), value("p/b", 5))
    yield take()


@scenario("pending/bounded", "However much comes, one state a topic, the last reset and one mode are pending.")
def _bounded() -> Steps:
    yield subscribe("h", "/")
    for round_ in range(4):
        yield deliver(*(value(f"t{number}", 1 + 3 * round_ + number) for number in range(3)))
        yield act("mode_changed", mode=("live", "polling")[round_ % 2])
        yield act("node_refused", url="ws://n1", error={"code": "denied", "message": f"no {round_}"})
        yield act("topics_unreadable", topics=[f"d{round_ % 2}"])
        yield reset(f"l{round_}")
    yield deliver(value("t0", 20))
    yield take()
    yield on("look")


# Order ---------------------------------------------------------------------------------------------------------------


@scenario("order/reset", "Nothing jumps over a reset: values from before are dropped, deletions come ahead of it.")
def _reset() -> Steps:
    yield subscribe("h", "/")
    yield deliver(value("a", 7), gone("b", 8), gone("c", 9))
    yield reset("l2")
    yield deliver(value("a", 2), value("c", 3))
    yield deliver(value("c", 4))
    yield take()
    yield deliver(value("a", 5), value("c", 6), value("a", 7))
    yield take()
    yield on("look")


@scenario("order/resets", "Resets become one only if no deletion is between them.")
def _resets() -> Steps:
    yield subscribe("h", "/")
    yield reset("l2")
    yield deliver(gone("a", 2))
    yield reset("l3")
    yield deliver(value("b", 3))
    yield reset("l4")
    yield deliver(gone("c", 4))
    yield take(most=3)
    yield deliver(value("c", 5))
    yield take()
    yield on("look")


@scenario("order/mode", "Only the newest mode is pending, behind all that came before it.")
def _mode() -> Steps:
    yield subscribe("h", "/")
    yield act("mode_changed", mode="live")
    yield deliver(value("a", 1))
    yield act("mode_changed", mode="suspect")
    yield deliver(value("b", 2))
    yield take()


@scenario("order/refusals", "Refusals of one node become one, in the place of the first; those of others are apart.")
def _refusals() -> Steps:
    yield subscribe("h", "/")
    for url, code in (("ws://n1", "denied"), ("ws://n2", "denied"), ("ws://n1", "too_large")):
        yield act("node_refused", url=url, error={"code": code, "message": "no"})
    yield take()


@scenario("order/damaged", "Damaged topics are told together, to the handles that they are under; a reset voids that.")
def _damaged() -> Steps:
    yield subscribe("h", "p/", "q")
    yield subscribe("k", "k/", unreadable=["k/x", "z"])
    yield act("topics_unreadable", topics=["p/a", "other"])
    yield deliver(value("p/b", 1))
    yield act("topics_unreadable", topics=["q", "p/a", "$p"])
    yield take("h")
    yield take("k")
    yield act("topics_unreadable", topics=["p/a"])
    yield reset("l2")
    yield take("h")


# Names ---------------------------------------------------------------------------------------------------------------


@scenario("names/shared", "Handles share names: the machine is told the first want and the last.")
def _shared() -> Steps:
    yield subscribe("h", "p/", "a")
    yield subscribe("k", "p/", "p/x", "b", known=[value("p/x", 3), value("p/y", 4), gone("p/z", 5), value("p/w", 0, 1)])
    yield take("k")
    yield deliver(value("p/x", 6), value("a", 7), value("b", 8), value("c", 9))
    yield take("h")
    yield take("k")
    yield on("close", "h")
    yield deliver(value("p/x", 10))
    yield take("k")
    yield on("close", "k")
    yield on("close", "k")
    yield subscribe("h2", "p/")


@scenario("names/reach", "A topic reaches the handles on it, and on any prefix above it; `/` leaves out `$`.")
def _reach() -> Steps:
    yield subscribe("all", "/")
    yield subscribe("spelt", "$s/")
    yield subscribe("deep", "a/b/")
    yield subscribe("one", "a/b")
    yield deliver(
        value("a/b", 1), value("a/b/c", 2), value("a/b/c/d", 3), value("a/bc", 4), value("$s/x", 5), value("a", 6)
    )
    for handle in ("all", "spelt", "deep", "one"):
        yield take(handle)


@scenario("names/denied", "Denied names leave the handle with what is pending of them alone, and are told once.")
def _denied() -> Steps:
    yield subscribe("h", "p/", "p/a", "q", "r")
    yield deliver(value("p/a", 1), value("p/b", 2), value("q", 3))
    yield act("names_denied", names=["p/", "q"])
    yield take(most=1)
    yield take()
    yield on("look")
    yield deliver(value("p/b", 4), value("q", 5), value("r", 6))
    yield take()
    yield act("names_denied", names=["p/a", "r"])
    yield take()
    yield take()
    yield on("close")
    yield subscribe("k", "q")


@scenario("names/narrow", "A handle that narrows is on what may be read below a denied prefix; others are told of it.")
def _narrow() -> Steps:
    yield subscribe("h", "p/", "r", narrow=True)
    yield subscribe("k", "p/", "o/")
    yield deliver(value("p/a/1", 1), value("p/b", 2), value("p/c", 3))
    yield act("names_denied", names=["p/"], narrow={"p/": ["p/a/", "p/b"]})
    yield take("h")
    yield take("k")
    yield on("look", "h")
    yield on("look", "k")
    yield deliver(value("p/a/2", 4), value("p/c", 5))
    yield take("h")
    yield act("names_denied", names=["p/a/"])
    yield take("h", most=1)
    yield on("close", "h")
    yield subscribe("l", "x/", narrow=True)
    yield subscribe("m", "y", "z/", narrow=True)
    yield on("close", "l")


# Ends ----------------------------------------------------------------------------------------------------------------


@scenario("ends/stopped", "What stopped the client is raised behind what is pending, again and again.")
def _stopped() -> Steps:
    yield subscribe("h", "/")
    yield deliver(value("a", 1))
    yield publish("r1", "a", 1)
    yield publish("r2", "a", 2)
    yield act("stopped", error={"code": "unauthenticated", "message": "no", "why": "expired"})
    yield take()
    yield take()
    yield ask("r1")
    yield ask("r2")
    yield act("settled", ticket=2, outcome={"code": "unauthenticated", "message": "no", "why": "expired"})
    yield ask("r2")
    yield {"do": "close_client"}
    yield take()


@scenario(
    "ends/closed", "A handle that is closed drops what is pending, and ends; so it does when the client is closed then."
)
def _closed() -> Steps:
    yield subscribe("h", "/")
    yield subscribe("k", "/")
    yield deliver(value("a", 1))
    yield on("close")
    yield {"do": "close_client"}
    yield take("h")
    yield take("k")
    yield take("k")


@scenario("ends/publishes", "When the client is closed, all that is not settled fails, also what still waits.")
def _publishes() -> Steps:
    yield publish("r1", "a", 1)
    yield publish("r2", "a", 2)
    yield publish("r3", "b", 1, each=True)
    yield settled(2, "b", 5)
    yield {"do": "close_client"}
    for receipt in ("r1", "r2", "r3"):
        yield ask(receipt)


# Publishes -----------------------------------------------------------------------------------------------------------


@scenario(
    "publishes/latest-wins", "Behind a publish of a topic only the newest value waits; its outcome is told to all."
)
def _latest() -> Steps:
    yield publish("r1", "a", 1)
    yield publish("r2", "a", 2)
    yield publish("s1", "b", 1)
    yield publish("r3", "a", 3)
    yield publish("r4", "a", 4)
    yield ask("r2")
    yield settled(1, "a", 5)
    for receipt in ("r1", "r2", "r4"):
        yield ask(receipt)
    yield publish("r5", "a", 5)
    yield act("settled", ticket=3, outcome={"code": "too_large", "message": "no"})
    for receipt in ("r2", "r3", "r4", "r5"):
        yield ask(receipt)
    yield settled(4, "a", 6)
    yield settled(2, "b", 7)
    yield publish("r6", "a", 6)


@scenario("publishes/each", "One that is to be sent goes behind the one that waits, which is sent first.")
def _each() -> Steps:
    yield publish("r1", "a", 1)
    yield publish("r2", "a", 2)
    yield publish("r3", "a", 3, each=True)
    yield publish("r4", "a", 4)
    yield settled(1, "a", 5)
    yield settled(2, "a", 6)
    for receipt in ("r1", "r2", "r3", "r4"):
        yield ask(receipt)


@scenario("publishes/dropped", "A publish is dropped once nobody holds a receipt of it any more.")
def _dropped() -> Steps:
    yield publish("r1", "a", 1)
    yield publish("r2", "a", 2)
    yield publish("r3", "a", 3)
    yield {"do": "drop", "receipt": "r2"}
    yield settled(1, "a", 5)
    yield {"do": "drop", "receipt": "r3"}
    yield publish("r4", "b", 1)
    yield publish("r5", "b", 2)
    yield {"do": "drop", "receipt": "r5"}
    yield settled(3, "b", 6)
