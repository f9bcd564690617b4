"""Pages of the node's own origin, with TLS of the node and without; the rest of the rule is tested with the routes."""

from __future__ import annotations

import pytest

from softstate.server.http.message import Request
from softstate.server.http.origin import check_origin
from softstate.server.http1 import Refused


def asks(origin: str, host: str, *, secure: bool) -> bool:
    request = Request("GET", "/v1/status", headers={b"host": host.encode(), b"origin": origin.encode()})
    try:
        check_origin(request, (), known_host=True, secure=secure)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1:8700", "localhost:8700"])
def test_a_page_of_the_node_itself_is_of_its_scheme(host: str) -> None:
    assert asks(f"https://{host}", host, secure=True)
    assert not asks(f"http://{host}", host, secure=True)
    assert asks(f"http://{host}", host, secure=False)
    assert asks(f"https://{host}", host, secure=False), "a proxy in front may end TLS"


def test_ports_that_are_not_named_are_those_of_the_scheme() -> None:
    assert asks("https://localhost", "localhost", secure=True)
    assert asks("https://localhost:443", "localhost", secure=True)
    assert not asks("https://localhost:8443", "localhost", secure=True)
