"""``python -m bench tls``: what TLS costs a node, beside the same node without.

Both are up at the same time, and take turns. The certificate is of P-256, made by the program openssl.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load.process import LoadFailed, LoadProcess
from bench.measure.beside import ADDED, PER_CPU, with_added, with_per_cpu
from bench.measure.cost import cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import Server, find, folder, softstate_server
from bench.speed import fanout

PLAIN = "without TLS"
TLS = "TLS"
RESUMED = "TLS, resumed"

PACED_MIN = 0.42
BURSTS_MIN = 0.62
"""Deliveries for each CPU second, as a part of those without TLS. Each connection seals its own."""
HANDSHAKES_MIN = 1_500
"""Handshakes for each CPU second."""

HANDSHAKE = (
    Column("server_cpu_s", "server CPU us/connection", 1e6, 1),
    ADDED,
    Column("wall_s", "wall us/connection", 1e6, 1),
)

ASK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ANSWER_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done in one run of each comparison."""

    subscribers: int = 1_000
    changes: int = 30
    topics: int = 20
    bursts: int = 20
    connections: int = 1_000


WHOLE = Size()
QUICK = Size(changes=15, bursts=10, connections=400)


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and the file of the authority by which it is trusted; "" for one without TLS."""

    server: Server
    authority: str = ""

    def context(self) -> ssl.SSLContext | None:
        """Return what a client trusts it by."""
        return ssl.create_default_context(cafile=self.authority) if self.authority else None


def tls(measuring: Measuring, size: Size | None = None) -> Report:
    """Measure all comparisons, and return the report."""
    measuring.refuse_against("tls", "it compares a node with TLS and one without, and others may have none")
    size = size or (QUICK if measuring.quick else WHOLE)
    report = measuring.report("tls", "a node with --tls-cert beside the same node without")
    with nodes() as both:
        paced = ("paced", f"paced: 1 topic, {size.subscribers:,} subscribers", 1, {"changes": size.changes})
        bursts = (
            "bursts", f"bursts: {size.subscribers:,} subscribers x {size.topics} changes", size.topics,
            {"times": size.bursts},
        )  # fmt: skip
        for (command, title, topics, arguments), least in ((paced, PACED_MIN), (bursts, BURSTS_MIN)):
            deliveries(report, both, size.subscribers, title, topics, command, arguments, least, measuring.rounds)
        handshakes(report, both, size.connections, measuring.rounds)
    report.note(f"{ssl.OPENSSL_VERSION}; the sink unseals in the process that counts: its CPU is not the server's")
    return report


@contextmanager
def nodes() -> Iterator[dict[str, Node]]:
    """Run both nodes, each on a durable store of its own. Raises `NotInstalled`."""
    openssl = find("openssl", "apt install openssl")
    with folder() as home, ExitStack() as stack:
        cert, key = home / "cert.pem", home / "key.pem"
        make_certificate(openssl, cert, key)
        secured = stack.enter_context(
            softstate_server("--tls-cert", str(cert), "--tls-key", str(key), name="softstate --tls-cert")
        )
        yield {PLAIN: Node(stack.enter_context(softstate_server())), TLS: Node(secured, str(cert))}


def make_certificate(openssl: str, cert: Path, key: Path) -> None:
    """Make a certificate for 127.0.0.1 that is its own authority."""
    command = [
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


def deliveries(
    report: Report,
    both: dict[str, Node],
    subscribers: int,
    title: str,
    topics: int,
    command: str,
    arguments: dict[str, int],
    least: float,
    rounds: int,
) -> Rounds:
    """Publish one change at a time, or bursts, to subscribers of all topics."""
    wanted = [f"bench/{number:02}" for number in range(topics)]
    with ExitStack() as stack:
        pairs = {}
        for name, node in both.items():
            sink = stack.enter_context(LoadProcess("bench.load.sink"))
            sink.ask(
                "open", protocol="softstate", port=node.server.port, connections=subscribers, topics=wanted,
                authority=node.authority,
            )  # fmt: skip
            pairs[name] = fanout.Pair(node.server, sink)
            pairs[name].run(command, **arguments)
        runs = {name: partial(_deliver, pair, command, arguments) for name, pair in pairs.items()}
        result = run_rounds(runs, rounds, title)
    report.table(title, result, (PER_CPU, *fanout.COST), baseline=PLAIN, compares="per_cpu_s")
    report.note_busy(title, result)
    report.at_least(f"deliveries per CPU second, {title.partition(':')[0]}", result, TLS, PLAIN, "per_cpu_s", least)
    return result


def _deliver(pair: fanout.Pair, command: str, arguments: dict[str, int]) -> Figures:
    return with_per_cpu(pair.per_delivery(command, **arguments))


def handshakes(report: Report, both: dict[str, Node], connections: int, rounds: int) -> Rounds:
    """Connect, ask for `/healthz` and close, one after the other; by TLS with a whole handshake, and resumed."""
    runs = {name: partial(shake, node, connections) for name, node in both.items()}
    runs[RESUMED] = partial(shake, both[TLS], connections, resumed=True)
    for run in runs.values():
        run()
    result = with_added(run_rounds(runs, rounds, "handshakes"), PLAIN)
    title = f"connections, one after the other: connect, GET /healthz, close; {connections:,} of them"
    report.table(title, result, HANDSHAKE, baseline=PLAIN, compares="server_cpu_s")
    rate = 1 / max(result.median(TLS, "added_s"), 1e-9)
    report.figure_at_least("handshakes per CPU second", rate, HANDSHAKES_MIN, "")
    return result


def shake(node: Node, connections: int, *, resumed: bool = False) -> Figures:
    """Make so many connections; return what one costs."""
    context, session = node.context(), None
    before_s, began_s = cpu_s(node.server.pid), time.monotonic()
    for _ in range(connections):
        with socket.create_connection(("127.0.0.1", node.server.port), timeout=ANSWER_S_MAX) as opened:
            if context is None:
                _ask(opened)
                continue
            with context.wrap_socket(opened, server_hostname="127.0.0.1", session=session) as secured:
                _ask(secured)
                if session is not None and not secured.session_reused:
                    raise LoadFailed("a session was not resumed")
                session = secured.session if resumed else None
    wall_s = time.monotonic() - began_s
    used_s = max(cpu_s(node.server.pid) - before_s, 1e-9)  # as it is counted, a few connections may take none
    return {"server_cpu_s": used_s / connections, "wall_s": wall_s / connections}


def _ask(opened: socket.socket) -> None:
    opened.sendall(ASK)
    if not opened.recv(4_096).startswith(b"HTTP/1.1 200 "):
        raise LoadFailed("a node did not answer that it is well")
