"""Reading the URL of a store in Redis."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field

from softstate.errors import ConfigError
from softstate.store.remote.url import NAMESPACE, TLS_OPTIONS, read_url, tls_context

PORT = 6379

_NAMESPACE_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_OPTIONS = ("namespace", *TLS_OPTIONS)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A server, a database on it, a namespace there, and how to be let in. `name` holds no password."""

    host: str
    port: int
    database: int
    namespace: str
    user: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    name: str

    @classmethod
    def read(cls, url: str) -> RedisAddress:
        """Read ``redis://user:password@host:port/database?namespace=…``, or ``rediss://`` for TLS.

        TLS checks the server's certificate and name, against the authority in ``cacert`` or those of the system;
        ``cert`` and ``key`` are this client's. Raises `ConfigError`, naming what is wrong.
        """
        parts = read_url(url, port=PORT, options=_OPTIONS)
        if len(parts.hosts) != 1:
            raise ConfigError(f"store {parts.name}: name one host, the primary")
        (host, port), *_ = parts.hosts
        namespace = parts.options.get("namespace", NAMESPACE)
        if not _NAMESPACE_FORM.fullmatch(namespace):
            raise ConfigError(
                f"store {parts.name}: namespace must be 1 to 64 letters, digits or any of _ . : -, not {namespace!r}"
            )
        database = parts.path or "0"
        if not database.isascii() or not database.isdigit() or len(database) > 4:
            raise ConfigError(f"store {parts.name}: the path must be the number of a database, not {database!r}")
        name = parts.name if namespace == NAMESPACE else f"{parts.name}?namespace={namespace}"
        return cls(host, port, int(database), namespace, parts.user, parts.password, tls_context(parts, "rediss"), name)
