"""Options of ``softstate serve`` as flags, variables and file keys, and their conversion to a `ServerConfig`.

The few options that people set have names and units of their own (``--listen``, ``--ttl 60s``); every other field of
`ServerConfig` is an option of the same name, taken from that class itself, so that the two cannot drift apart.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter

from softstate.addresses import UNIX_SCHEME, is_loopback
from softstate.cli.options.durations import duration
from softstate.cli.options.sizes import size
from softstate.errors import ConfigError
from softstate.server.config import Role, ServerConfig
from softstate.server.config.bounds import above
from softstate.server.config.server_config import SETTINGS

BASIC = frozenset(
    {
        "listen",
        "store",
        "require_durable",
        "require_store",
        "no_backup",
        "role",
        "origin",
        "allow_host",
        "ui",
        "ui_node",
        "auth",
        "tls_cert",
        "tls_key",
        "tls_client_ca",
        "ttl",
        "memory_max",
        "drain",
    }
)
"""Options that are described to users one by one; each sets a field of `ServerConfig`, `listen` sets two."""

USUAL_BOUND = above(0)
"""The bound that the help states once for all limits."""

WORKERS_MAX = 64
"""Most workers of one ``softstate serve``: each is a process with connections of its own to the one store."""

DURATION = Parameter(converter=duration, metavar="DURATION", show_default=lambda seconds: f"{seconds:g}s")
"""An option that is written as a duration with its unit."""

SIZE = Parameter(converter=size, metavar="SIZE", show_default=lambda size: str(size) if size else "75 %")
"""An option that is written as a size of memory with its unit."""

ADVANCED = Group(
    "Advanced",
    sort_key=1,
    help="Limits: `_ms` and `_s` are durations, `bytes` are bytes; a limit is above 0 unless it says otherwise.",
)


def _advanced() -> type[Any]:
    """Make a dataclass of every field of `ServerConfig` that has no option of its own yet."""
    own = {"__module__": __name__}  # else cyclopts takes it for a builtin
    made: list[tuple[str, Any, Any]] = []
    for setting in SETTINGS:
        if setting.option in BASIC:
            continue
        bound = "" if setting.bound in (None, USUAL_BOUND) else f" {setting.bound.text().capitalize()}."
        parameter = Parameter(help=setting.text + bound, group=ADVANCED)
        made.append((setting.name, Annotated[setting.type, parameter], field(default=setting.default)))
    return Parameter(name="*")(make_dataclass("Advanced", made, frozen=True, kw_only=True, namespace=own))


def _text(option: str) -> str:
    """Return what the configuration says about an option."""
    return next(setting.text for setting in SETTINGS if setting.option == option)


if TYPE_CHECKING:
    Advanced: TypeAlias = Any
else:
    Advanced = _advanced()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options that most users set."""

    listen: str = "127.0.0.1:8700"
    """Address and port, as HOST:PORT or [IPv6]:PORT (port 0 takes any free one); or a Unix socket, as unix:PATH."""

    store: Annotated[str, Parameter(help=_text("store"))] = ServerConfig().store

    require_durable: Annotated[bool, Parameter(help=_text("require_durable"), negative=(), show_default=False)] = False

    require_store: Annotated[bool, Parameter(help=_text("require_store"), negative=(), show_default=False)] = False

    no_backup: Annotated[bool, Parameter(help=_text("no_backup"), negative=(), show_default=False)] = False

    ttl: Annotated[float, DURATION, Parameter(help=f"{_text('ttl')} Such as 500ms, 60s, 10m.")] = 60.0

    role: Annotated[Role, Parameter(help=_text("role"))] = "all"

    workers: int = 1
    """Node processes on this one port and store, for more than one core; limits hold for each of them."""

    origin: Annotated[tuple[str, ...], Parameter(help=_text("origin"), negative=(), show_default=False)] = ()

    allow_host: Annotated[tuple[str, ...], Parameter(help=_text("allow_host"), negative=(), show_default=False)] = ()

    ui: Annotated[bool, Parameter(help=_text("ui"), negative=(), show_default=False)] = False

    ui_node: Annotated[tuple[str, ...], Parameter(help=_text("ui_node"), negative=(), show_default=False)] = ()

    auth: Annotated[str, Parameter(help=_text("auth"), metavar="FILE", show_default=False)] = ""

    tls_cert: Annotated[str, Parameter(help=_text("tls_cert"), metavar="FILE", show_default=False)] = ""

    tls_key: Annotated[str, Parameter(help=_text("tls_key"), metavar="FILE", show_default=False)] = ""

    tls_client_ca: Annotated[str, Parameter(help=_text("tls_client_ca"), metavar="FILE", show_default=False)] = ""

    plaintext_ok: Annotated[str, Parameter(metavar="REASON", show_default=False)] = ""
    """Why tokens may come in plain text from other machines, such as "TLS ends in front"."""

    memory_max: Annotated[int, SIZE, Parameter(help=_text("memory_max"))] = 0

    drain: Annotated[float, DURATION, Parameter(help=_text("drain"))] = 10.0

    allow_anonymous: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Listen beyond loopback without authentication: every client that reaches the port reads and writes everything."""

    config: Annotated[str | None, Parameter(metavar="FILE")] = None
    """TOML file of these options, with underscores: ttl = "60s". Flags win over environment, environment over file."""

    check: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Validate the configuration, open the address and the store's file, leave both as they were, and exit."""

    log_format: Literal["console", "json"] = "console"
    """Format of log lines on stderr."""

    verbose: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Log every session too, and what is of use when something is looked for."""


def config_of(options: ServeOptions, advanced: Advanced) -> ServerConfig:
    """Return the checked configuration. Raises `ConfigError`, naming the option and what it must be."""
    host, port = _address(options.listen)
    _check_reach(options, host)
    _check_workers(options)
    limits = {item.name: getattr(advanced, item.name) for item in fields(advanced)}
    limits["log_sessions"] |= options.verbose
    return ServerConfig(
        host=host,
        port=port,
        store=options.store,
        require_durable=options.require_durable,
        require_store=options.require_store,
        no_backup=options.no_backup,
        role=options.role,
        origins=options.origin,
        allow_host=options.allow_host,
        ui=options.ui,
        ui_nodes=options.ui_node,
        auth=options.auth,
        auth_in_config=bool(options.auth) and options.auth == options.config,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        tls_client_ca=options.tls_client_ca,
        ttl_ms=round(options.ttl * 1_000),
        memory_max=options.memory_max,
        drain_s=options.drain,
        **limits,
    ).check()


def _check_reach(options: ServeOptions, host: str) -> None:
    """Refuse to let everybody in from other machines, or tokens in plain text, unless that was said to be meant."""
    if options.auth and options.allow_anonymous:
        raise ConfigError(
            "allow_anonymous: anyone may what the policy file says of 'anyone', and no more: leave out"
            " --allow-anonymous, or --auth"
        )
    if options.allow_anonymous or is_loopback(host):
        return
    if not options.auth:
        raise ConfigError(
            f"listen: {host} is reachable from other machines, and every client that reaches the port may read and "
            "publish everything. Say who may what with --auth FILE, listen on 127.0.0.1, put a proxy that "
            "authenticates in front, or accept it with --allow-anonymous"
        )
    if not (options.plaintext_ok or options.tls_cert):
        raise ConfigError(
            f"listen: {host} is reachable from other machines, and without TLS tokens would be read on the way. Give a "
            "certificate with --tls-cert FILE; or put a proxy that ends TLS in front, and say so: "
            "--plaintext-ok 'TLS ends in front'"
        )


def _check_workers(options: ServeOptions) -> None:
    if not 1 <= options.workers <= WORKERS_MAX:
        raise ConfigError(f"workers must be 1 to {WORKERS_MAX}, not {options.workers}")
    if options.workers > 1 and options.store.startswith("memory:"):
        raise ConfigError(
            f"workers: each of {options.workers} processes would have a store of its own in {options.store}; choose a"
            " file with --store sqlite:PATH, or --workers 1"
        )
    if options.workers > 1 and options.listen.startswith(UNIX_SCHEME):
        raise ConfigError("workers: only a port can be shared by processes, a Unix socket cannot: choose --workers 1")
    if options.workers > 1 and sys.platform != "linux":
        raise ConfigError(
            f"workers must be 1 on {sys.platform}: only Linux spreads the connections of one port over processes"
        )


def _address(listen: str) -> tuple[str, int]:
    if listen.startswith(UNIX_SCHEME):
        return listen, 0
    host, colon, port = listen.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5):
        raise ConfigError(f"listen must be HOST:PORT, such as 127.0.0.1:8700 or [::1]:8700, not {listen!r}")
    try:
        host.encode("idna")
    except UnicodeError:
        raise ConfigError(f"listen: {host!r} is not a valid name of a host") from None
    return host, int(port)
