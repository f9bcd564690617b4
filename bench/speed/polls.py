"""``python -m bench polls``: what a conditional poll costs the server.

Clients on kept connections ask again as soon as they are answered (`bench.load.asker`): with the versions that the
store holds (unchanged), or with older ones (changed, so that every topic's value comes back). ``POST /v1/poll`` is what
softstate's own client sends, in CBOR; ``GET`` with ``If-None-Match`` is what anything else would send.

The floor is the least that Python can do on Trio (`bench.load.servers.h11_server`): it gets the same requests but
for the target, parses them, knows nothing, and answers with as many bytes of body.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import cbor2

from bench.load.asking import COLUMNS, note_busy_askers, per_answer
from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.options import Measuring
from bench.measure.report import Report
from bench.measure.rounds import Rounds, run_rounds
from bench.measure.servers import Server, python_server, softstate_server
from softstate.position import Position
from softstate.wire import CBOR, messages

CONNECTIONS = 32
TOPICS = 50
RUN_S = 1.0
RUN_QUICK_S = 0.5
OURS = "softstate"
FLOOR = "h11 responder"
TARGET = 0.7


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of poll: a whole request, and the status that its answer has."""

    title: str
    request: str
    status: int = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A running softstate, its generator, and the questions about what was published to it."""

    server: Server
    asker: LoadProcess
    questions: Sequence[Question]


def polls(measuring: Measuring, connections: int = CONNECTIONS, run_s: float = 0.0) -> Report:
    """Measure every kind of poll against the floor, or against another checkout, and return the report."""
    run_s = run_s or (RUN_QUICK_S if measuring.quick else RUN_S)
    report = measuring.report("polls", f"conditional polls, {connections} kept connections, values of 100 bytes")
    with ExitStack() as stack:
        ours = {}
        for name, checkout in report.checkouts.named(OURS).items():
            server = stack.enter_context(softstate_server(checkout=checkout))
            asker = stack.enter_context(LoadProcess("bench.load.asker"))
            asker.ask("open", port=server.port, connections=connections, speaks="http")
            ours[name] = Asked(server, asker, questions(asker))
        if not report.compares:
            floor = stack.enter_context(python_server("bench.load.servers.h11_server", name=FLOOR))
            to_floor = stack.enter_context(LoadProcess("bench.load.asker"))
            to_floor.ask("open", port=floor.port, connections=connections, speaks="http")
        first = next(iter(ours.values()))
        for number, question in enumerate(first.questions):
            answer = first.asker.ask("once", request=question.request)["answer"]
            size = len(answer.partition("\r\n\r\n")[2])
            good = f"HTTP/1.1 {question.status} "
            candidates = {
                name: partial(per_answer, one.server, one.asker, one.questions[number].request, run_s, good)
                for name, one in ours.items()
            }
            if not report.compares:
                asked_of_floor = retarget(question.request, f"/{question.status}/{size}")
                candidates[FLOOR] = partial(per_answer, floor, to_floor, asked_of_floor, run_s, good)
            for warm_up in candidates.values():
                warm_up()
            result = run_rounds(candidates, measuring.rounds, question.title)
            _conclude(report, question, len(answer), result)
    if not report.compares:
        report.note("the floor's reply has two headers, softstate's has eight; the bodies have the same length")
    return report


def _conclude(report: Report, question: Question, answer_bytes: int, result: Rounds) -> None:
    title = f"{question.title}: {len(question.request)} bytes asked, {answer_bytes} answered"
    report.table(title, result, COLUMNS, baseline=FLOOR, compares="per_s")
    if not report.compares:
        report.at_least(f"polls per second, {question.title}", result, OURS, FLOOR, "per_s", TARGET)
    note_busy_askers(report, question.title, result)


def questions(asker: LoadProcess) -> list[Question]:
    """Publish `TOPICS` topics twice, over HTTP, and return what can be asked about them."""
    before = _publish(asker, 1)
    now = _publish(asker, 2)
    found = []
    for count in (1, TOPICS):
        for what, versions in (("unchanged", now.versions), ("changed", before.versions)):
            held = dict(list(versions.items())[:count])
            body = CBOR.encode(messages.Poll(position=now.position, topics=held))
            title = f"POST /v1/poll, {count} topic{'s' if count > 1 else ''}, {what}"
            found.append(Question(title, post("/v1/poll", body)))
    topic = next(iter(now.versions))
    for what, published, status in (("unchanged", now, 304), ("changed", before, 200)):
        tag = f'If-None-Match: "{published.position.at(published.versions[topic])}"\r\n'
        found.append(Question(f"GET /v1/topics/{{topic}}, {what}", head("GET", f"/v1/topics/{topic}", tag), status))
    return found


@dataclass(frozen=True, slots=True)
class Published:
    """The versions that a batch made, and where the store then stood."""

    versions: dict[str, int]
    position: Position


def _publish(asker: LoadProcess, sequence: int) -> Published:
    changes = [{"topic": f"bench/{number:02}", "value": value_of(sequence)} for number in range(TOPICS)]
    answer = asker.ask("once", request=post("/v1/publish", cbor2.dumps({"changes": changes})))["answer"]
    results = CBOR.loads(answer.partition("\r\n\r\n")[2].encode("latin-1"), messages.BatchResults).results
    assert results[-1].position is not None
    return Published({result.topic: result.version for result in results}, results[-1].position)


def head(method: str, target: str, more: str = "") -> str:
    """Return the head of a request, with the headers that softstate's client sends, and `more` lines."""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:8700\r\nUser-Agent: softstate\r\n"
        f"Accept: application/cbor\r\n{more}\r\n"
    )


def post(target: str, body: bytes) -> str:
    """Return a whole POST of CBOR, its bytes as latin-1."""
    more = f"Content-Type: application/cbor\r\nContent-Length: {len(body)}\r\n"
    return head("POST", target, more) + body.decode("latin-1")


def retarget(request: str, target: str) -> str:
    """Return the same request for another target."""
    method, _, rest = request.split(" ", 2)
    return f"{method} {target} {rest}"
