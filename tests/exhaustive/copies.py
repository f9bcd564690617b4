"""Copies of machines, and a test whether two machines are in the same state.

`fork` is a deep copy that knows what is immutable, several times faster than `copy.deepcopy`. A `Freezer` turns an
object into nested tuples that are equal when no future input can tell the objects apart: times become distances from
`now`, serial numbers become ranks, and counters and constants are left out. **A new field of a machine is compared
unless it is listed in `_IGNORED`**; a serial number has to be listed in `_SERIALS`, else no two states are equal and no
search ends.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from random import Random
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import msgspec

_Copier = Callable[[Any, dict[int, Any]], Any]

_SHARED = (
    int, str, float, bytes, type(None), Enum, frozenset, msgspec.Struct, BaseException, Random, Counter,
    FunctionType, BuiltinFunctionType, type,
)  # fmt: skip
"""Immutable, or without influence on what a machine does."""

_IGNORED = frozenset({
    "conn", "request", "_number", "_messages", "_parts", "counts", "dropped", "repeats", "out", "now",
    "random", "_random", "options", "fire", "path_failed", "limits", "url", "_urls", "advice", "body",
    "_children", "answered_url", "last_error", "failure", "newest_error", "_told", "newest", "idle_pages", "idle_since",
    "lease_began", "_brief", "_round_trip_s", "_jitter",
})  # fmt: skip
"""Fields that are not compared: counters, names of things of which there is one, constants, what others imply.

Of answers without an end, too, which no small world has, and of the length of waits, which are all the shortest."""

_SERIALS = frozenset({"serial", "added", "blocked", "_serial", "_reset_serial", "hello_serial", "changed"})
_LEASES = frozenset({"lease", "vouched"})
_DURATIONS = frozenset({"ttl_s", "renew_s", "timeout_s", "key_s", "every_s", "lull_s_max"})


class Shared:
    """Base of objects that all copies share."""


class Low(Random):
    """Draws the point at `part` of every range: 0 is the lowest."""

    part = 0.0

    def uniform(self, a: float, b: float) -> float:
        """Return the point."""
        return a + (b - a) * self.part


def fork(thing: Any, memo: dict[int, Any]) -> Any:
    """Copy a graph of objects. The memo keeps what is shared within the graph shared."""
    kind = type(thing)
    copier = _COPIERS.get(kind)
    if copier is None:
        copier = _COPIERS[kind] = _copier_of(kind)
    if copier is _same:
        return thing
    copied = memo.get(id(thing))
    return copier(thing, memo) if copied is None else copied


def _same(thing: Any, _: dict[int, Any]) -> Any:
    return thing


def _copier_of(kind: type) -> _Copier:
    if issubclass(kind, (*_SHARED, Shared)) or (is_dataclass(kind) and kind.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        return _same
    slots = _slots_of(kind)

    def copy(thing: Any, memo: dict[int, Any]) -> Any:
        made: Any = kind.__new__(kind)
        memo[id(thing)] = made
        if isinstance(thing, dict):
            for key, value in thing.items():
                dict.__setitem__(made, fork(key, memo), fork(value, memo))
        for name in slots:
            object.__setattr__(made, name, fork(getattr(thing, name), memo))
        if hasattr(thing, "__dict__"):
            made.__dict__.update({name: fork(value, memo) for name, value in thing.__dict__.items()})
        return made

    return copy


def _list(thing: list[Any], memo: dict[int, Any]) -> list[Any]:
    made = memo[id(thing)] = []
    made.extend(fork(item, memo) for item in thing)
    return made


def _dict(thing: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    memo[id(thing)] = made
    for key, value in thing.items():
        made[fork(key, memo)] = fork(value, memo)
    return made


def _method(thing: MethodType, memo: dict[int, Any]) -> Any:
    return MethodType(thing.__func__, fork(thing.__self__, memo))


_COPIERS: dict[type, _Copier] = {
    list: _list,
    dict: _dict,
    tuple: lambda thing, memo: tuple(fork(item, memo) for item in thing),
    set: lambda thing, memo: {fork(item, memo) for item in thing},
    deque: lambda thing, memo: deque(fork(item, memo) for item in thing),
    MethodType: _method,
}


def ranks(thing: Any, names: frozenset[str] = _SERIALS) -> dict[int, int]:
    """Number the serials within a graph in their order."""
    found = {0}
    _collect(thing, names, found, set())
    return {serial: rank for rank, serial in enumerate(sorted(found))}


def _collect(thing: Any, names: frozenset[str], found: set[int], seen: set[int]) -> None:
    if isinstance(thing, (*_SHARED, Shared, MethodType)) or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Mapping):
        for item in thing.values():
            _collect(item, names, found, seen)
    elif isinstance(thing, list | tuple | deque | set):
        for item in thing:
            _collect(item, names, found, seen)
    else:
        for name, value in _fields(thing):
            if name in names and isinstance(value, int):
                found.add(value)
            elif name not in _IGNORED:
                _collect(value, names, found, seen)


_SLOTS: dict[type, list[str]] = {}


def _slots_of(kind: type) -> list[str]:
    return [name for base in kind.__mro__ for name in getattr(base, "__slots__", ()) if name[:2] != "__"]


def _fields(thing: Any) -> list[tuple[str, Any]]:
    kind = type(thing)
    slots = _SLOTS.get(kind)
    if slots is None:
        slots = _SLOTS[kind] = _slots_of(kind)
    fields = [(name, getattr(thing, name)) for name in slots]
    return fields + list(thing.__dict__.items()) if hasattr(thing, "__dict__") else fields


class Freezer:
    """Freezes one graph: `now` is its time, `serials` and `leases` its numbers' ranks."""

    def __init__(self, thing: Any, now: float) -> None:
        self._now = now
        self._serials = ranks(thing)
        self._leases = ranks(thing, _LEASES)
        self._seen: set[int] = set()
        self.frozen: Hashable = self._freeze(thing, "")

    def _freeze(self, thing: Any, name: str) -> Hashable:
        if isinstance(thing, float):
            if not math.isfinite(thing):
                return "inf" if thing > 0 else "-inf"
            return thing if name in _DURATIONS else round(thing - self._now, 3)
        if isinstance(thing, int) and name in _SERIALS:
            return self._serials[thing]
        if isinstance(thing, int) and name in _LEASES:
            return self._leases[thing]
        if thing is None or isinstance(thing, int | str | bytes):
            return thing
        if isinstance(thing, MethodType):
            return None
        if isinstance(thing, msgspec.Struct | BaseException | Enum):
            return repr(thing)
        return self._freeze_graph(thing)

    def _freeze_graph(self, thing: Any) -> Hashable:
        if isinstance(thing, dict):
            return tuple(sorted(((str(k), self._freeze(v, "")) for k, v in thing.items()), key=lambda item: item[0]))
        if isinstance(thing, set | frozenset):
            return tuple(sorted(map(str, thing)))
        if isinstance(thing, list | tuple | deque):
            return tuple(self._freeze(item, "") for item in thing)
        if id(thing) in self._seen or isinstance(thing, Shared | Random):
            return "…"
        self._seen.add(id(thing))
        return tuple(self._freeze(value, name) for name, value in _fields(thing) if name not in _IGNORED)
