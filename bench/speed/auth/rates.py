"""The cost of permissions once a session or a connection is there: renewals, deliveries, polls and publishes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bench.load.process import LoadProcess
from bench.measure.beside import PER_CPU, with_per_cpu
from bench.measure.report import Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import Server
from bench.speed import fanout
from bench.speed.auth.candidates import CHECKING, IGNORING, OPEN, Nodes, judge_within
from bench.speed.closed_loop_runs import COLUMNS, run_closed_loop
from bench.speed.polls import Question, presenting, questions
from bench.speed.publish import request_message
from bench.speed.sessions import COST, Pair

RENEWALS_MIN = 0.98
DELIVERIES_OFF = 0.02
POLLS_MIN = 0.95
PUBLISHES_MIN = 0.98


def renewals(report: Report, nodes: Nodes, sessions: int, times: int, rounds: int) -> Rounds:
    """Renew all sessions so many times in a run."""
    with LoadProcess("bench.load.sessions") as to_open, LoadProcess("bench.load.sessions") as to_checking:
        pairs = {OPEN: Pair(nodes.open, to_open), CHECKING: Pair(nodes.checking, to_checking)}
        pairs[OPEN].open(sessions)
        pairs[CHECKING].open(sessions, tokens=nodes.permissions.tokens("HS256", sessions))
        for pair in pairs.values():
            pair.renew(1)
        result = run_rounds({name: partial(pair.renew, times) for name, pair in pairs.items()}, rounds, "renew")
    report.table(f"renewals of {sessions:,} sessions", result, COST, baseline=OPEN, compares="per_cpu_s")
    report.note_busy("renewals", result)
    report.at_least("renewals per CPU second", result, CHECKING, OPEN, "per_cpu_s", RENEWALS_MIN)
    return result


def deliveries(report: Report, nodes: Nodes, subscribers: int, topics: int, times: int, rounds: int) -> Rounds:
    """Publish bursts to subscribers of all topics."""
    wanted = [f"bench/{number:02}" for number in range(topics)]
    with ExitStack() as stack:
        pairs = {}
        for name, (server, token) in nodes.sides().items():
            sink = stack.enter_context(LoadProcess("bench.load.sink"))
            sink.ask(
                "open", protocol="softstate", port=server.port, connections=subscribers, topics=wanted, token=token
            )
            pairs[name] = fanout.Pair(server, sink)
            pairs[name].run("bursts", times=times)
        result = run_rounds({name: partial(_burst, pair, times) for name, pair in pairs.items()}, rounds, "deliveries")
    title = f"deliveries, {subscribers:,} subscribers x {topics} changes at once"
    report.table(title, result, (PER_CPU, *fanout.COST), baseline=OPEN, compares="per_cpu_s")
    judge_within(report, "deliveries per CPU second", result, "per_cpu_s", DELIVERIES_OFF)
    return result


def _burst(pair: fanout.Pair, times: int) -> Figures:
    return with_per_cpu(pair.per_delivery("bursts", times=times))


def polls(report: Report, nodes: Nodes, connections: int, run_s: float, rounds: int) -> Rounds:
    """Poll one topic that has not changed, over kept connections; each request presents the same token."""
    with ExitStack() as stack:
        candidates = {}
        sides = nodes.sides()
        asked: dict[str, Question] = {}
        for name, (server, token) in {**sides, IGNORING: (nodes.open, sides[CHECKING][1])}.items():
            generator = stack.enter_context(LoadProcess("bench.load.closed_loop"))
            generator.ask("open", port=server.port, connections=connections, protocol="http")
            if name == IGNORING:  # of the same node: to publish again would change what the first one polls
                question = replace(asked[OPEN], request=presenting(asked[OPEN].request, token))
            else:
                question = asked[name] = questions(generator, token)[0]
            candidates[name] = partial(_asked, server, generator, question.request, run_s, "HTTP/1.1 200 ")
            candidates[name]()
        result = run_rounds(candidates, rounds, "polls")
    _conclude(report, f"{question.title}, {connections} connections", "polls", result, POLLS_MIN)
    return result


def publishes(report: Report, nodes: Nodes, publishers: int, run_s: float, rounds: int) -> Rounds:
    """Publish over WebSockets, each publisher its own topic."""
    with ExitStack() as stack:
        candidates = {}
        for name, (server, token) in nodes.sides().items():
            generator = stack.enter_context(LoadProcess("bench.load.closed_loop"))
            generator.ask("open", port=server.port, connections=publishers, protocol="softstate", token=token)
            request = request_message(keyed=False)
            candidates[name] = partial(_asked, server, generator, request, run_s, "published")
            candidates[name]()
        result = run_rounds(candidates, rounds, "publishes")
    _conclude(report, f"durable publishes, {publishers} publishers", "publishes", result, PUBLISHES_MIN)
    return result


def _asked(server: Server, generator: LoadProcess, request: str, run_s: float, good: str) -> Figures:
    return with_per_cpu(run_closed_loop(server, generator, request, run_s, good))


def _conclude(report: Report, title: str, what: str, result: Rounds, least: float) -> None:
    report.table(title, result, (PER_CPU, *COLUMNS), baseline=OPEN, compares="per_cpu_s")
    report.note_busy(what, result)
    report.at_least(f"{what} per CPU second", result, CHECKING, OPEN, "per_cpu_s", least)
