"""The state of several nodes over time, sans-I/O: their last answers, the rates between two, and how old they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RATES = {"deliveries_per_s": "deliveries", "publishes_per_s": "publishes"}
"""The rates that are shown, and the counts of `/v1/status` that they are made of."""


@dataclass(frozen=True, slots=True)
class Look:
    """One answer of a node, at a time in seconds."""

    at: float
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One node as it is shown: `age_s` is how old what is known of it is, None if it has never answered.

    `error` is why it did not answer now, empty if it did.
    """

    url: str
    age_s: float | None
    error: str
    told: Mapping[str, Any]
    rates: Mapping[str, float | None]

    @property
    def up(self) -> bool:
        """Whether it has answered now."""
        return not self.error

    def fields(self) -> dict[str, Any]:
        """Return it for programs."""
        told, clients = self.told, self.clients
        return {
            "url": self.url,
            "up": self.up,
            "known_age_s": None if self.age_s is None else round(self.age_s, 3),
            **({} if self.up else {"error": self.error}),
            **{name: told.get(name) for name in ("node", "role", "store", "store_state", "durability", "revision")},
            **{name: told.get(name) for name in ("sessions", "polling", "streams", "congested", "memory_bytes")},
            "repairs": self.repairs,
            **{name: None if rate is None else round(rate, 1) for name, rate in self.rates.items()},
            **{name: clients.get(name) for name in ("age_p50_s", "age_p99_s", "age_max_s")},
            "modes": clients.get("modes"),
        }

    @property
    def clients(self) -> Mapping[str, Any]:
        """The ages and modes that its clients have told; empty if it tells none."""
        found = self.told.get("clients")
        return found if isinstance(found, Mapping) else {}

    @property
    def repairs(self) -> int | None:
        """How many repairs it has made, of all kinds; None if it has never answered."""
        found = self.told.get("repairs")
        return sum(found.values()) if isinstance(found, Mapping) else None


class Board:
    """The knowledge of the nodes at `urls`."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = list(dict.fromkeys(urls))
        self._last: dict[str, Look] = {}
        self._before: dict[str, Look] = {}
        self._errors: dict[str, str] = {}

    def take(self, now: float, url: str, told: Mapping[str, Any] | None, error: str = "") -> None:
        """Take the answer of a node, None with the error if there was none."""
        if told is None:
            self._errors[url] = error or "it does not answer"
            return
        self._errors.pop(url, None)
        last = self._last.get(url)
        # A node that was started again, or another worker of it, counts from another beginning.
        if last is not None and last.told.get("node") == told.get("node"):
            self._before[url] = last
        else:
            self._before.pop(url, None)
        self._last[url] = Look(now, told)

    def rows(self, now: float) -> list[Row]:
        """Return all nodes, in the order in which they were named."""
        return [self._row(url, now) for url in self._urls]

    def _row(self, url: str, now: float) -> Row:
        last, error = self._last.get(url), self._errors.get(url, "")
        if last is None:
            return Row(url, None, error or "not asked yet", {}, dict.fromkeys(RATES))
        rates = {name: None if error else self._rate(url, count) for name, count in RATES.items()}
        return Row(url, now - last.at, error, last.told, rates)

    def _rate(self, url: str, count: str) -> float | None:
        last, before = self._last[url], self._before.get(url)
        if before is None or last.at <= before.at:
            return None
        passed: int = last.told.get(count, 0) - before.told.get(count, 0)
        return max(passed, 0) / (last.at - before.at)


def together(rows: Iterable[Row]) -> dict[str, Any]:
    """Add up the nodes that have answered; ages are those of the worst node."""
    up = [row for row in rows if row.up]

    def total(name: str) -> int:
        return sum(row.told.get(name) or 0 for row in up)

    modes: dict[str, int] = {}
    for row in up:
        for mode, count in (row.clients.get("modes") or {}).items():
            modes[mode] = modes.get(mode, 0) + count
    return {
        "nodes_up": len(up),
        "sessions": total("sessions"),
        "polling": total("polling"),
        "revision": max((row.told.get("revision") or 0 for row in up), default=None),
        "stores": sorted({f"{row.told.get('store')}, {row.told.get('durability')}" for row in up}),
        "store_down": sum(row.told.get("store_state") == "down" for row in up),
        "modes": modes,
        **{name: _worst(row.clients.get(name) for row in up) for name in ("age_p50_s", "age_p99_s", "age_max_s")},
    }


def _worst(ages: Iterable[float | None]) -> float | None:
    return max((age for age in ages if age is not None), default=None)
