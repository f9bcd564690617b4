"""``python -m bench churn``: thousands of clients come, go, vanish and return on real sockets, beside models.

Lifetimes are Pareto distributed (a few stay very long), and a quarter of all vanish without closing the connection. A
lease lasts as long as its client; of one that vanished, until the rest of TTL and grace has passed. So the number of
leases is an M/G/infinity queue (`bench.models.theory.churn`, which also serves F-i of ``python -m bench models``).

CPU is compared with costs of an arrival, a renewal, a publish and a delivery that were measured one at a time with few
clients in the same run: below 1, many at once cost less than each for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bench.measure.checkouts import Checkout
from bench.measure.options import Measuring
from bench.measure.progress import Steps
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.speed.churn.scenarios import TERMS, Costs, Terms, costs, flash_crowd, mass_departure, mobile, steady
from softstate.errors import ConfigError

SIZES = {False: (1_000, 5_000, 20_000, 50_000), True: (500,)}
SCENARIOS = ("steady", "crowd", "departure", "mobile")

MODEL_OFF_MAX = 3.0
"""In standard deviations: the number of leases is Poisson distributed."""
MEMORY_OFF_MAX = 1.1
CPU_OFF_MAX = 1.1
JUDGED_FROM = 5_000
"""Clients below which memory that a node takes once, and CPU of calls that come alone, are much of the whole."""
GROWTH_MAX = 1.05

STALE = (Column("stale_p50_s", "staleness p50 ms", 1e3, 1), Column("stale_p99_s", "staleness p99 ms", 1e3, 1))
OPENING = (Column("opening_p50_s", "arrival to subscribed p50 ms", 1e3, 1), Column("opening_p99_s", "p99 ms", 1e3, 1))
TROUBLE = (
    Column("refused", "refused", digits=0),
    Column("timed_out", "timed out", digits=0),
    Column("lost", "lost", digits=0),
)
MEMORY = (
    Column("resident_before", "MiB before", 1 / 1024**2, 1, better=""),
    Column("resident", "MiB resident", 1 / 1024**2, 1),
)
GENERATOR = Column("generator_busy", "generator busy", better="")

LEASES = (
    Column("arrivals_per_s", "arrivals/s", digits=1, better=""),
    Column("leases", "leases held", digits=0, better=""),
    Column("leases_model", "model", digits=0, better=""),
    Column("leases_off", "held / model", digits=3, better=""),
    Column("connections", "connections", digits=0, better=""),
    *STALE,
    *OPENING,
    *TROUBLE,
)
COSTS = (
    Column("workers", "workers", digits=0, better=""),
    Column("renewals_per_s", "renewals/s", digits=0, better=""),
    Column("deliveries_per_s", "deliveries/s", digits=0, better=""),
    Column("cores", "server cores busy"),
    Column("cores_model", "model", better=""),
    Column("cores_off", "CPU / model"),
    Column("resident", "MiB resident", 1 / 1024**2, 1),
    Column("resident_model", "model", 1 / 1024**2, 1, better=""),
    Column("resident_off", "memory / model"),
    Column("session_bytes", "KiB a lease", 1 / 1024),
    Column("parts", "load processes", digits=0, better=""),
    GENERATOR,
)
PRICES = (
    Column("arrival_s", "CPU us/arrival and leaving", 1e6, 0),
    Column("renewal_s", "us/renewal", 1e6, 0),
    Column("publish_s", "us/publish", 1e6, 0),
    Column("delivery_s", "us/delivery", 1e6, 1),
    Column("idle_s", "idle, of a core", digits=4),
)
CROWD = (
    Column("leases_before", "leases before", digits=0, better=""),
    Column("leases", "after", digits=0, better=""),
    Column("leases_model", "model", digits=0, better=""),
    *OPENING,
    Column("opening_most_s", "longest ms", 1e3, 0),
    Column("law_s", "crowd x CPU of an arrival, ms", 1e3, 0, better=""),
    Column("over_law", "p99 over that"),
    *TROUBLE,
    Column("calm_p99_s", "staleness p99 before, ms", 1e3, 1),
    Column("stale_p99_s", "with the crowd", 1e3, 1),
    *MEMORY,
    GENERATOR,
)
DEPARTURE = (
    Column("leases_before", "leases before", digits=0, better=""),
    Column("left", "left", digits=0, better=""),
    Column("leases", "leases after", digits=0, better=""),
    Column("leases_model", "model", digits=0, better=""),
    Column("gone_s", "gone after s"),
    Column("leave_s", "CPU us/leaving, all in all", 1e6, 0),
    Column("calm_p99_s", "staleness p99 before, ms", 1e3, 1),
    Column("stale_p99_s", "of those that stay", 1e3, 1),
    *MEMORY,
    GENERATOR,
)
MOBILE = (
    Column("returned", "returned", digits=0, better=""),
    Column("resumed", "resumed", digits=0, better=""),
    Column("share", "part"),
    Column("share_model", "model", better=""),
    *OPENING,
    *STALE,
    Column("leases", "leases held", digits=0, better=""),
    Column("connections", "connections", digits=0, better=""),
    *TROUBLE,
    Column("cores", "server cores busy"),
    GENERATOR,
)


def churn(measuring: Measuring, sizes: Sequence[int] = (), only: Sequence[str] = ()) -> Report:
    """Measure the scenarios, the steady one at each size. Raises `ConfigError` for what this machine cannot hold."""
    quick = measuring.quick
    terms = TERMS[quick]
    unknown = [name for name in only if name not in SCENARIOS]
    if unknown:
        raise ConfigError(f"there is no scenario {', '.join(unknown)}: --only takes {', '.join(SCENARIOS)}")
    report = measuring.report("churn", "clients come, go, vanish and return on real sockets, beside models")
    sizes = fitting_sizes(report, terms, sizes, SIZES[quick])
    if report.compares:
        compare(report, terms, sizes[0], measuring.rounds)
    elif measuring.rounds_wanted is not None:
        raise ConfigError("churn runs each scenario once: leave out --rounds, or give --against as well")
    else:
        run(report, terms, sizes, only or SCENARIOS)
    report.note(
        f"TTL {terms.ttl_s:g} s, mean lifetime {terms.mean_s:g} s before the longest are cut off, a quarter vanish;"
        f" {terms.publishes_per_s:g} publishes/s to 20 topics a load process, durable; held {terms.hold_s:g} s"
    )
    report.note("staleness: from when a publish was due until a subscriber has it")
    report.note("each scenario ran once, on a server of its own: differences between runs are not shown")
    return report


def fitting_sizes(report: Report, terms: Terms, asked: Sequence[int], default: Sequence[int]) -> list[int]:
    """Return the sizes of the steady state in order; of the default ones those that this machine can hold.

    Raises `ConfigError` if it cannot hold one that was asked for, or none at all.
    """
    fitting = []
    for size in sorted(asked or default):
        try:
            terms.needs(size)
        except ConfigError as refusal:
            if asked or size == min(default):
                raise
            report.note(f"left out: {size:,} clients: {refusal}")
        else:
            fitting.append(size)
    return fitting


def run(report: Report, terms: Terms, sizes: Sequence[int], only: Sequence[str]) -> None:
    """Run scenarios, and add their figures to the report."""
    with Steps("churn", len(sizes) + len(SCENARIOS)) as steps:
        if "steady" in only:
            steps.show(f"costs at {terms.cost_sessions:,} sessions")
            prices = costs(terms)
            holding(report, terms, sizes, prices, steps)
        for name, (title, scenario, columns) in _others(terms).items():
            if name in only:
                steps.show(name)
                rounds = Rounds({name: [scenario()]})
                report.table(title, rounds, columns, baseline="", compares="")
                judge(report, name, rounds)


def _others(terms: Terms) -> dict[str, tuple[str, Callable[[], Figures], Sequence[Column]]]:
    """Return title, scenario and columns of all but the steady one."""
    least_s, most_s = terms.away_s
    return {
        "crowd": (
            f"flash crowd: {terms.crowd:,} come within a second to {terms.crowded:,}",
            partial(flash_crowd, terms),
            CROWD,
        ),
        "departure": (
            f"mass departure: {terms.departure:.0%} of {terms.departing:,} leave within a second, in order",
            partial(mass_departure, terms),
            DEPARTURE,
        ),
        "mobile": (
            f"mobile: all of {terms.mobile:,} that vanish return after {least_s:g} to {most_s:g} s",
            partial(mobile, terms),
            MOBILE,
        ),
    }


def holding(report: Report, terms: Terms, sizes: Sequence[int], prices: Costs, steps: Steps) -> Rounds:
    """Hold the steady state at each size, and judge it."""
    runs: dict[str, list[Figures]] = {}
    for size in sizes:
        steps.show(f"{size:,} sessions")
        runs[f"{size:,} sessions"] = [steady(terms, size, prices)]
    rounds = Rounds(runs)
    name = f"{terms.cost_sessions:,} sessions"
    measured = {column.figure: float(getattr(prices, column.figure)) for column in PRICES}
    report.table("costs, one activity at a time", Rounds({name: [measured]}), PRICES, baseline="", compares="")
    report.table("steady: leases and delays", rounds, LEASES, baseline="", compares="")
    report.table("steady: CPU and memory", rounds, COSTS, baseline="", compares="")
    everything = [each[0] for each in runs.values()]
    off = max(abs(figures["off_sd"]) for figures in everything)
    report.figure_at_most("leases held, furthest from the model", off, MODEL_OFF_MAX, "standard deviations")
    grown = max(figures["growth"] for figures in everything)
    report.figure_at_most("memory in the last third over the third before, most", grown, GROWTH_MAX, "x")
    if sizes[-1] >= JUDGED_FROM:
        for figure, title, limit in (
            ("cores_off", "CPU", CPU_OFF_MAX), ("resident_off", "memory", MEMORY_OFF_MAX),
        ):  # fmt: skip
            report.figure_at_most(f"{title} over the model, {sizes[-1]:,} clients", everything[-1][figure], limit, "x")
    judge(report, "steady", rounds)
    report.note_busy("steady", rounds)
    return rounds


def judge(report: Report, name: str, rounds: Rounds) -> None:
    """Judge what must not be in any run of a scenario."""
    everything = [figures for runs in rounds.runs.values() for figures in runs]
    unwanted = ["behind", "mismatches"] if name == "crowd" else ["behind", "mismatches", "lost"]
    for figure in unwanted:
        title = {
            "behind": "clients that lack the newest value in the end",
            "mismatches": "renewals that found another set of names",
            "lost": "connections and leases lost unasked",
        }[figure]
        total = sum(figures[figure] for figures in everything)
        report.targets.append(Target(f"{name}: {title}", "0", f"{total:g}", total == 0))
    if name == "mobile":
        off = max(abs(figures["off_sd"]) for figures in everything)
        report.figure_at_most("mobile: part that resumes, from the model", off, MODEL_OFF_MAX, "standard deviations")


def compare(report: Report, terms: Terms, sessions: int, rounds: int) -> Rounds:
    """Hold the steady state of so many clients on a new server of each checkout in each round."""

    def hold(checkout: Checkout) -> Figures:
        return steady(terms, sessions, checkout=checkout)

    named = report.checkouts.named("softstate")
    result = run_rounds({name: partial(hold, checkout) for name, checkout in named.items()}, rounds, "churn")
    columns = [*LEASES, *(column for column in COSTS if "model" not in column.figure and column.figure != "cores_off")]
    report.table(f"steady, {sessions:,} sessions", result, columns, baseline="", compares="")
    return result
