"""A record of the faults, for the oracle: which of them suspend a promise, and for how long."""

from __future__ import annotations

import math
from typing import final

from softstate.testing.trace import FaultInjected, NodeStarted

STORE_FAULTS = frozenset({"store_down", "store_hang", "store_slow", "call_slow", "store_read_only", "feed_stuck"})
STORE_ENDS = {
    "store_up": "store_down",
    "store_resumed": "store_hang",
    "store_writable": "store_read_only",
    "feed_moves": "feed_stuck",
}
HINDRANCES = frozenset({"stop_reading", "read_slowly", "freeze", "stall", "partition", "half_open", "slow", "split"})
"""Faults with which a node may have to wait before it can write."""
SLOW_NO_MORE = "0 to 0 s"
SETTLE_S = 60.0
"""Seconds after the end of a store fault for which live clients may still be uncertified."""

CLOCK_ERROR_MAX = 0.01
NO_FAULTS = frozenset({"backup", "restart", "heal"})


@final
class FaultRecord:
    """The faults so far. `last_at_s` is when one last began or ended, `healed_at_s` when all ended (None: not yet)."""

    def __init__(self) -> None:
        self.last_at_s = 0.0
        self.healed_at_s: float | None = 0.0
        self._rates: dict[str, tuple[float, float]] = {}
        self._nodes: set[str] = set()
        self._woken: dict[str, float] = {}
        self.wall_error_s = 0.0
        """How wrong the clock for people of any node may have been."""
        self._jumped_at = self._frames_until = -math.inf
        self._read_slowly: set[str] = set()
        self._hindered: set[str] = set()
        self._slow_links: dict[frozenset[str], tuple[float, float]] = {}
        self._store_faults: set[tuple[str, str]] = set()
        self._store_until = -SETTLE_S

    def node_started(self, event: NodeStarted) -> None:
        """Record which hosts are nodes."""
        self._nodes.add(event.node)

    def take(self, event: FaultInjected) -> None:
        """Record a fault, or its end."""
        self.last_at_s = event.at_s
        host, _, rest = event.detail.partition(" ")
        if event.kind == "heal":
            self.healed_at_s = event.at_s
            if self._store_faults:
                self._store_until = event.at_s
            self._store_faults.clear()
        elif event.kind not in NO_FAULTS:
            self.healed_at_s = None
        if event.kind in ("stop_reading", "read_slowly"):
            self._read_slowly.add(host)
        if event.kind == "frames":
            self._frames_until = math.inf if "every one" in event.detail else max(self._frames_until, event.at_s)
        self._take_slow_link(event)
        if event.kind in HINDRANCES:
            self._hindered.update(host.replace("→", "↔").split("↔"))
        if event.kind == "wall_jump":
            self.wall_error_s += abs(float(rest.removesuffix(" s")))
        if event.kind == "clock_rate":
            low, high = self._rates.get(host, (1.0, 1.0))
            self._rates[host] = min(low, float(rest)), max(high, float(rest))
        elif event.kind in ("freeze", "thaw", "clock_jump"):
            self._woken[host] = event.at_s
            if event.kind == "clock_jump":
                self._jumped_at = event.at_s
        else:
            self._take_store_fault(event)

    def _take_slow_link(self, event: FaultInjected) -> None:
        hosts, _, rest = event.detail.partition(" ")
        if event.kind == "slow":
            self._slow_links[frozenset(hosts.split("→"))] = float(rest.split()[2]), math.inf
        elif event.kind in ("restore_routes", "heal"):
            for link, (most_s, until) in self._slow_links.items():
                if until == math.inf and (event.kind == "heal" or link == frozenset(hosts.split("↔"))):
                    self._slow_links[link] = most_s, event.at_s

    def _take_store_fault(self, event: FaultInjected) -> None:
        begun = STORE_ENDS.get(event.kind)
        if event.kind in ("store_slow", "call_slow") and event.detail.endswith(SLOW_NO_MORE):
            node = event.detail.removesuffix(SLOW_NO_MORE)
            ended = {fault for fault in self._store_faults if fault[0] == event.kind and fault[1].startswith(node)}
        elif begun is not None:
            ended = {(begun, event.detail)} & self._store_faults
        else:
            ended = set()
            if event.kind in STORE_FAULTS:
                self._store_faults.add((event.kind, event.detail))
        if ended:
            self._store_faults -= ended
            self._store_until = event.at_s

    def slowest(self, host: str) -> float:
        """Return the lowest rate at which a host's clock has run."""
        return self._rates.get(host, (1.0, 1.0))[0]

    def fastest(self, host: str) -> float:
        """Return the highest rate at which a host's clock has run."""
        return self._rates.get(host, (1.0, 1.0))[1]

    def clock_good(self, host: str) -> bool:
        """Return whether a host's clock was never off by more than the promises allow."""
        low, high = self._rates.get(host, (1.0, 1.0))
        return low >= 1 - CLOCK_ERROR_MAX and high <= 1 + CLOCK_ERROR_MAX

    @property
    def node_clock_fast(self) -> bool:
        """Whether the clock of a node ran faster, at some time, than the promises allow."""
        return any(self.fastest(node) > 1 + CLOCK_ERROR_MAX for node in self._nodes)

    @property
    def clocks_good(self) -> bool:
        """Whether no host's clock was ever off by more than the promises allow."""
        return all(map(self.clock_good, self._rates))

    @property
    def store_fails(self) -> bool:
        """Whether the store has a fault now."""
        return bool(self._store_faults)

    def store_faulty(self, at_s: float) -> bool:
        """Return whether the store has a fault, or had one less than `SETTLE_S` ago."""
        return bool(self._store_faults) or at_s < self._store_until + SETTLE_S

    def just_woken(self, host: str, at_s: float, within_s: float) -> bool:
        """Return whether a host stood still, or its clock jumped, less than `within_s` ago."""
        return at_s < self._woken.get(host, -within_s) + within_s

    def clock_jumped(self, at_s: float, within_s: float) -> bool:
        """Return whether any host's clock jumped less than `within_s` ago, though it did not stand still."""
        return at_s < self._jumped_at + within_s

    def frames_lost(self, at_s: float, within_s: float) -> bool:
        """Return whether messages of any connection were lost or late less than `within_s` ago, while others came."""
        return at_s < self._frames_until + within_s

    def travel_s(self, host: str, at_s: float, within_s: float) -> float:
        """Return for how long messages between a host and another travelled at most, less than `within_s` ago."""
        links = self._slow_links.items()
        return max((most_s for link, (most_s, until) in links if host in link and at_s < until + within_s), default=0.0)

    def has_read_slowly(self, host: str) -> bool:
        """Return whether a host has stopped reading or read slowly: it may have missed a message."""
        return host in self._read_slowly

    def hindered(self, host: str) -> bool:
        """Return whether a host, or its network, was ever so that a node may have had to wait before it could write."""
        return host in self._hindered

    def clocks_moved(self, at_s: float, within_s: float) -> bool:
        """Return whether any host stood still or any clock jumped less than `within_s` ago, or any clock is bad."""
        return not self.clocks_good or any(at_s < woken + within_s for woken in self._woken.values())
