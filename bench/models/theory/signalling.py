"""Five ways to keep a receiver's copy of a sender's state: Ji, Ge, Kurose and Towsley, SIGCOMM 2003.

The sender is a client and what it subscribes to, the receiver a node and its lease, a refresh a renewal, the state
timer the TTL. From pure soft to pure hard state:

- ``SS``: triggers and refreshes without acknowledgement, removal by timeout alone;
- ``SS+ER``: and an explicit removal, sent once;
- ``SS+RT``: triggers are acknowledged and sent again; the sender is told when its state was dropped;
- ``SS+RTR``: and removals likewise;
- ``HS``: no refreshes and no timeout; all is acknowledged, and the end of a sender is found by other means.

Two quantities: the *inconsistency* I, the part of time in which both differ, and the *messages* M, a second of a
sender's life, acknowledgements counted. They are computed in two ways. `chain` is the Markov chain of the paper: every
timer is exponential. `deterministic` has the timers of a real implementation, which are constant; only channel, updates
and lifetimes are random there. Both say the same in their order of variants, and differ by up to a half in figures.

The chain and its parameters are from the abstract of the paper and from notes on it; no figure of the paper itself was
compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

Variant: TypeAlias = Literal["SS", "SS+ER", "SS+RT", "SS+RTR", "HS"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

STATES = ("10f", "10s", "eq", "nf", "ns", "01f", "01s")
"""Of sender and receiver: 10 only the sender has state, eq equal, n not equal, 01 only the receiver has; f: a message
about it is in flight, s: it was lost."""

DELAYS_MAX = 20.0
"""Mean delays after which a message has arrived, for integrals."""

STEPS = 64
"""Steps of an integral between two kinks; even, for Simpson's rule."""

ROUNDING = 1e-9

NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True)
class Signalling:
    """The parameters, times in seconds: of the paper, as far as notes on it tell, unless others are given.

    `update_per_s` is the rate of updates at the sender. `lifetime_s`, `delay_s`: means of exponential distributions.
    `refresh_s` counts from the last refresh or trigger. `retransmit_s`: until an unanswered message is sent again.
    """

    loss: float = 0.02
    delay_s: float = 0.03
    refresh_s: float = 5.0
    timeout_s: float = 15.0
    retransmit_s: float = 0.12
    update_per_s: float = 1 / 20
    lifetime_s: float = 1800.0

    def with_refresh(self, refresh_s: float) -> Signalling:
        """Return the same with another refresh interval, and a timeout of three of them."""
        return replace(self, refresh_s=refresh_s, timeout_s=3 * refresh_s)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The figures of a model: the part of time in which sender and receiver differ, and messages a second."""

    inconsistency: float
    messages_per_s: float


def soft(variant: Variant) -> bool:
    """Tell whether a variant refreshes, and times out."""
    return variant != "HS"


def reliable(variant: Variant) -> bool:
    """Tell whether a variant acknowledges triggers."""
    return variant in ("SS+RT", "SS+RTR", "HS")


def explicit(variant: Variant) -> bool:
    """Tell whether a variant says when the sender ends."""
    return variant in ("SS+ER", "SS+RTR", "HS")


def reliable_removal(variant: Variant) -> bool:
    """Tell whether a variant acknowledges removals."""
    return variant in ("SS+RTR", "HS")


# The chain -----------------------------------------------------------------------------------------------------------


def chain(variant: Variant, given: Signalling) -> Prediction:
    """Solve the Markov chain of a variant for I; M from its rates."""
    weights = stationary(_rates(variant, given))
    return Prediction(1 - weights[STATES.index("eq")], _chain_messages(variant, given))


def _rates(variant: Variant, given: Signalling) -> list[list[float]]:
    loss, delay_s, end = given.loss, given.delay_s, 1 / given.lifetime_s
    rates = [[0.0] * len(STATES) for _ in STATES]

    def add(before: str, after: str, per_s: float) -> None:
        rates[STATES.index(before)][STATES.index(after)] += per_s

    repaired, orphan_gone, dropped = _repair_per_s(variant, given), _orphan_per_s(variant, given), false_removal(given)
    for flying, lost in (("10f", "10s"), ("nf", "ns")):
        add(flying, "eq", (1 - loss) / delay_s)
        add(flying, lost, loss / delay_s)
        add(lost, "eq", repaired)
        add(lost, flying, given.update_per_s)
    add("eq", "nf", given.update_per_s)
    for state in ("eq", "nf", "ns"):
        add(state, "01f" if explicit(variant) else "01s", end)
        if soft(variant):
            add(state, "10f" if reliable(variant) else "10s", dropped)
    add("10s", "10f", end)
    if explicit(variant):
        add("01f", "10f", (1 - loss) / delay_s)
        add("01f", "01s", loss / delay_s)
    else:
        add("01f", "10f", 1.0)  # a state that is never entered needs a way out, for the solution to be unique
    add("01s", "10f", orphan_gone)
    return rates


def _repair_per_s(variant: Variant, given: Signalling) -> float:
    """Return the rate at which a lost trigger is repaired."""
    sent = (1 / given.refresh_s if soft(variant) else 0) + (1 / given.retransmit_s if reliable(variant) else 0)
    return (1 - given.loss) * sent


def _orphan_per_s(variant: Variant, given: Signalling) -> float:
    """Return the rate at which state goes whose sender has ended, once no removal is in flight."""
    timed = 1 / given.timeout_s if soft(variant) else 0
    return timed + ((1 - given.loss) / given.retransmit_s if reliable_removal(variant) else 0)


def false_removal(given: Signalling) -> float:
    """Return the rate at which state times out since all refreshes of one timeout were lost."""
    return given.loss ** int(given.timeout_s // given.refresh_s) / given.timeout_s


def _chain_messages(variant: Variant, given: Signalling) -> float:
    loss, update, end = given.loss, given.update_per_s, 1 / given.lifetime_s

    def again(resolved_per_s: float) -> float:
        """Return acknowledgements and retransmissions for each message."""
        return 1 - loss + (2 - loss) * loss / (resolved_per_s * given.retransmit_s)

    messages = update + end
    if soft(variant):
        messages += 1 / given.refresh_s
    if reliable(variant):
        messages += (update + end) * again(_repair_per_s(variant, given) + update)
    if explicit(variant):
        messages += end
    if reliable_removal(variant):
        messages += end * again(_orphan_per_s(variant, given))
    return messages


def stationary(rates: Sequence[Sequence[float]]) -> list[float]:
    """Return the stationary distribution of a continuous Markov chain, by Gaussian elimination.

    `rates` has the rate from each state (row) to each other one (column); it must have one recurrent class.
    """
    size = len(rates)
    # Balance in each state but the last: in minus out is 0. In place of the last one: all weights add up to 1.
    rows = [
        [rates[source][state] - (sum(rates[state]) if source == state else 0.0) for source in range(size)] + [0.0]
        for state in range(size - 1)
    ]
    rows.append([1.0] * size + [1.0])
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(size):
            if row != column and rows[row][column]:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [mine - factor * other for mine, other in zip(rows[row], rows[column], strict=True)]
    return [rows[row][size] / rows[row][row] for row in range(size)]


# Constant timers -----------------------------------------------------------------------------------------------------


def deterministic(variant: Variant, given: Signalling) -> Prediction:
    """Predict I and M with constant timers.

    An update is inconsistent until a copy of its newest message arrives: copies are sent at once, at each refresh, and
    at each retransmission. An orphan lasts for what is left of the timeout, which counts from the last message that
    arrived. State that agrees times out falsely if nothing arrives for one timeout, and is back with the next message
    that does, or as soon as the sender, which is told once, has sent it again.
    """
    life_s, update, loss = given.lifetime_s, given.update_per_s, given.loss
    lagging_s = _inconsistent_s(_copies(variant, given), given)
    orphan_s = _orphan_s(variant, given)
    interval_s = -math.expm1(-update * given.refresh_s) / update
    dropped_per_s, missing_s = 0.0, 0.0
    if soft(variant):
        dropped_per_s = _dropped_per_s(given)
        missing_s = interval_s / (1 - loss)
        if reliable(variant):  # a trigger comes through, soon after the update
            refreshed_s = interval_s / (1 - loss * math.exp(-update * given.refresh_s))
            missing_s = (1 - loss) * (given.delay_s + lagging_s) + loss * refreshed_s
    share = 1 / (1 + update * lagging_s + dropped_per_s * missing_s)
    inconsistency = 1 - life_s / (life_s + orphan_s) * share * life_s / (life_s + lagging_s)
    return Prediction(inconsistency, _messages(variant, given))


def _dropped_per_s(given: Signalling) -> float:
    """Return the rate of false timeouts while both agree.

    A timeout that an update came before ends what was inconsistent already. Without one, only refreshes are sent. So
    from each message that arrives on, both agree until an update, or until all refreshes of a timeout were lost; one
    that is due as the timeout ends counts, too.
    """
    update, refresh_s, loss = given.update_per_s, given.refresh_s, given.loss
    whole = math.floor(given.timeout_s / refresh_s + ROUNDING)
    rest_s = max(given.timeout_s - whole * refresh_s, 0.0)
    kept = loss * math.exp(-update * refresh_s)
    agree_s = sum(kept**number for number in range(whole)) * -math.expm1(-update * refresh_s) / update
    agree_s += kept**whole * -math.expm1(-update * rest_s) / update
    return float(loss**whole * math.exp(-update * given.timeout_s) / agree_s)


def _copies(variant: Variant, given: Signalling) -> list[float]:
    """Return the times after an update at which its state is sent, as long as none has arrived and none follows."""
    until_s = 40 * given.refresh_s
    times = {0.0}
    if soft(variant):
        times |= {number * given.refresh_s for number in range(1, 41)}
    if reliable(variant):
        times |= {number * given.retransmit_s for number in range(1, 41)}
    return sorted(time for time in times if time <= until_s)


def _lost(sent: Sequence[float], given: Signalling) -> Callable[[float], float]:
    """Return the probability that none of the copies has arrived by a time."""

    def lost(at_s: float) -> float:
        product = 1.0
        for time in sent:
            if time >= at_s:
                break
            product *= 1 + (1 - given.loss) * math.expm1(-(at_s - time) / given.delay_s)
        return product

    return lost


def _integral(of: Callable[[float], float], kinks: Sequence[float], delay_s: float) -> float:
    """Integrate from 0 on, by Simpson's rule between kinks, behind each of which the function falls within delays."""
    total = 0.0
    for begins, ends in pairwise([*kinks, kinks[-1] + DELAYS_MAX * delay_s]):
        middle = min(begins + DELAYS_MAX * delay_s, ends)
        part = _simpson(of, begins, middle) + (_simpson(of, middle, ends) if middle < ends else 0.0)
        total += part
        if part < NEGLIGIBLE * max(total, NEGLIGIBLE):
            break
    return total


def _simpson(of: Callable[[float], float], begins: float, ends: float) -> float:
    step = (ends - begins) / STEPS
    weights = [1, *([4, 2] * (STEPS // 2))[:-1], 1]
    # A copy is sent at `begins`: the value just behind it is wanted, and the same just ahead of `ends`.
    inside = [begins + step * min(max(number, 1e-9), STEPS - 1e-9) for number in range(STEPS + 1)]
    return step / 3 * sum(weight * of(at) for weight, at in zip(weights, inside, strict=True))


def _inconsistent_s(sent: Sequence[float], given: Signalling) -> float:
    """Return the mean time of inconsistency for each update; the next update before the end of it begins it once more.

    With S(t) the probability that no copy has arrived by t, and updates at rate r: J = ∫ S(t) exp(-r t) dt is the mean
    time until a copy or an update comes, and r J the probability that the update comes first.
    """
    lost, update = _lost(sent, given), given.update_per_s
    until = _integral(lambda at: lost(at) * math.exp(-update * at), sent, given.delay_s)
    return until / (1 - update * until)


def _orphan_s(variant: Variant, given: Signalling) -> float:
    """Return the mean time for which a receiver holds state whose sender has ended."""
    left_s = given.timeout_s - _age_s(variant, given) + given.delay_s if soft(variant) else math.inf
    if not explicit(variant):
        return left_s
    if not reliable_removal(variant):
        return (1 - given.loss) * given.delay_s + given.loss * left_s
    copies = [number * given.retransmit_s for number in range(41)]
    return _integral(_lost(copies, given), copies, given.delay_s)


def _age_s(variant: Variant, given: Signalling) -> float:
    """Return the mean time since the last message was sent that arrived, at a random time.

    The time since the last one was sent has the density r exp(-r t), cut off at the refresh interval T.
    """
    update, refresh_s, loss = given.update_per_s, given.refresh_s, given.loss
    kept = math.exp(-update * refresh_s)
    sent_s = 1 / update - refresh_s * kept / (1 - kept)
    if reliable(variant):  # only refreshes are lost
        return sent_s + refresh_s * kept * loss / (1 - kept * loss)
    return sent_s + loss / (1 - loss) * (1 - kept) / update


def transmissions(given: Signalling) -> float:
    """Return how often a message is sent until one of its acknowledgements arrives, in the mean.

    The way there and back takes two exponential delays: a constant timer of four of them fires too early for 9 % of the
    messages of which none was lost.
    """

    def answered(within_s: float) -> float:
        delays = within_s / given.delay_s
        return (1 - given.loss) ** 2 * (1 - math.exp(-delays) * (1 + delays))

    total, unanswered, number = 0.0, 1.0, 0
    while unanswered > NEGLIGIBLE:
        total += unanswered
        number += 1
        unanswered = math.prod(1 - answered(copy * given.retransmit_s) for copy in range(1, number + 1))
    return total


def _messages(variant: Variant, given: Signalling) -> float:
    update, end = given.update_per_s, 1 / given.lifetime_s
    each = transmissions(given) * (2 - given.loss)
    messages = (update + end) * (each if reliable(variant) else 1)
    if soft(variant):
        messages += update / math.expm1(update * given.refresh_s)
    if explicit(variant):
        messages += end * (each if reliable_removal(variant) else 1)
    return messages
