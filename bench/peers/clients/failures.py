"""The two failures: ``kill -9`` of a server, and a silent partition between it and all its clients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.load.process import LoadFailed, LoadProcess
from bench.measure.servers import folder
from bench.peers.clients.candidates import Candidate
from bench.peers.clients.driver import Driver, portions
from bench.peers.clients.figures import Failure, figures_of, known, story
from bench.peers.clients.publisher import Publisher, Ticker
from bench.peers.clients.records import Noted
from softstate.cli.processes.child import free_port

CALM_S = 1.5
"""Time before a failure in which everything is well, and ``ticking`` changes."""
DOWN_S = 2.0
"""Time from the kill until the server is started again."""
OPENING_S_MAX = 30.0
PINGS_S = 25.0
"""The time between two pings of Centrifugo, and of Socket.IO."""
SPREAD_STEPS = 10
QUIET_S = 2.0
"""Time for which all goes on once everybody has heard a new tick."""
NEWCOMER_S_MAX = 3.0
"""Time in which a client that connects for the first time after a kill has to hold all there is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one failure, and what applications were told, as a sentence."""

    figures: dict[str, float]
    story: str


def kill(candidate: Candidate, clients: int, patience_s: float) -> Outcome:
    """Kill a server, start it again after 2 s, and return what became of its clients.

    Afterwards, ``still`` is published once, ``ticking`` every 200 ms; `patience_s` is how long clients may take to hear
    a tick. ``kept`` was published last before the kill. Raises `LoadFailed` and `ServerFailed`.
    """
    with folder() as home:
        port = free_port()
        publisher = Publisher(candidate.system.name, port)
        with candidate.system.running(port, home) as up, _calm(candidate, publisher, port, clients) as driver:
            with Ticker(publisher):
                time.sleep(CALM_S)
            kept = publisher.publish("kept")
            # An application may be told before this process goes on.
            began_at = time.monotonic()
            up.kill()
            time.sleep(DOWN_S)
            with candidate.system.running(port, home):
                over_at = time.monotonic()
                first = publisher.publish("still")
                ticks_from = publisher.publish("ticking")
                with Ticker(publisher):
                    driver.until("ticking", ticks_from, patience_s)
                    time.sleep(QUIET_S)
                ends_at = time.monotonic()
                driver.ask("open", clients=1)
                driver.until("kept", kept, NEWCOMER_S_MAX)
                noted = driver.noted()
    applications, newcomer = noted.applications[:clients], noted.applications[clients:]
    failure = Failure(began_at, over_at, ends_at, ticks_from, first, publisher.published)
    figures = figures_of(Noted(applications, noted.dials), failure)
    figures |= {"kept_share": known(applications, "kept", kept), "newcomer_share": known(newcomer, "kept", kept)}
    return Outcome(figures, story(applications, began_at))


def partition(candidate: Candidate, clients: int, seconds: float, patience_s: float, spread_s: float = 0.0) -> Outcome:
    """Lose all packets between clients and their server for some seconds, and return what became of the clients.

    The publisher is on the server's side: ``still`` is published once, as soon as packets are lost, ``ticking`` every
    200 ms. Clients are opened over `spread_s`, so that pings of each are due at another time. Raises `LoadFailed` and
    `ServerFailed`.
    """
    with folder() as home:
        port = free_port()
        publisher = Publisher(candidate.system.name, port)
        with (
            candidate.system.running(port, home),
            LoadProcess("bench.peers.clients.relay", "--to", str(port)) as relay,
            _calm(candidate, publisher, relay.ask("port")["port"], clients, spread_s) as driver,
        ):
            with Ticker(publisher):
                time.sleep(CALM_S)
                began_at = time.monotonic()
                relay.ask("lose")
                first = publisher.publish("still")
                time.sleep(max(began_at + seconds - time.monotonic(), 0.0))
                relay.ask("heal")
                over_at = time.monotonic()
                ticks_from = publisher.publish("ticking")
                driver.until("ticking", ticks_from, patience_s)
                driver.until("still", first, patience_s)
                time.sleep(QUIET_S)
            ends_at = time.monotonic()
            noted = driver.noted()
    failure = Failure(began_at, over_at, ends_at, ticks_from, first, publisher.published)
    return Outcome(figures_of(noted, failure), story(noted.applications, began_at))


@contextmanager
def _calm(
    candidate: Candidate, publisher: Publisher, port: int, clients: int, spread_s: float = 0.0
) -> Iterator[Driver]:
    """Publish to all topics, and open clients that hold all of it."""
    publisher.prepare()
    for topic in ("kept", "still"):
        publisher.publish(topic)
    ticks_from = publisher.publish("ticking")
    first, *others = portions(clients, SPREAD_STEPS if spread_s else 1)
    with Driver(candidate.name, candidate.command(port, first)) as driver:
        for portion in others:
            time.sleep(spread_s / SPREAD_STEPS)
            driver.ask("open", clients=portion)
        holding = driver.until("ticking", ticks_from, OPENING_S_MAX)
        if holding < clients:
            raise LoadFailed(f"{candidate.name}: {clients - holding} clients hear nothing after {OPENING_S_MAX:g} s")
        yield driver
