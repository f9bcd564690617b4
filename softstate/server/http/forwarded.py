"""Headers of a trusted proxy: from which address a request comes, and who it is from."""

from __future__ import annotations

from softstate.addresses import address_of
from softstate.auth.identity import Why, refused
from softstate.auth.presented import Vouched
from softstate.auth.proxy import TrustedProxy
from softstate.server.auth.gate import NodeGate
from softstate.server.http.message import Request


def client_of(gate: NodeGate, request: Request) -> str:
    """Return the address of who sent a request: the one place that decides it, for logs and for limits.

    It is that of the other end of the connection, unless that is a proxy that is trusted.
    """
    via = address_of(request.peer)
    proxy = gate.proxy
    return via if proxy is None else proxy.client_of(via, request.header(proxy.address_header))


def vouched_for(proxy: TrustedProxy, request: Request) -> Vouched | None:
    """Return the principal that the headers of a request name, None if they name none.

    Raises `Unauthenticated` if they may not: they do not come from a proxy that is trusted.
    """
    subject, grants = _text(request, proxy.subject_header), _text(request, proxy.grants_header)
    if subject is None and grants is None:
        return None
    vouched = Vouched(subject or "", grants, address_of(request.peer))
    proxy.check(vouched)
    if subject is None:
        raise refused(Why.MALFORMED, f"the header {proxy.grants_header} needs {proxy.subject_header} beside it")
    return vouched


def _text(request: Request, name: str) -> str | None:
    value = request.headers.get(name.encode()) if name else None
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise refused(Why.MALFORMED, f"the header {name} must be UTF-8") from None
