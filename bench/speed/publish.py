"""``python -m bench publish``: durable publishes per second, over HTTP and over a WebSocket.

Publishers with a connection and a topic each publish again as soon as they are answered (`bench.load.closed_loop`); an
answer means that the value is on stable storage. There is no server to compare with that does the same, so publishes
are compared with the least that each part of the work can cost:

- *raw sqlite3*: a loop that writes the same values to SQLite, with the same pragmas and as many changes in each
  transaction as the server batched (`bench.load.servers.sqlite_writer`), without requests and answers;
- *bare exchange*: a server on Trio that answers and stores nothing: `bench.load.servers.echo_server` sends each
  WebSocket message back, `bench.load.servers.h11_server` answers HTTP with a fixed body of the same length.

No server of this kind can be faster than the slower one of the two, so the targets compare with that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import cbor2

from bench.load.closed_loop import CONNECTION, SEQUENCE
from bench.load.frames import client_frame
from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.checkouts import Checkout
from bench.measure.cost import cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import Server, folder, python_server, softstate_server
from bench.speed.closed_loop_runs import COLUMNS, run_closed_loop
from bench.speed.polls import head, retarget
from softstate.wire import CBOR, messages

PUBLISHERS = (1, 16, 256)
RUN_S = 1.5
RUN_QUICK_S = 0.7
TARGET = 0.5

HTTP = "softstate HTTP"
WEBSOCKET = "softstate WebSocket"
KEYED = "softstate WebSocket, keys"
RAW = "raw sqlite3"
H11 = "bare exchange, HTTP"
ECHO = "bare exchange, WebSocket"
LEAST_HTTP = "min(raw sqlite3, bare exchange), HTTP"
LEAST_WEBSOCKET = "min(raw sqlite3, bare exchange), WebSocket"

PER_COMMIT = Column("per_commit", "publishes a commit", digits=1, better="")


@dataclass(frozen=True, slots=True)
class Side:
    """A running node, and its generators."""

    server: Server
    http: LoadProcess
    websocket: LoadProcess

    def open(self, publishers: int) -> None:
        """Give each generator as many connections."""
        self.http.ask("open", port=self.server.port, connections=publishers, protocol="http")
        self.websocket.ask("open", port=self.server.port, connections=publishers, protocol="softstate")


@dataclass(frozen=True, slots=True)
class Floors:
    """All servers and loops that nodes are compared with."""

    h11: Server
    echo: Server
    raw: LoadProcess
    to_h11: LoadProcess
    to_echo: LoadProcess

    def open(self, publishers: int) -> None:
        """Give each generator as many connections."""
        self.to_h11.ask("open", port=self.h11.port, connections=publishers, protocol="http")
        self.to_echo.ask("open", port=self.echo.port, connections=publishers, protocol="websocket")


@contextmanager
def side(checkout: Checkout) -> Iterator[Side]:
    """Run a node of a checkout, and its generators."""
    with (
        softstate_server(checkout=checkout) as server,
        LoadProcess("bench.load.closed_loop") as http,
        LoadProcess("bench.load.closed_loop") as websocket,
    ):
        yield Side(server, http, websocket)


@contextmanager
def all_floors() -> Iterator[Floors]:
    """Run all servers and loops that nodes are compared with."""
    with ExitStack() as stack:
        home = stack.enter_context(folder())
        generators = [stack.enter_context(LoadProcess("bench.load.closed_loop")) for _ in range(2)]
        yield Floors(
            stack.enter_context(python_server("bench.load.servers.h11_server")),
            stack.enter_context(python_server("bench.load.servers.echo_server")),
            stack.enter_context(LoadProcess("bench.load.servers.sqlite_writer", str(home / "raw.db"))),
            *generators,
        )


def publish(measuring: Measuring, publishers: tuple[int, ...] = PUBLISHERS, run_s: float = 0.0) -> Report:
    """Measure with each number of publishers, and return the report."""
    run_s = run_s or (RUN_QUICK_S if measuring.quick else RUN_S)
    about = "durable publishes of 100 bytes, each publisher with its own topic and connection"
    report = measuring.report("publish", about)
    with ExitStack() as stack:
        sides = [stack.enter_context(side(checkout)) for checkout in report.checkouts.named("").values()]
        floors = None if report.compares else stack.enter_context(all_floors())
        for count in publishers:
            for up in sides:
                up.open(count)
            label = f"{count} publisher{'s' if count > 1 else ''}"
            candidates = _candidates(report, sides, run_s)
            if floors is None:
                for warm_up in candidates.values():
                    warm_up()
                result = run_rounds(candidates, measuring.rounds, label)
            else:
                floors.open(count)
                result = _with_floors(candidates, sides[0], floors, count, measuring.rounds, run_s)
            report.table(label, result, (*COLUMNS, PER_COMMIT), baseline=LEAST_WEBSOCKET, compares="per_s")
            report.note_busy(label, result)
            if floors is not None and count == max(publishers):
                for ours, least in ((WEBSOCKET, LEAST_WEBSOCKET), (KEYED, LEAST_WEBSOCKET), (HTTP, LEAST_HTTP)):
                    report.at_least(f"publishes per second, {label}: {ours}", result, ours, least, "per_s", TARGET)
    report.note("keys: each publish has an idempotency key, as of softstate's own client; the others have none")
    if not report.compares:
        report.note("raw sqlite3 writes as many changes in one transaction as softstate batched from WebSockets")
    return report


def _candidates(report: Report, sides: Sequence[Side], run_s: float) -> dict[str, Measure]:
    """Return a measure of each way to publish, to each side."""
    candidates: dict[str, Measure] = {}
    asked, asked_keyed, put = request_message(keyed=False), request_message(keyed=True), request_put()
    for way, request, good in (
        (HTTP, put, "HTTP/1.1 200 "), (WEBSOCKET, asked, "published"), (KEYED, asked_keyed, "published"),
    ):  # fmt: skip
        for name, up in zip(report.checkouts.named(way), sides, strict=True):
            generator = up.http if way == HTTP else up.websocket
            candidates[name] = partial(_run_node, up.server, generator, request, run_s, good)
    return candidates


def _with_floors(
    ours: Mapping[str, Measure], up: Side, floors: Floors, publishers: int, rounds: int, run_s: float
) -> Rounds:
    """Measure a node beside its floors; add the lower of each two."""
    asked, put = request_message(keyed=False), request_put()
    answer = up.http.ask("once", request=put)["answer"]
    size = len(answer.partition("\r\n\r\n")[2])
    candidates: dict[str, Measure] = {
        **ours,
        H11: partial(run_closed_loop, floors.h11, floors.to_h11, retarget(put, f"/200/{size}"), run_s, "HTTP/1.1 200 "),
        ECHO: partial(run_closed_loop, floors.echo, floors.to_echo, asked, run_s, "publish"),
    }
    batch = 1
    for name, warm_up in candidates.items():
        figures = warm_up()
        if name == WEBSOCKET:
            batch = max(round(figures["per_commit"]), 1)
    candidates[RAW] = partial(_run_raw, floors.raw, publishers, batch, run_s)
    return with_least(run_rounds(candidates, rounds, f"{publishers} publishers"))


def _run_node(server: Server, generator: LoadProcess, request: str, seconds: float, good: str) -> Figures:
    """Publish to a node; return the figures, and the mean number of publishes in a commit."""
    commits, publishes = commits_and_publishes([server])
    figures = run_closed_loop(server, generator, request, seconds, good)
    commits_then, publishes_then = commits_and_publishes([server])
    return {**figures, "per_commit": (publishes_then - publishes) / max(commits_then - commits, 1)}


def _run_raw(writer: LoadProcess, topics: int, batch: int, seconds: float) -> Figures:
    before_s = cpu_s(writer.pid)
    run = writer.ask("write", topics=topics, batch=batch, seconds=seconds, value_bytes=len(value_of(0)))
    spent_s = cpu_s(writer.pid) - before_s
    return {
        "per_s": run["answers"] / run["wall_s"],
        "server_cpu_s": spent_s / run["answers"],
        "per_commit": float(batch),
    }


def with_least(result: Rounds) -> Rounds:
    """Add the lower one of the rates of raw sqlite3 and the bare exchange in each round."""
    added = dict(result.runs)
    for name, exchange in ((LEAST_HTTP, H11), (LEAST_WEBSOCKET, ECHO)):
        pairs = zip(result.runs[RAW], result.runs[exchange], strict=True)
        added[name] = [{"per_s": min(raw["per_s"], bare["per_s"])} for raw, bare in pairs]
    return Rounds(added)


def commits_and_publishes(servers: Sequence[Server]) -> tuple[float, float]:
    """Return the number of commits with publishes, and of the publishes in them, of all these nodes together."""
    return sum(server.counter("commits") for server in servers), sum(server.counter("publishes") for server in servers)


def request_message(*, keyed: bool) -> str:
    """Return the template of a WebSocket message that publishes the connection's topic."""
    key = f"bench-{SEQUENCE.decode()}" if keyed else None
    message = messages.Publish(1, f"bench/{CONNECTION.decode()}", value_of(0), key=key)
    return client_frame(CBOR.encode(message)).decode("latin-1")


def request_put() -> str:
    """Return the template of a PUT of the connection's topic."""
    body = cbor2.dumps(value_of(0))
    more = f"Content-Type: application/cbor\r\nContent-Length: {len(body)}\r\n"
    return head("PUT", f"/v1/topics/bench/{CONNECTION.decode()}", more) + body.decode("latin-1")
