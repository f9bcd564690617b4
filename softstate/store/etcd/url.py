"""Reading the URL of a store in etcd: endpoints, credentials, TLS, and the namespace."""

from __future__ import annotations

import re
from dataclasses import replace

from softstate.errors import ConfigError
from softstate.store.remote.url import NAMESPACE, TLS_OPTIONS, StoreUrl, read_url, tls_context

PORT = 2379

NAMESPACE_BYTES_MAX = 128

_NAMESPACE_FORM = re.compile(r"[\w.-]+(/[\w.-]+)*")


def read_etcd_url(url: str) -> tuple[StoreUrl, str]:
    """Read ``etcd://user:password@host:port,host:port/?namespace=…``, or ``etcds://`` for TLS.

    Returns the URL, and the namespace that it names. Raises `ConfigError`, naming what is wrong.
    """
    parts = read_url(url, port=PORT, options={"namespace", *TLS_OPTIONS})
    namespace = parts.options.get("namespace", NAMESPACE)
    if not _NAMESPACE_FORM.fullmatch(namespace) or len(namespace.encode()) > NAMESPACE_BYTES_MAX:
        raise ConfigError(
            f"store {parts.name}: namespace must be letters, digits, '.', '_', '-' and single '/' between them, at"
            f" most {NAMESPACE_BYTES_MAX} bytes, not {namespace!r}"
        )
    if parts.path:
        raise ConfigError(f"store {parts.name}: etcd has no databases; name a key prefix with ?namespace=")
    # For its errors alone: what cannot be used is refused before anything is opened.
    tls_context(parts, "etcds")
    if namespace != NAMESPACE:
        parts = replace(parts, name=f"{parts.name}?namespace={namespace}")
    return parts, namespace
