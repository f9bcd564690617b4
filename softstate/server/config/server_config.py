"""The options of a node: one field each, with its default, its bound and its meaning.

Command line, environment and TOML file all fill this one class (`softstate.cli.options.serve_options`), so a name means
the same everywhere. Sizes are bytes, durations are seconds where the name ends in ``_s`` and milliseconds in ``_ms``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeAlias

from softstate.addresses import UNIX_SCHEME
from softstate.errors import ConfigError
from softstate.model import READ_COST_MAX
from softstate.server.config.bounds import above, at_least, between
from softstate.server.config.hosts import allowed_host, allowed_origin, origin_of
from softstate.server.config.settings import set_by, settings_of
from softstate.store.base import KEYS_MAX, PUBLISHERS_MAX
from softstate.wire.value import VALUE_BYTES_MAX, VALUE_ITEMS_MAX

Role: TypeAlias = Literal["all", "push", "poll"]

LogSubjects: TypeAlias = Literal["plain", "hashed"]
"""``poll`` answers HTTP only; ``push`` and ``all`` answer both, but ``push`` refuses polls."""

HOUR_MS = 3_600_000
KIB = 1024
MIB = 1024 * KIB

KNOWN_TOPICS_MAX = 32_768
"""Default of `known_topics_max`: each takes 0.2 KiB if its name has 20 bytes, 0.4 if it has 255; all 14 MiB at most."""

ENVELOPE_BYTES = 1024
"""Bytes that a message needs beside the value that it carries: its topic, key and other fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All options of one node. Immutable; `check` refuses what makes no sense."""

    # The node
    host: Annotated[str, set_by("listen"), "Name or address that the node listens on; or unix:PATH."] = "127.0.0.1"
    port: Annotated[int, set_by("listen"), between(0, 65_535), "Port to listen on; 0 takes any free one."] = 8700
    store: Annotated[
        str, "The store: sqlite:PATH, redis://HOST, postgresql://HOST/DB, etcd://HOST, or memory: for tests."
    ] = field(default="sqlite:softstate.db", repr=False)  # may hold a password, which no log must get
    require_durable: Annotated[
        bool, "Do not start on a store that may lose acknowledged publishes when a machine crashes."
    ] = False
    require_store: Annotated[
        bool, "Never make a store: if there is none, do not start; `softstate store create` makes one."
    ] = False
    no_backup: Annotated[
        bool, "Make no copy of an SQLite file of an earlier release before it is carried over to this one's layout."
    ] = False
    role: Annotated[Role, "all; push: no HTTP polling; poll: HTTP only."] = "all"
    origins: Annotated[
        tuple[str, ...],
        set_by("origin"),
        "An Origin of web pages that may talk to this node; may be repeated. Any other gets 403.",
    ] = ()
    allow_host: Annotated[
        tuple[str, ...],
        "A name, beside addresses and localhost, by which this node may be called (the Host header, without its port);"
        " may be repeated. Any other gets 403, unless the policy gives nothing without a token.",
    ] = ()
    ui: Annotated[
        bool, "Serve a page at /ui that shows nodes and topics; what it shows needs a token with the admin right."
    ] = False
    ui_nodes: Annotated[
        tuple[str, ...],
        set_by("ui_node"),
        "Another node that the page shows, as http://HOST:PORT; may be repeated. It has to allow this node's --origin.",
    ] = ()

    tls_cert: Annotated[
        str, "The node's certificate, as PEM with the chain behind it: with it, the port speaks TLS, and nothing else."
    ] = ""
    tls_key: Annotated[str, "The key of that certificate, as PEM; by default it is in the same file."] = ""

    tls_client_ca: Annotated[
        str,
        "Authorities (PEM) by which clients' certificates are taken, as [auth.mtls] of the policy says. A client may do"
        " without one, and present a token.",
    ] = ""

    auth: Annotated[
        str,
        "The policy file: who may read and publish what. Without one, anyone may everything. Its tables may be in the"
        " configuration file instead.",
    ] = ""
    auth_in_config: Annotated[
        bool,
        set_by("auth"),
        "Whether the policy is in the configuration file; so it is if that has its tables, and no other file is named.",
    ] = False
    log_subjects: Annotated[
        LogSubjects, "How the audit log names principals: `plain`, or `hashed` by the digest that revocations use."
    ] = "plain"
    access_log: Annotated[
        bool, "Log each answer over HTTP: method, path, status, time, address, principal, X-Request-Id and trace."
    ] = False
    log_sessions: Annotated[
        bool,
        "Log each session: its address, name, principal and codec, and its end with the reason; so does --verbose.",
    ] = False
    reauth_s: Annotated[
        float, above(0), "Time for which a session may be silent after its credentials were revoked, to fetch others."
    ] = 30

    # Leases
    ttl_ms: Annotated[int, set_by("ttl"), between(1_000, 24 * HOUR_MS), "Duration of a lease that is not renewed."] = (
        60_000
    )
    timeout_ms: Annotated[int, above(0), "Time that clients wait for an answer before they suspect the connection."] = (
        5_000
    )
    sessions_max: Annotated[
        int,
        above(0),
        "Leases held, a tenth of them at most without a connection; beyond it a hello is answered `overloaded`.",
    ] = 100_000
    subscriptions_max: Annotated[int, above(0), "Topics and prefixes of one session, or of one poll."] = 10_000

    # Limits of an identity: of what presents the same issuer and subject
    sessions_per_identity_max: Annotated[
        int, at_least(0), "Sessions of one identity; beyond it a hello is answered `overloaded`. 0: no limit."
    ] = 100
    subscriptions_per_identity_max: Annotated[
        int,
        at_least(0),
        "Topics and prefixes of all sessions of one identity; beyond it a subscribe is answered `overloaded`. 0: no"
        " limit; else at least subscriptions_max.",
    ] = 100_000
    publishes_per_s: Annotated[
        float, at_least(0), "Publishes of one identity a second; beyond it they get `overloaded`. 0: no limit."
    ] = 0.0
    publish_bytes_per_s: Annotated[
        float,
        at_least(0),
        "Bytes a second of what one identity publishes, as CBOR; beyond it publishes get `overloaded`. 0: no limit.",
    ] = 0.0
    polls_per_s: Annotated[
        float,
        at_least(0),
        "Polls, lists and reads of one identity a second; beyond it they get `overloaded`. 0: no limit.",
    ] = 0.0
    tickets_per_identity_max: Annotated[
        int,
        at_least(0),
        "Tickets that one identity may ask for at once, and then in each 30 s; beyond it it gets `overloaded`. 0: no"
        " limit.",
    ] = 1_000
    limit_anonymous: Annotated[
        bool,
        "Clients without credentials have the limits of one identity, too: all of one address (IPv6: /64) together.",
    ] = False

    # Limits of an address; of IPv6, of a network of 64 bits
    connections_per_address_max: Annotated[
        int, at_least(0), "Open connections of one address (IPv6: /64); any more are answered 429. 0: no limit."
    ] = 0
    auth_failures_per_s: Annotated[
        float,
        at_least(0),
        "Tokens and tickets of one address (IPv6: /64) a second that are looked at and not good, 30 at once; beyond it"
        " only those that were verified before are taken, and others answered `overloaded`. 0: no limit.",
    ] = 10.0

    beat_share: Annotated[
        float,
        between(0, 1),
        "Part of a core that beats may take; beyond it they come less often. 0 stands for no limit.",
    ] = 0.08

    # Polling and recovery, as advised to clients
    poll_every_ms: Annotated[
        int, between(1, HOUR_MS), "Advice to clients: the time between two polls; under load a longer one is given."
    ] = 15_000
    recover_base_ms: Annotated[
        int,
        between(1, HOUR_MS),
        "Advice to clients: the bound of the first backoff; a spread that is longer counts instead.",
    ] = 500
    recover_cap_ms: Annotated[
        int,
        between(1, HOUR_MS),
        "Advice to clients: the bound to which backoffs double; under load a greater one is given.",
    ] = 30_000
    handshakes_per_s: Annotated[
        float, above(0), "Handshakes, and polls, a second that this node can answer, until it has measured itself."
    ] = 500.0

    bugs_per_minute_max: Annotated[
        int,
        above(0),
        "Errors that nobody foresaw, of single requests and connections; beyond it, the node drains and exits with 70.",
    ] = 100

    memory_max: Annotated[
        int,
        at_least(0),
        "Memory that this node may use, such as 512MiB. From 90 % on it takes no new sessions and names, at 100 % it"
        " revokes leases; clients poll then. 0: three quarters of the machine's memory, or of its cgroup's limit,"
        " divided among the workers.",
    ] = 0

    # Messages and queues
    value_bytes_max: Annotated[int, above(0), "Largest value, encoded as CBOR."] = VALUE_BYTES_MAX
    value_items_max: Annotated[
        int, at_least(16), "Most items of a value: members of its lists and maps, at any depth."
    ] = VALUE_ITEMS_MAX
    message_bytes_max: Annotated[
        int, above(0), f"Largest message of a client over WebSocket; at least value_bytes_max + {ENVELOPE_BYTES}."
    ] = 256 * KIB
    message_items_max: Annotated[
        int, at_least(1_024), "Most items of a message or an HTTP body, those of its values included."
    ] = 16_384
    pending_max: Annotated[
        int, above(0), "Entries that may wait for one slow connection before its lease is revoked."
    ] = 1_024
    pending_bytes_max: Annotated[
        int, above(0), "Bytes that may wait for one slow connection before its lease is revoked."
    ] = MIB
    congested_s_max: Annotated[
        float,
        above(0),
        "Time for which something may wait, without a break, for one slow connection: then its lease is revoked.",
    ] = 10.0
    inflight_max: Annotated[
        int, above(0), "Publishes of one connection that may wait for their commit; beyond it, reading pauses."
    ] = 256
    publishes_waiting_max: Annotated[
        int,
        above(0),
        "Publishes of all connections that may wait for a commit; beyond it they get `overloaded`, those of a batch"
        " beyond three quarters of it.",
    ] = 10_000
    reads_waiting_max: Annotated[
        int, above(0), "Reads of all connections that may wait for the store; beyond it they get `overloaded`."
    ] = 10_000

    known_topics_max: Annotated[
        int, at_least(0), "Topics whose newest version is known without the store, for polls that ask for no other."
    ] = KNOWN_TOPICS_MAX
    turn_names_max: Annotated[
        int, at_least(16), "Names that one turn of the loop deals with, for all connections together."
    ] = 256
    read_cost_max: Annotated[
        int, above(0), "Names and records that one store call of reads looks at; beyond it, answers are paged."
    ] = READ_COST_MAX

    # HTTP
    connections_max: Annotated[
        int, above(0), "Open connections, HTTP and WebSocket; any more are answered 503 and closed."
    ] = 20_000
    greeting_max: Annotated[
        int,
        above(0),
        "Connections accepted that wait for their first answer; beyond it, none is accepted: they wait in the system.",
    ] = 20_000
    head_bytes_max: Annotated[int, above(0), "Largest head of an HTTP request; beyond it, 431."] = 16 * KIB
    headers_max: Annotated[int, above(0), "Most headers of an HTTP request; beyond it, 431."] = 64
    body_bytes_max: Annotated[int, above(0), "Largest body of an HTTP request; beyond it, 413."] = MIB
    head_s_max: Annotated[
        float, above(0), "Time for the head of an HTTP request, from the connection or from its first byte on."
    ] = 10.0
    body_s_max: Annotated[float, above(0), "Time for the body of an HTTP request; beyond it, 408."] = 30.0
    idle_s_max: Annotated[
        float, above(0), "Time that a kept-alive HTTP connection may be silent between two requests."
    ] = 75.0
    hello_s_max: Annotated[
        float, above(0), "Time for the hello of a WebSocket connection; beyond it, the connection is closed."
    ] = 10.0
    send_s_max: Annotated[float, above(0), "Time for a peer to take one HTTP reply."] = 30.0
    hold_ms_max: Annotated[
        int, above(0), "Longest `wait_ms`: below the 60 s after which many proxies cut an idle connection."
    ] = 25_000
    holds_max: Annotated[
        int, above(0), "HTTP requests that may be held at once: long polls, and reads that wait for a revision."
    ] = 10_000
    streams_max: Annotated[
        int, above(0), "Streams of events that may be open at once; one more is told to come back later."
    ] = 10_000
    stream_s: Annotated[
        float, above(0), "Life of a stream of events, which varies by 20 %: its ages are wrong by 2 % of it at most."
    ] = 120.0
    sync_ms: Annotated[
        int,
        at_least(1_000),
        "Longest time between two `sync` events of a stream: below the time after which proxies cut idle connections.",
    ] = 10_000
    held_names_max: Annotated[
        int, above(0), "Names of all polls that are held at once; one more is answered without waiting."
    ] = 262_144
    batch_max: Annotated[int, above(0), "Changes in one `POST /v1/publish`."] = 1_000

    # Store
    keys_max: Annotated[
        int, above(0), "Idempotency keys that the store may hold; beyond it, publishes with a new one get `overloaded`."
    ] = KEYS_MAX
    publishers_max: Annotated[
        int, above(0), "Publishers that the store may remember; beyond it, unknown ones get `overloaded`."
    ] = PUBLISHERS_MAX
    publisher_inflight_max: Annotated[
        int, between(1, 65_536), "Numbered publishes that one publisher may have unsettled, a batch's changes included."
    ] = 1_024
    key_ms: Annotated[
        int, above(0), "Shortest time that an idempotency key is kept, and a publisher that is silent."
    ] = 600_000
    tombstone_s: Annotated[float, at_least(0), "Shortest time that a deletion is remembered (a tombstone)."] = 3_600.0
    store_s_max: Annotated[
        float, above(0), "Time for one store call; beyond it, all that wait for the call are answered `unavailable`."
    ] = 5.0

    # Shutdown
    drain_s: Annotated[float, set_by("drain"), at_least(0), "Longest time to stop on SIGTERM or Ctrl-C."] = 10.0

    def check(self) -> ServerConfig:
        """Return this configuration with hosts and origins in their one spelling.

        Raises `ConfigError`, which names the option and what it must be.
        """
        for setting in SETTINGS:
            setting.check(getattr(self, setting.name))
        if self.message_bytes_max < self.value_bytes_max + ENVELOPE_BYTES:
            raise ConfigError(
                f"message_bytes_max must be at least value_bytes_max + {ENVELOPE_BYTES}: a message carries a value"
            )
        if 0 < self.subscriptions_per_identity_max < self.subscriptions_max:
            raise ConfigError(
                "subscriptions_per_identity_max must be 0 or at least subscriptions_max: one session may hold so many"
            )
        if self.tls_key and not self.tls_cert:
            raise ConfigError("tls_key is of no use alone: name the certificate with --tls-cert FILE")
        if self.tls_client_ca and not (self.tls_cert and self.auth):
            raise ConfigError("tls_client_ca is of no use without --tls-cert, and --auth with a table [auth.mtls]")
        if self.tls_cert and self.host.startswith(UNIX_SCHEME):
            raise ConfigError("tls_cert is of no use on a Unix socket, which nobody can listen in on: leave it out")
        if self.ui_nodes and not self.ui:
            raise ConfigError("ui_node is of no use without --ui")
        for node in self.ui_nodes:
            if origin_of(node) is None:
                raise ConfigError(f"ui_node must be such as http://127.0.0.1:8701, without a path, not {node!r}")
        spelt = replace(
            self,
            origins=tuple(map(allowed_origin, self.origins)),
            allow_host=tuple(map(allowed_host, self.allow_host)),
            ui_nodes=tuple(map(allowed_origin, self.ui_nodes)),
        )
        return self if spelt == self else spelt


SETTINGS = settings_of(ServerConfig)
"""Every field of `ServerConfig`, in order, with its bound and its meaning."""

COMMAND_KEYS = frozenset({"workers", "allow_anonymous", "plaintext_ok", "log_format", "verbose"})
"""Keys of the configuration file that are options of the command alone."""

FILE_KEYS = COMMAND_KEYS | {setting.option for setting in SETTINGS} - {"auth"}
"""Keys of the configuration file, beside the tables of a policy."""
