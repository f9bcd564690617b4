"""What a node can be told: one field for each option, with its default, its unit and its reason.

Command line, environment and TOML file all fill this one class (`softstate.cli.commands.serve`), so a name means the
same everywhere. Sizes are bytes, durations are seconds where the name ends in ``_s`` and milliseconds in ``_ms``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from softstate.errors import ConfigError
from softstate.store.base import KEYS_MAX
from softstate.wire.value import VALUE_BYTES_MAX

Role: TypeAlias = Literal["all", "push", "poll"]
"""What a node serves: ``poll`` answers HTTP only; ``push`` and ``all`` answer both, but ``push`` refuses polls."""

TTL_MS_MIN = 1_000
TTL_MS_MAX = 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Everything that governs one node. Immutable; `check` refuses what makes no sense."""

    # What it is
    host: str = "127.0.0.1"
    port: int = 8700
    store: str = field(default="sqlite:softstate.db", repr=False)
    """May hold a password, which no log must get."""
    require_durable: bool = False
    """Refuse to start on a store that may lose acknowledged publishes when a machine crashes."""
    role: Role = "all"
    origins: tuple[str, ...] = ()
    """Origins of web pages that may talk to this node; any other Origin gets 403."""

    # Leases
    ttl_ms: int = 60_000
    timeout_ms: int = 5_000
    """How long a client waits for an answer before it suspects the connection."""
    sessions_max: int = 100_000
    subscriptions_max: int = 10_000
    """Names one session may hold."""

    # Polling and recovery, as advised to clients
    poll_every_ms: int = 15_000
    recover_base_ms: int = 500
    recover_cap_ms: int = 30_000
    handshakes_per_s: float = 500.0
    """What this node is taken to manage before it has measured itself."""

    # Messages and queues
    value_bytes_max: int = VALUE_BYTES_MAX
    message_bytes_max: int = 1024 * 1024
    pending_max: int = 1_024
    """Entries that may wait for one slow connection before its lease is revoked."""
    pending_bytes_max: int = 1024 * 1024
    congested_s_max: float = 10.0
    """How long one connection may refuse to take what waits for it before its lease is revoked."""
    inflight_max: int = 256
    """Publishes of one connection that may wait for their commit; beyond it, reading pauses."""
    publishes_waiting_max: int = 10_000
    """Publishes of all connections that may wait for a commit; beyond it they are refused as overloaded."""
    reads_waiting_max: int = 10_000

    # HTTP
    connections_max: int = 20_000
    head_bytes_max: int = 16 * 1024
    headers_max: int = 64
    body_bytes_max: int = 4 * 1024 * 1024
    head_s_max: float = 10.0
    """Time from the first wait for a request to the end of its head, for a connection that has begun to send one."""
    body_s_max: float = 30.0
    idle_s_max: float = 75.0
    """How long a kept-alive HTTP connection may be silent between requests."""
    hello_s_max: float = 10.0
    send_s_max: float = 30.0
    """How long one HTTP reply may take to be taken by its reader."""
    hold_ms_max: int = 25_000
    """Longest `wait_ms`: below the 60 s after which many proxies cut an idle connection."""
    holds_max: int = 10_000
    """Long polls that may be held at once."""
    batch_max: int = 1_000
    """Changes in one ``POST /v1/publish``, names in one ``POST /v1/poll`` being bounded by `subscriptions_max`."""

    # Store
    keys_max: int = KEYS_MAX
    key_ms: int = 600_000
    """How long an idempotency key is kept at least."""
    tombstone_s: float = 3_600.0
    """How long a tombstone is kept at least."""
    store_s_max: float = 5.0
    """How long one store call may take before those who wait for it are answered `unavailable`."""

    # Shutdown
    drain_s: float = 10.0

    def check(self) -> ServerConfig:
        """Return this configuration, or raise `ConfigError` naming the option and what it must be."""
        if not TTL_MS_MIN <= self.ttl_ms <= TTL_MS_MAX:
            raise ConfigError(f"ttl must be {TTL_MS_MIN} ms to {TTL_MS_MAX} ms, not {self.ttl_ms} ms")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"listen: the port must be 0 to 65535, not {self.port}")
        for name in (
            "timeout_ms", "sessions_max", "subscriptions_max", "poll_every_ms", "recover_base_ms", "recover_cap_ms",
            "handshakes_per_s", "value_bytes_max", "message_bytes_max", "pending_max", "pending_bytes_max",
            "congested_s_max", "inflight_max", "publishes_waiting_max", "reads_waiting_max", "connections_max",
            "head_bytes_max", "headers_max", "body_bytes_max", "head_s_max", "body_s_max", "idle_s_max", "hello_s_max",
            "send_s_max", "hold_ms_max", "holds_max", "batch_max", "keys_max", "key_ms", "store_s_max",
        ):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.drain_s < 0 or self.tombstone_s < 0:
            raise ConfigError("drain and tombstone_s must not be negative")
        if self.message_bytes_max < self.value_bytes_max + 1024:
            raise ConfigError("message_bytes_max must be at least value_bytes_max + 1024: a message carries a value")
        return self
