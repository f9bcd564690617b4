"""Reading the URL of a store in PostgreSQL: the schema, and libpq's connection parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from softstate.errors import ConfigError
from softstate.store.remote.url import NAMESPACE, StoreUrl, read_url

PORT = 5432

CONNECT_S = 2.0
"""Default for `connect_timeout`: how long each host is tried, in whole seconds; libpq takes no less than 2."""

CONNECT_S_MAX = 3_600
"""The longest `connect_timeout`. A call is given up long before."""

SCHEMA_BYTES_MAX = 63
"""Longest name that PostgreSQL keeps whole."""

LIBPQ_OPTIONS = frozenset({
    "application_name", "channel_binding", "connect_timeout", "gssencmode", "hostaddr", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts", "options",
    "passfile", "require_auth", "requirepeer", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert",
    "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "sslsni", "target_session_attrs",
    "tcp_user_timeout",
})  # fmt: skip
"""Connection parameters that may stand behind the question mark, beside `schema`; see libpq for them."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """The place of a store. `name` is for messages; `schema` holds the tables; `parameters` are for libpq."""

    name: str
    schema: str
    parameters: Mapping[str, str] = field(repr=False)
    """Not shown: one may be a password."""


def read_address(url: str) -> PostgresAddress:
    """Read ``postgresql://user:password@host:port,host:port/database?schema=softstate&…``.

    A host may be the folder of a Unix socket, written ``%2Fvar%2Frun%2Fpostgresql``. libpq looks up what the URL leaves
    out: ``PGUSER``, ``PGDATABASE``, ``PGPASSWORD``, ``~/.pgpass``. Of several hosts the primary is used. Raises
    `ConfigError`.
    """
    found = read_url(url, port=PORT, options={"schema", *LIBPQ_OPTIONS}, folders=True)
    schema = _schema(found)
    # Whole seconds for libpq, and never 0, which would mean to wait without end.
    connect_s = max(1, round(found.number("connect_timeout", CONNECT_S, least=1)))
    if connect_s > CONNECT_S_MAX:
        raise ConfigError(f"store {found.name}: connect_timeout must be at most {CONNECT_S_MAX}, not {connect_s}")
    parameters = {
        "host": ",".join(host for host, _ in found.hosts),
        "port": ",".join(str(port) for _, port in found.hosts),
        "dbname": found.path,
        "user": found.user or "",
        "password": found.password or "",
        "client_encoding": "utf8",
        "target_session_attrs": "primary" if len(found.hosts) > 1 else "",
        **{option: value for option, value in found.options.items() if option != "schema"},
        "connect_timeout": str(connect_s),
    }
    name = found.name if schema == NAMESPACE else f"{found.name}?schema={schema}"
    return PostgresAddress(name, schema, {option: value for option, value in parameters.items() if value})


def _schema(url: StoreUrl) -> str:
    schema = url.options.get("schema", NAMESPACE)
    if not 1 <= len(schema.encode()) <= SCHEMA_BYTES_MAX or schema.startswith("pg_"):
        raise ConfigError(
            f"store {url.name}: schema must be 1 to {SCHEMA_BYTES_MAX} bytes and not begin with 'pg_', not {schema!r}"
        )
    return schema
