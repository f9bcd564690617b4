"""``python -m bench libraries``: official client libraries, with their defaults, while servers and networks fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, run_rounds
from bench.measure.servers import folder
from bench.peers.clients.candidates import Candidate, candidates
from bench.peers.clients.failures import DOWN_S, PINGS_S, Outcome, kill, partition
from bench.peers.systems import Places
from softstate.web import bundle

CLIENTS = 200
CLIENTS_QUICK = 20
PARTITIONS_S = (5.0, 30.0)
PARTITIONS_QUICK_S = (5.0,)
PATIENCE_S = 60.0
"""Time in which clients have to hear a change once a failure is over: thrice the longest backoff of all libraries."""

TOLD = (Column("told_p50_s", "told, s (p50)", digits=1), Column("told_all_s", "told (all)", digits=1))
FRESH = (Column("tick_p50_s", "next change, s (p50)"), Column("tick_all_s", "(all)"))
ONCE = (Column("still_share", "the one value: known, %", 100, 0), Column("still_all_s", "by all, s"))
REST = (
    Column("dials", "dials", digits=1),
    Column("unwarned_s", "unwarned, s"),
    Column("stated_s", "age at most, s", digits=1),
)
KILL_COLUMNS = (
    *TOLD, *FRESH, *ONCE, Column("newcomer_share", "newcomers know the last, %", 100, 0), *REST,
)  # fmt: skip
PARTITION_COLUMNS = (*TOLD, *FRESH, *ONCE, *REST)

EXPLAINED = (
    "told: the library said that what is held may be old; inf: it never did. softstate's age also grows meanwhile",
    "the one value was published when a kill was over, or packets began to be lost; its topic had nothing after it",
    "unwarned: the longest time for which an application held an old value, and nothing it was told allowed for it",
    "softstate states an age instead; there, unwarned is by how much an age was too low",
)


def libraries(measuring: Measuring, places: Places, only: Sequence[str] = ()) -> Report:
    """Measure what is installed, and return the report. Raises `ConfigError`."""
    measuring.refuse_against("libraries", "it compares client libraries, not two checkouts")
    clients = CLIENTS_QUICK if measuring.quick else CLIENTS
    report = measuring.report("libraries", f"client libraries with their defaults, {clients} clients in one process")
    with folder() as made:
        bundle.write(made)
        found, notes = candidates(places, made, only)
        add_tables(report, found, measuring, clients)
    for note in (*notes, *EXPLAINED):
        report.note(note)
    return report


def add_tables(report: Report, found: dict[str, Candidate], measuring: Measuring, clients: int) -> None:
    """Add a table for each failure to a report, and notes about what applications were told."""
    for name, candidate in found.items():
        system = candidate.system
        report.note(f"{name}: {candidate.library}; server: {system.version}; a publish survives {system.durable}")
    title = f"kill -9 of the server, {DOWN_S:g} s down; “told” counts from the kill, the rest since it listens again"
    _table(report, found, measuring, title, KILL_COLUMNS, lambda each: kill(each, clients, PATIENCE_S), "kill -9")
    for seconds in PARTITIONS_QUICK_S if measuring.quick else PARTITIONS_S:
        title = f"all packets lost for {seconds:g} s; “told” counts from the first, the rest from the heal"
        lost = partial(_lost, clients, seconds)
        _table(report, found, measuring, title, PARTITION_COLUMNS, lost, f"packets lost for {seconds:g} s")


def _lost(clients: int, seconds: float, candidate: Candidate) -> Outcome:
    # A shorter one ends before any ping is missed.
    return partition(candidate, clients, seconds, PATIENCE_S, PINGS_S if seconds >= PINGS_S else 0.0)


def _table(
    report: Report,
    found: dict[str, Candidate],
    measuring: Measuring,
    title: str,
    columns: Sequence[Column],
    fail: Callable[[Candidate], Outcome],
    label: str,
) -> None:
    stories: dict[str, str] = {}

    def measure(name: str) -> Figures:
        outcome = fail(found[name])
        stories.setdefault(name, outcome.story)
        return outcome.figures

    rounds = run_rounds({name: partial(measure, name) for name in found}, measuring.rounds, label)
    report.table(title, rounds, columns, baseline="", compares="")
    for name, story in stories.items():
        report.note(f"{label}: {name} told its applications: {story}")
