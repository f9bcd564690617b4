"""The oracle: checks S1, S2, S5, S7, S8 and S9 at every step. It shares no code with the machines that it checks."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from softstate.model import Record
from softstate.position import Position

Entry: TypeAlias = Record | Position
"""A commit: a change, or a lineage row. The entry at index i has revision i + 1."""


class Counterexample(AssertionError):
    """A promise does not hold: which one, and the steps (`trace`) that lead there."""

    def __init__(self, promise: str, detail: str) -> None:
        super().__init__(f"{promise}: {detail}")
        self.promise = promise
        self.trace: tuple[str, ...] = ()


class View(NamedTuple):
    """One application's view. `seen` are the changes delivered since its last `Reset`, `held` the newest of each topic.

    `held` has topic, version and value, None when deleted. After a reset old values have version 0. `asked` has the
    store's head at the moment in which each request was sent.
    """

    held: tuple[tuple[str, int, str | None], ...] = ()
    seen: frozenset[tuple[str, int, str | None]] = frozenset()
    position: Position | None = None
    """The client's position before the input that is being taken."""
    asked: tuple[tuple[str, int], ...] = ()


class Store(NamedTuple):
    """All commits of the present history, and of the history before the rewind, if there was one.

    `unseen` is the row with which the present one begins, as long as the node has not noticed the rewind.
    """

    entries: tuple[Entry, ...]
    past: tuple[Entry, ...] | None = None
    rows: int = 1
    unseen: Position | None = None


def state_at(entries: tuple[Entry, ...], revision: int) -> dict[str, tuple[int, str | None]]:
    """Return the version and value of each topic at a revision."""
    state = {}
    for entry in entries[:revision]:
        if isinstance(entry, Record):
            state[entry.topic] = (entry.version, None if entry.cbor is None else entry.cbor.decode())
    return state


def contains(entries: tuple[Entry, ...], position: Position) -> bool:
    """Tell whether a position is on a history."""
    rows = [entry for entry in entries[: position.revision] if isinstance(entry, Position)]
    return position.revision <= len(entries) and bool(rows) and rows[-1].lineage == position.lineage


def _has(entries: tuple[Entry, ...], topic: str, version: int, value: str | None) -> bool:
    return version <= len(entries) and state_at(entries, version).get(topic) == (version, value)


def delivered(view: View, store: Store, topic: str, version: int, value: str | None) -> View:
    """Check a change that the application is given."""
    held = {t: (n, v) for t, n, v in view.held}
    before = held.get(topic, (0, None))
    if version <= before[0]:
        promise = "S8" if before[1] is None and value is not None else "S1"
        raise Counterexample(promise, f"{topic}@{version} was delivered after @{before[0]}")
    histories = [store.entries] if store.past is None else [store.entries, store.past]
    histories = [history for history in histories if _fits(history, topic, version, value)]
    if not histories:
        raise Counterexample("S2", f"{topic}@{version}={value} was never committed")
    together = [history for history in histories if all(_fits(history, *change) for change in view.seen)]
    if view.position is not None:
        together = [history for history in together if contains(history, view.position)]
    if not together:
        raise Counterexample(
            "S9", f"{topic}@{version}={value} is of another history than {view.position} and what was seen"
        )
    held[topic] = (version, value)
    return view._replace(held=_sorted(held), seen=view.seen | {(topic, version, value)})


def _fits(history: tuple[Entry, ...], topic: str, version: int, value: str | None) -> bool:
    """Tell whether a delivery is of a history: a commit of it, or the sweep of a topic that has no value then."""
    if _has(history, topic, version, value):
        return True
    return value is None and version <= len(history) and state_at(history, version).get(topic, (0, None))[1] is None


def was_reset(view: View, position: Position) -> View:
    """Take note of a `Reset`: old values stay readable, without a version."""
    held: dict[str, tuple[int, str | None]] = {t: (0, value) for t, _, value in view.held if value is not None}
    return view._replace(held=_sorted(held), seen=frozenset(), position=position)


def sent(view: View, request: str, head: int) -> View:
    """Take note of a request."""
    return view._replace(asked=(*(asked for asked in view.asked if asked[0] != request), (request, head)))


def answered(view: View, request: str) -> View:
    """Take note of the last answer to a request."""
    return view._replace(asked=tuple(asked for asked in view.asked if asked[0] != request))


def fresh(view: View, request: str, position: Position) -> None:
    """Check that a certificate covers all that was committed before its request was sent: S5, without a clock.

    Requests from before a rewind are not among those asked any more.
    """
    head = dict(view.asked).get(request, 0)
    if head > position.revision:
        raise Counterexample("S5", f"{request}, sent when the store was at {head}, is answered as of {position}")


def certified(view: View, store: Store, covered: tuple[str, ...], revision: int, position: Position) -> None:
    """Check a certificate as of `position`: by now everything up to `revision`, or newer, is held (S7).

    `revision` may be above the position's: an earlier certificate went further, and this one is only younger.
    """
    histories = [history for history in (store.entries, store.past) if history and contains(history, position)]
    if not histories or revision < position.revision:
        raise Counterexample("S7", f"certified up to {revision} by {position}, which is on {len(histories)} histories")
    wrong = [_missing(view, history, covered, revision) for history in histories if len(history) >= revision]
    if not wrong or all(wrong):
        raise Counterexample("S7", f"certified up to {revision} by {position}, {' or '.join(map(str, wrong))}")


def _missing(view: View, history: tuple[Entry, ...], covered: tuple[str, ...], revision: int) -> str | None:
    """Describe what a client does not know of a history up to a revision; None if it knows all."""
    state, held = state_at(history, revision), {t: (n, v) for t, n, v in view.held}
    for topic in covered:
        version, value = state.get(topic, (0, None))
        known = held.get(topic, (0, None))
        if known == (version, value) or (known[1] is None and value is None):
            continue
        if not (known[0] > revision and _fits(history, topic, *known)):
            return f"where {topic} is {value}@{version}, but known is {known[1]}@{known[0]}"
    return None


def agrees(view: View, store: Store, covered: tuple[str, ...]) -> bool:
    """Tell whether what is held equals the store."""
    state = state_at(store.entries, len(store.entries))
    alive: dict[str, Any] = {t: state[t] for t in covered if t in state and state[t][1] is not None}
    return {t: (n, v) for t, n, v in view.held if v is not None and t in covered} == alive


def _sorted(held: dict[str, tuple[int, str | None]]) -> tuple[tuple[str, int, str | None], ...]:
    return tuple(sorted((topic, version, value) for topic, (version, value) in held.items()))
