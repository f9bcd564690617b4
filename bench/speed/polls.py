"""``python -m bench polls``: the cost of a conditional poll to the server.

Clients on kept connections poll again as soon as they are answered (`bench.load.closed_loop`): with the versions that
the store holds (unchanged), or with older ones (changed, so that the answer has all values). softstate's own client
sends ``POST /v1/poll`` in CBOR; other clients would send ``GET`` with ``If-None-Match``. A node answers polls that have
nothing to learn from memory; one that knows no topic (``--known-topics-max 0``) shows what they cost from the store.

The floor is the least that Python can do on Trio (`bench.load.servers.h11_server`): it gets the same requests except
for the target, parses them, and answers with a fixed body of the same length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import cbor2

from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.checkouts import THIS, Checkout
from bench.measure.options import Measuring
from bench.measure.report import Report
from bench.measure.rounds import Rounds, run_rounds
from bench.measure.servers import Server, python_server, softstate_server
from bench.speed.closed_loop_runs import COLUMNS, run_closed_loop
from softstate.position import Position
from softstate.wire import CBOR, messages

CONNECTIONS = 32
TOPICS = 50
RUN_S = 1.0
RUN_QUICK_S = 0.5
OURS = "softstate"
FROM_STORE = "softstate, knowing no topic"
FLOOR = "h11 responder"
TARGET = 0.7
UNCHANGED_TARGETS = {1: (3.0, 1.5), TOPICS: (2.0, 0.9)}
"""By the number of topics: for polls answered from memory, and for those for which the store is read."""


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of poll: the bytes of the request, and the status of its answer."""

    title: str
    request: str
    status: int = 200
    unchanged_topics: int = 0
    """Topics of a poll that has nothing to learn; 0 of any other."""


@dataclass(frozen=True, slots=True)
class Node:
    """A running node, its generator, and the questions about the topics published to it."""

    server: Server
    generator: LoadProcess
    questions: Sequence[Question]


def polls(measuring: Measuring, connections: int = CONNECTIONS, run_s: float = 0.0) -> Report:
    """Measure every kind of poll against the floor, or against another checkout, and return the report."""
    run_s = run_s or (RUN_QUICK_S if measuring.quick else RUN_S)
    report = measuring.report("polls", f"conditional polls, {connections} kept connections, values of 100 bytes")
    with ExitStack() as stack:
        ours = {
            name: stack.enter_context(_node(connections, checkout))
            for name, checkout in report.checkouts.named(OURS).items()
        }
        knowing_none: Node | None = None
        if not report.compares:
            knowing_none = stack.enter_context(_node(connections, THIS, "--known-topics-max", "0"))
            floor = stack.enter_context(python_server("bench.load.servers.h11_server", name=FLOOR))
            to_floor = stack.enter_context(LoadProcess("bench.load.closed_loop"))
            to_floor.ask("open", port=floor.port, connections=connections, protocol="http")
        first = next(iter(ours.values()))
        for number, question in enumerate(first.questions):
            answer = first.generator.ask("once", request=question.request)["answer"]
            size = len(answer.partition("\r\n\r\n")[2])
            good = f"HTTP/1.1 {question.status} "
            candidates = {
                name: partial(run_closed_loop, one.server, one.generator, one.questions[number].request, run_s, good)
                for name, one in ours.items()
            }
            if knowing_none is not None:
                if question.unchanged_topics:
                    one = knowing_none
                    candidates[FROM_STORE] = partial(
                        run_closed_loop, one.server, one.generator, one.questions[number].request, run_s, good
                    )
                asked_of_floor = retarget(question.request, f"/{question.status}/{size}")
                candidates[FLOOR] = partial(run_closed_loop, floor, to_floor, asked_of_floor, run_s, good)
            for warm_up in candidates.values():
                warm_up()
            result = run_rounds(candidates, measuring.rounds, question.title)
            _conclude(report, question, len(answer), result)
    if not report.compares:
        report.note("the floor's reply has two headers, softstate's has eight; the bodies have the same length")
    return report


@contextmanager
def _node(connections: int, checkout: Checkout, *options: str) -> Iterator[Node]:
    """Run a node that is asked over so many connections."""
    with softstate_server(*options, checkout=checkout) as server, LoadProcess("bench.load.closed_loop") as generator:
        generator.ask("open", port=server.port, connections=connections, protocol="http")
        yield Node(server, generator, questions(generator))


def _conclude(report: Report, question: Question, answer_bytes: int, result: Rounds) -> None:
    title = f"{question.title}: {len(question.request)} bytes asked, {answer_bytes} answered"
    report.table(title, result, COLUMNS, baseline=FLOOR, compares="per_s")
    if not report.compares:
        known, read = UNCHANGED_TARGETS.get(question.unchanged_topics, (TARGET, None))
        report.at_least(f"polls per second, {question.title}", result, OURS, FLOOR, "per_s", known)
        if read is not None:
            report.at_least(f"{question.title}, from the store", result, FROM_STORE, FLOOR, "per_s", read)
    report.note_busy(question.title, result)


def questions(generator: LoadProcess, token: str = "") -> list[Question]:
    """Publish `TOPICS` topics twice, over HTTP; return all questions about them, which present a token, if any."""
    before = _publish(generator, 1, token)
    now = _publish(generator, 2, token)
    found = []
    for count in (1, TOPICS):
        for what, versions in (("unchanged", now.versions), ("changed", before.versions)):
            held = dict(list(versions.items())[:count])
            body = CBOR.encode(messages.Poll(position=now.position, topics=held))
            title = f"POST /v1/poll, {count} topic{'s' if count > 1 else ''}, {what}"
            found.append(
                Question(title, post("/v1/poll", body), unchanged_topics=count if versions is now.versions else 0)
            )
    topic = next(iter(now.versions))
    for what, published, status in (("unchanged", now, 304), ("changed", before, 200)):
        tag = f'If-None-Match: "{published.position.at(published.versions[topic])}"\r\n'
        found.append(Question(f"GET /v1/topics/{{topic}}, {what}", head("GET", f"/v1/topics/{topic}", tag), status))
    return [replace(question, request=presenting(question.request, token)) for question in found]


@dataclass(frozen=True, slots=True)
class Published:
    """The versions of a batch's changes, and the store's position after it."""

    versions: dict[str, int]
    position: Position


def _publish(generator: LoadProcess, sequence: int, token: str) -> Published:
    changes = [{"topic": f"bench/{number:02}", "value": value_of(sequence)} for number in range(TOPICS)]
    request = presenting(post("/v1/publish", cbor2.dumps({"changes": changes})), token)
    answer = generator.ask("once", request=request)["answer"]
    results = CBOR.loads(answer.partition("\r\n\r\n")[2].encode("latin-1"), messages.BatchResults).results
    assert results[-1].position is not None
    return Published({result.topic: result.version for result in results}, results[-1].position)


def head(method: str, target: str, more: str = "") -> str:
    """Return the head of a request, with the headers of softstate's client, and `more` lines."""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:8700\r\nUser-Agent: softstate\r\n"
        f"Accept: application/cbor\r\n{more}\r\n"
    )


def post(target: str, body: bytes) -> str:
    """Return a POST of CBOR, its bytes as latin-1."""
    more = f"Content-Type: application/cbor\r\nContent-Length: {len(body)}\r\n"
    return head("POST", target, more) + body.decode("latin-1")


def retarget(request: str, target: str) -> str:
    """Return a request with another target."""
    method, _, rest = request.split(" ", 2)
    return f"{method} {target} {rest}"


def presenting(request: str, token: str) -> str:
    """Return a request that presents a token; as it is for ""."""
    return request.replace("\r\n", f"\r\nAuthorization: Bearer {token}\r\n", 1) if token else request
