"""F-c, F-d and F-h: lease or poll, the frontier of old copies against messages, and the worth of feedback."""

from __future__ import annotations

from dataclasses import replace

from bench.models.measured.announce import announce
from bench.models.measured.copies import Followed, Following, follow
from bench.models.measured.signalling import measure
from bench.models.part import Cell, Figure, Part
from bench.models.theory import announce as announcing, copies, lease_term
from bench.models.theory.announce import Announcing
from bench.models.theory.signalling import Signalling, transmissions

DELAY_S = 0.0011
"""Mean time that a push travels in a simulated network, each of up to 2 ms."""

WORLD = (
    "Measured in worlds of one real node and real clients, each of which follows one topic; changes are a Poisson"
    " process, made by another program. Beats are off unless a row says otherwise, and no poll is held."
)

# Lease or poll -------------------------------------------------------------------------------------------------------

RENEW_S = 20.0
STALE_S = {False: (1.0, 5.0, 10.0, 20.0), True: (5.0,)}
COSTS = {
    False: Following(renew_s=RENEW_S, clients=8, lasts_s=400.0),
    True: Following(renew_s=RENEW_S, clients=4, lasts_s=200.0),
}


def f_c(seed: int, *, quick: bool) -> Part:
    """Find the rate of changes at which lease and poll cost the same."""
    part = Part(
        "F-c",
        "lease or poll: the crossover over the rate of changes (after Gray and Cheriton 1989)",
        "Cost: exchanges a second of one client; a renewal or a poll with its answer is one, and so is a push."
        f" Polling every B seconds is compared with a lease that is renewed every {RENEW_S:g} s; the lease is"
        f" cheaper below λ* = 1/B - 1/R. {WORLD}",
        seed,
    )
    head = ["B s", "poll cost", "λ low", "lease cost", "λ high", "lease cost", "crossover", "model λ*"]
    rows = part.table("exchanges a second of one client", head)
    cost = part.figure("cost of lease and poll", "changes a second", "exchanges a second", log=True)
    for stale_s in STALE_S[quick]:
        model = lease_term.crossover_per_s(stale_s, RENEW_S)
        polling = follow(replace(COSTS[quick], renew_s=None, poll_s=stale_s), seed)
        poll_cost = polling.kinds["poll"] / 2
        slow, fast = (max(model, 0.02) * factor for factor in (0.5, 1.5))
        low, high = (_lease_cost(replace(COSTS[quick], change_per_s=rate), seed) for rate in (slow, fast))
        crossover = max(slow + (poll_cost - low) * (fast - slow) / (high - low), 0.0)
        what = f"crossover at B = {stale_s:g} s"
        if model:
            part.compare(f"{what}, per s", crossover, model, 0.1)
        else:
            part.bound(f"{what}, where the model has none", crossover, NO_CROSSOVER_PER_S, "per s")
        part.compare(f"cost of polling, B = {stale_s:g} s", poll_cost, lease_term.poll_cost_per_s(stale_s))
        part.compare(f"cost of a lease, λ = {fast:.3g}/s", high, lease_term.lease_cost_per_s(RENEW_S, fast), 0.1)
        rows.append([stale_s, poll_cost, slow, low, fast, high, crossover, model])
        for rate, lease_cost in ((slow, low), (fast, high)):
            cost.add(f"poll, B = {stale_s:g} s", rate, poll_cost)
            cost.add("lease", rate, lease_cost)
            cost.add("lease, model", rate, lease_term.lease_cost_per_s(RENEW_S, rate))
    for curve in cost.curves.values():
        curve.sort()
    head = ["term s", "load, of term 0, model", "messages, alone, model", "messages, 10 share, model"]
    title = "the published model alone, nothing is measured: 100 clients that read 0.86 and write 0.04 times a second"
    part.table(title, head).extend(
        [term, lease_term.relative_load(0.86, term), lease_term.consistency_load(100, 0.86, 0.04, 1, term),
         lease_term.consistency_load(100, 0.86, 0.04, 10, term)]
        for term in (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
    )  # fmt: skip
    part.notes += [LEASE_NOTE, BEATS_COST_NOTE]
    return part


NO_CROSSOVER_PER_S = 0.005
"""Rate of changes below which there is no crossover: both costs are the same without changes, but for chance."""
LEASE_NOTE = (
    "a file cache's lease pays for reads, which softstate has none of: a copy is pushed. Its lease costs more"
    " than polling if topics change more often than one would poll, and it is fresh at once then, where a poll is"
    " up to B old"
)
BEATS_COST_NOTE = (
    "with a beat each second, the product's default, a lease costs one message a second more, and is never cheaper in"
    " messages than polling once a second: beats buy the age, not the copy. A beat is a write without an answer"
)


def _lease_cost(given: Following, seed: int) -> float:
    kinds = follow(given, seed).kinds
    return kinds["renew"] + kinds["notify"]


# Old copies against messages -----------------------------------------------------------------------------------------

CHANGE_PER_S = 1 / 20
LOSS = 0.1
LASTS_S = {False: 1_200.0, True: 200.0}
POLLS_S = {False: (2.0, 5.0, 10.0, 20.0, 60.0), True: (5.0, 20.0)}
RENEWALS_S = {False: (5.0, 10.0, 20.0, 60.0), True: (20.0,)}


def f_d(seed: int, *, quick: bool) -> Part:
    """Draw the frontier of old copies against messages."""
    part = Part(
        "F-d",
        "old copies against messages: polling, soft state, hard state",
        f"A topic changes every 20 s; {LOSS:.0%} of all pushes are lost. I: part of the time in which the copy is"
        f" old. M: messages a second of one client, both ways. {WORLD}",
        seed,
    )
    base = Following(change_per_s=CHANGE_PER_S, lasts_s=LASTS_S[quick])
    rows = part.table("the frontier, to be read as I over M", ["M per s", "I measured", "I model", "longest old s", ""])

    frontier = part.figure("part of time in which a copy is old, over messages", "messages a second", "I", log=True)

    def add(name: str, found: Followed, model: float, messages: float | None = None) -> None:
        curve = "poll" if name.startswith("poll") else "soft" if messages is not None else name
        frontier.add(curve, found.messages_per_s, found.inconsistency.value)
        frontier.add(f"{curve}, model", found.messages_per_s, model)
        part.compare(f"I, {name}", found.inconsistency, model)
        if messages is not None:
            part.compare(f"M, {name}", found.messages_per_s, messages, 0.1)
        rows.append([found.messages_per_s, found.inconsistency.value, model, found.worst_s, name])

    for poll_s in POLLS_S[quick]:
        found = follow(replace(base, renew_s=None, poll_s=poll_s), seed)
        add(f"poll every {poll_s:g} s", found, copies.polled_with_jitter(CHANGE_PER_S, poll_s, 0.2), 2 / poll_s)
    for renew_s in RENEWALS_S[quick]:
        found = follow(replace(base, renew_s=renew_s, loss=LOSS), seed)
        repairs = 2 * CHANGE_PER_S * LOSS
        messages = CHANGE_PER_S + 2 / renew_s + repairs
        add(
            f"soft, renewed every {renew_s:g} s", found, copies.repaired(CHANGE_PER_S, DELAY_S, LOSS, renew_s), messages
        )
    found = follow(replace(base, loss=LOSS, feedback=False), seed)
    add("the same, lost pushes overlooked", found, copies.unrepaired(CHANGE_PER_S, DELAY_S, LOSS))
    found = follow(replace(base, loss=LOSS, beats=True, lasts_s=base.lasts_s / 2), seed)
    add("soft, with a beat each second", found, copies.repaired(CHANGE_PER_S, DELAY_S, LOSS, 1.0))
    rows.append(_hard(part, frontier, seed, quick=quick))
    part.notes.append(HARD_NOTE)
    return part


HARD_NOTE = (
    "hard state repairs a lost push within a retransmission (120 ms) as long as both ends live and agree: on a"
    " known channel it is on the frontier, ahead of soft state, and F-g shows it where the channel is not known. Its"
    " row is the simulated sender of T1 over a channel with a delay of its own, not a world of nodes and clients."
    " Over TCP the same retransmission is below both, and what is lost is lost with a connection or a node"
)


HARD_DELAY_S = 0.03
"""The delay for which the retransmission of T1 is tuned; nearly all of the row's I."""


def _hard(part: Part, frontier: Figure, seed: int, *, quick: bool) -> list[Cell]:
    given = Signalling(loss=LOSS, delay_s=HARD_DELAY_S, update_per_s=CHANGE_PER_S, lifetime_s=LASTS_S[quick] * 10)
    measured = measure("HS", given, 40, seed)
    model = transmissions(given) * (2 - LOSS) * CHANGE_PER_S
    part.compare("M, hard state", measured.messages_per_s, model)
    frontier.add("hard state", measured.messages_per_s.value, measured.missing.value)
    name = (
        f"hard state: acknowledged, sent again after {given.retransmit_s * 1e3:g} ms, delay {HARD_DELAY_S * 1e3:g} ms"
    )
    return [measured.messages_per_s.value, measured.missing.value, None, None, name]


# Feedback ------------------------------------------------------------------------------------------------------------

QUEUES = (Announcing(0.1, 0.1, 0.8), Announcing(0.2, 0.05, 0.9), Announcing(0.05, 0.2, 0.7), Announcing(0.4, 0.1, 0.9))
TURNS = {False: 1_000_000, True: 100_000}
FORGOTTEN_PER_S = 1 / 300
FAST_PER_S = 1 / 5


def f_h(seed: int, *, quick: bool) -> Part:
    """Measure announcing in turn, and what feedback and digests are worth."""
    part = Part(
        "F-h",
        "announce and listen, feedback and digests (after Raman and McCanne 1999)",
        "First the queue of the paper, simulated turn by turn: that checks the formulas, and has nothing of the"
        " product. A sender repeats its records in turn; p of the turns are lost, a record"
        " dies behind its turn with probability d, and the load is below 1. With feedback those that the listener"
        " lacks come first, at the same bandwidth. Then the product, whose feedback is the count of pushes and"
        f" the digest in a renewal. {WORLD}",
        seed,
    )
    head = ["", "E[c]", "model", "records held", "model", "with feedback", "gain"]
    rows = part.table("announcing in turn", head)
    for given in QUEUES:
        found = announce(given, TURNS[quick], seed)
        told = announce(given, TURNS[quick], seed, feedback=True)
        what = f"p = {given.loss:g}, d = {given.death:g}, load = {given.load:g}"
        model, share = announcing.consistency(given), announcing.held_share(given)
        part.compare(f"consistency, {what}", found.consistency, model)
        part.compare(f"part of turns wasted, {what}", found.wasted, share)
        rows.append([what, found.consistency, model, found.held, share, told.held, told.held / found.held - 1])
    base = Following(change_per_s=FAST_PER_S, lasts_s=LASTS_S[quick] / 2)
    deaf = replace(base, loss=LOSS, feedback=False)
    cases = (
        ("1 push in 10 lost; counted", replace(base, loss=LOSS), copies.repaired(FAST_PER_S, DELAY_S, LOSS, 20.0)),
        ("the same, not counted", deaf, copies.unrepaired(FAST_PER_S, DELAY_S, LOSS)),
        ("names forgotten every 300 s; digest", replace(base, names_lost_per_s=FORGOTTEN_PER_S),
         copies.forgotten(FAST_PER_S, FORGOTTEN_PER_S, 20.0)),
        ("the same, no digest", replace(base, names_lost_per_s=FORGOTTEN_PER_S, digest=False),
         copies.forgotten_for_good(FAST_PER_S, FORGOTTEN_PER_S, base.lasts_s)),
    )  # fmt: skip
    head = ["", "I", "model", "messages per s", "longest old s"]
    lines = part.table("the product's leases, renewed every 20 s, a change every 5 s", head)
    for what, following, model in cases:
        followed = follow(following, seed)
        part.compare(f"I, {what}", followed.inconsistency, model)
        lines.append([what, followed.inconsistency.value, model, followed.messages_per_s, followed.worst_s])
    part.notes.append(FEEDBACK_NOTE)
    return part


FEEDBACK_NOTE = (
    "the paper reports up to 55 % more consistency with feedback; how much it is depends on loss and load. Without a"
    " digest a forgotten name is never found while the connection lives: its copy is old until the end of the run"
)
