"""Checks by which name a node was reached, against DNS rebinding (P-HTTP-12).

A web page of ``evil.example`` whose name its owner points at 127.0.0.1 is of the same origin as a node there, for its
browser; only the name in ``Host`` gives it away. Names that no name server decides (addresses, ``localhost``) are safe,
others have to be named by ``--allow-host``. A node that gives nobody anything without a token takes any name: a page
has none to present, since browsers add none by themselves. (Jackson et al., "Protecting browsers from DNS rebinding
attacks", 2007.)
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from softstate.errors import Denied
from softstate.server.config.hosts import HOST_CHARS_MAX, SHOWN_CHARS_MAX, Host, host_of
from softstate.server.http.message import Request
from softstate.server.http1 import Refused

EXEMPT = frozenset({"/healthz", "/readyz"})
"""Paths that answer to any name: probes of orchestrators choose the name, and learn nothing but one word."""

AUTHORITY_CHARS_MAX = HOST_CHARS_MAX + 8
"""Longest text that may name a host: with a last dot, a colon and a port."""

HOSTS_KEPT = 256
"""Different ``Host`` headers whose meaning is remembered; a node's clients send few."""


def is_known_host(request: Request, allowed: Collection[str]) -> bool:
    """Tell whether every name by which a request calls this node is an address, local, or one of `allowed`."""
    return all(_is_known(name, allowed) for name in _names(request))


def check_host(request: Request, allowed: Collection[str]) -> None:
    """Raise `Refused` (403), naming the option that mends it, for a name that `is_known_host` does not know."""
    name = next((name for name in _names(request) if not _is_known(name, allowed)), None)
    if name is None:
        return
    host = _host(name)
    if host is not None:
        text = f"this node does not answer to {host.name!r}: start it with --allow-host {host.name}"
    else:
        called = repr(name[:SHOWN_CHARS_MAX]) if name else "a request that names no host"
        text = f"this node does not answer to {called}: send its address, or a name given by --allow-host, as Host"
    raise Refused(403, Denied(text, why="host"))


def _names(request: Request) -> list[str]:
    # RFC 9112 section 3.2.2 lets an absolute target overrule Host; here both must be good.
    header = request.header("host") or ""
    return [header] if request.authority is None else [request.authority, header]


def _is_known(name: str, allowed: Collection[str]) -> bool:
    host = _host(name)
    return host is not None and (host.is_local or host.name in allowed)


def _host(name: str) -> Host | None:
    return _read(name) if len(name) <= AUTHORITY_CHARS_MAX else None


@lru_cache(HOSTS_KEPT)
def _read(name: str) -> Host | None:
    return host_of(name)
