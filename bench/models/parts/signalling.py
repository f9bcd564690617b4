"""T1 and F-g: five variants from pure soft to pure hard state, tuned for their channel, and not."""

from __future__ import annotations

from dataclasses import replace

from bench.models.measured.signalling import Measured, Tuning, measure
from bench.models.part import WITHIN, Part
from bench.models.theory.signalling import VARIANTS, Prediction, Signalling, Variant, chain, deterministic, reliable

SESSIONS = {False: 400, True: 60}
SESSIONS_AWAY = {False: 120, True: 40}
"""Sessions of each variant; away from the default parameters, more if they are shorter."""

SMALL, WITHIN_SMALL = 2e-3, 0.10
"""An inconsistency below `SMALL` may be off by more: it is made of few, rare losses."""

CHAIN_NOTE = (
    "known reasons for which they differ: a constant refresh interval that each trigger"
    " begins once more gives λ/(exp(λT) - 1) refreshes a second instead of 1/T; an orphan lasts for the timeout less"
    " the age of the last message; and 9 % of all messages are sent again although none was lost, since two"
    " exponential delays exceed a timer of four"
)
KINDS_NOTE = (
    "orphan: a lease that nobody wants, so that pushes are wasted; missing: a lease that lacks what is wanted, so that"
    " its client has to poll"
)

MORE_UNRELIABLE = {False: 4, True: 1}
"""Factor of the sessions of variants that acknowledge nothing: rare, long gaps are most of their inconsistency."""

LOOSER = {False: 1.0, True: 2.0}
"""Factor of what may be off, for few sessions."""

DEFAULT = Signalling()
AWAY = (
    ("loss 0.1", replace(DEFAULT, loss=0.1)),
    ("loss 0.3", replace(DEFAULT, loss=0.3)),
    ("lifetime 100 s", replace(DEFAULT, lifetime_s=100.0)),
    ("refresh 1 s", DEFAULT.with_refresh(1.0)),
    ("refresh 30 s", DEFAULT.with_refresh(30.0)),
    ("updates 1/60 s", replace(DEFAULT, update_per_s=1 / 60)),
)


def t1(seed: int, *, quick: bool) -> Part:
    """Measure I and M of the five variants, beside both models."""
    part = Part(
        "T1",
        "inconsistency and messages from pure soft to pure hard state (Ji, Ge, Kurose, Towsley 2003)",
        "Loss 2 %, mean delay 30 ms, refresh 5 s, timeout 15 s, retransmission after 120 ms, updates every 20 s,"
        " lifetime 1,800 s, unless a row says otherwise. The receiver is the product's lease table. Compared is"
        " the model with constant timers, as the product has them; the chain of the paper has exponential ones.",
        seed,
    )
    head = ["", "I chain", "I constant", "I measured", "orphan", "missing", "M chain", "M constant", "M measured"]
    rows = part.table("I and M, a second of a sender's life", head)
    parts: dict[Variant, float] = {}
    for variant in VARIANTS:
        measured = measure(variant, DEFAULT, SESSIONS[quick] * _more(variant, quick=quick), seed)
        model = _compare(part, variant, "", DEFAULT, measured, LOOSER[quick])
        paper = chain(variant, DEFAULT)
        parts[variant] = measured.orphan.value / measured.inconsistency.value
        rows.append([
            variant, paper.inconsistency, model.inconsistency, measured.inconsistency.value,
            measured.orphan.value, measured.missing.value,
            paper.messages_per_s, model.messages_per_s, measured.messages_per_s.value,
        ])  # fmt: skip
    offs = _away(part, seed, quick=quick)
    part.notes.append(
        f"the chain's I is between {min(offs):.2f} and {max(offs):.2f} of what is measured under other parameters;"
        f" {CHAIN_NOTE}"
    )
    part.notes.append(
        f"{KINDS_NOTE}. With removal by timeout alone, orphans are {parts['SS']:.0%} of the inconsistency of SS, and"
        f" {parts['SS+RT']:.0%} of that of SS+RT"
    )
    return part


def _away(part: Part, seed: int, *, quick: bool) -> list[float]:
    """Compare under other parameters; return the chain's I over that measured."""
    head = ["", "variant", "I chain", "I constant", "I measured", "M constant", "M measured"]
    rows = part.table("the same under other parameters, one changed at a time", head)
    losses = part.figure("inconsistency over loss", "loss", "I", log=True)
    offs: list[float] = []
    for what, given in AWAY[:2] if quick else AWAY:
        for variant in VARIANTS:
            sessions = round(SESSIONS_AWAY[quick] * DEFAULT.lifetime_s / given.lifetime_s)
            measured = measure(variant, given, sessions * _more(variant, quick=quick), seed)
            model = _compare(part, variant, what, given, measured, LOOSER[quick])
            paper = chain(variant, given)
            offs.append(paper.inconsistency / measured.inconsistency.value)
            if given.loss != DEFAULT.loss:
                losses.add(variant, given.loss, measured.inconsistency.value)
                losses.add(f"{variant}, model", given.loss, model.inconsistency)
            rows.append([
                what, variant, paper.inconsistency, model.inconsistency, measured.inconsistency.value,
                model.messages_per_s, measured.messages_per_s.value,
            ])  # fmt: skip
    return offs


def _more(variant: Variant, *, quick: bool) -> int:
    return 1 if reliable(variant) else MORE_UNRELIABLE[quick]


def _compare(
    part: Part, variant: Variant, what: str, given: Signalling, measured: Measured, looser: float
) -> Prediction:
    model = deterministic(variant, given)
    name = f"{variant}, {what}" if what else variant
    within = WITHIN_SMALL if model.inconsistency < SMALL else WITHIN
    part.compare(f"I, {name}", measured.inconsistency, model.inconsistency, within * looser)
    part.compare(f"M, {name}", measured.messages_per_s, model.messages_per_s)
    return model


# Unknown conditions --------------------------------------------------------------------------------------------------

TRIES = 4
"""Transmissions of hard state that is tuned for a loss of 2 %: one message in six million is lost for good."""

UNKNOWN = (
    ("as tuned for: loss 0.02, delay 30 ms", DEFAULT),
    ("loss 0.1", replace(DEFAULT, loss=0.1)),
    ("loss 0.3", replace(DEFAULT, loss=0.3)),
    ("loss 0.5", replace(DEFAULT, loss=0.5)),
    ("delay 300 ms", replace(DEFAULT, delay_s=0.3)),
    ("loss 0.3, delay 300 ms", replace(DEFAULT, loss=0.3, delay_s=0.3)),
)
SESSIONS_UNKNOWN = {False: 120, True: 40}


def f_g(seed: int, *, quick: bool) -> Part:
    """Measure soft and hard state where loss and delay are not those for which their timers were set."""
    part = Part(
        "F-g",
        "loss and delay that were not known when timers were set (after Lui, Misra, Rubenstein 2004)",
        "Timers stay as they were set for a loss of 2 % and a delay of 30 ms. Hard state gives a message up after"
        f" {TRIES} transmissions, which loses one in six million there; soft state with acknowledged triggers and"
        " removals (SS+RTR, the product's own way) does the same, and refreshes besides.",
        seed,
    )
    variants: tuple[Variant, ...] = ("SS", "SS+RTR", "HS")
    rows = part.table("I and M", ["", *(f"I {each}" for each in variants), *(f"M {each}" for each in variants)])
    losses = part.figure("inconsistency with timers set for a loss of 0.02", "loss", "I", log=True)
    found: dict[tuple[str, str], Measured] = {}
    for what, given in UNKNOWN[:4] if quick else UNKNOWN:
        for variant in variants:
            found[what, variant] = measure(variant, given, SESSIONS_UNKNOWN[quick], seed, Tuning(TRIES))
        rows.append([what, *(found[what, variant].inconsistency.value for variant in variants)])
        for variant in variants:
            if given.delay_s == DEFAULT.delay_s:
                losses.add(variant, given.loss, found[what, variant].inconsistency.value)
        rows[-1] += [found[what, variant].messages_per_s.value for variant in variants]
    known, worst = UNKNOWN[0][0], UNKNOWN[3][0]
    growth = {v: found[worst, v].inconsistency.value / found[known, v].inconsistency.value for v in variants}
    part.notes.append(
        f"from the known channel to {worst}, I grows {growth['SS+RTR']:.0f}-fold with refreshes and"
        f" {growth['HS']:.0f}-fold without: a message that hard state gave up is missing until the next update,"
        " and a removal that it gave up leaves an orphan until something outside of the protocol finds it, here after"
        f" an hour. That hour is an assumption, and {found[worst, 'HS'].orphan.value:.4g} of the I of HS at {worst} are"
        " such orphans"
    )
    part.bound("I of SS+RTR over that of HS at " + worst, growth["SS+RTR"], growth["HS"])
    return part
