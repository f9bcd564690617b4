from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from softstate.auth.keyring import Times
from softstate.auth.policy_file import KeySource
from softstate.server.auth.key_sets import DOCUMENT_BYTES_MAX, FetchFailed, fetch_keys
from tests.auth.keys import key
from tests.server.auth.issuer import FakeIssuer

URL = KeySource("jwks_url", "https://id/keys?v=1", (), Times(), "line 4")
DISCOVERY = KeySource("discovery", "https://id/.well-known/openid-configuration", (), Times(), "line 4")
WELL_KNOWN = "/.well-known/openid-configuration"


async def fetched(issuer: FakeIssuer, source: KeySource = URL) -> tuple[list[str | None], list[str]]:
    failure: FetchFailed | None = None
    async with trio.open_nursery() as nursery:
        issuer.nursery = nursery
        try:
            keys, problems = await fetch_keys("https://id", source, issuer.open_stream)
        except FetchFailed as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return [key.id for key in keys], problems


async def test_keys_are_fetched() -> None:
    issuer = FakeIssuer("e", "d")
    issuer.keys.append(dict(key("h").jwk))
    keys, (problem,) = await fetched(issuer)
    assert keys == ["e", "d"]
    assert "key 'h': a secret" in problem
    assert (issuer.opened, issuer.asked) == ([("id", 443, True)], ["/keys?v=1"])


async def test_keys_are_fetched_over_a_real_socket() -> None:
    issuer = FakeIssuer("e")
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, issuer.serve, 0)
        port = listeners[0].socket.getsockname()[1]
        source = KeySource("jwks_url", f"http://127.0.0.1:{port}/keys", (), Times(), "line 4")
        keys, _ = await fetch_keys("https://id", source)
        nursery.cancel_scope.cancel()
    assert [found.id for found in keys] == ["e"]


async def test_keys_are_discovered() -> None:
    issuer = FakeIssuer("e")
    issuer.documents[WELL_KNOWN] = {"issuer": "https://id", "jwks_uri": "https://keys.id:8443/set"}
    assert await fetched(issuer, DISCOVERY) == (["e"], [])
    assert issuer.opened == [("id", 443, True), ("keys.id", 8443, True)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"issuer": "https://evil", "jwks_uri": "https://id/k"}, "is not the document of issuer 'https://id'"),
        ({"issuer": "https://id/", "jwks_uri": "https://id/k"}, "is not the document of issuer"),
        ([], "is not the document of issuer"),
        ({"issuer": "https://id"}, "its 'jwks_uri' cannot be used: it must be a URL"),
        ({"issuer": "https://id", "jwks_uri": "http://id/k"}, "cannot be used: it must begin with https://"),
        ({"issuer": "https://id", "jwks_uri": "file:///etc/passwd"}, "cannot be used: it must be a URL"),
        ({"issuer": "https://id", "jwks_uri": 1}, "cannot be used"),
    ],
)
async def test_a_document_that_does_not_lead_to_keys(document: object, message: str) -> None:
    issuer = FakeIssuer("e")
    issuer.documents[WELL_KNOWN] = document
    with pytest.raises(FetchFailed, match=message):
        await fetched(issuer, DISCOVERY)


def broken(**more: object) -> FakeIssuer:
    issuer = FakeIssuer("e")
    for name, value in more.items():
        setattr(issuer, name, value)
    return issuer


@pytest.mark.parametrize(
    ("issuer", "message"),
    [
        (lambda: broken(down=True), r"keys\?v=1 cannot be reached: refused"),
        (lambda: broken(status=302), "status 302: redirects are not followed"),
        (lambda: broken(status=500), "status 500$"),
        (lambda: broken(status=204, body=b""), "status 204$"),
        (lambda: broken(body=b"<html>"), "no set of keys"),
        (lambda: broken(body=b"x" * (DOCUMENT_BYTES_MAX + 1)), "longer than 262144 bytes"),
        (lambda: broken(keys=[]), "no key that can be used: it is empty"),
        (lambda: broken(keys=[{"kty": "oct", "k": "x"}]), "no key that can be used: key 1: a secret or a private key"),
    ],
)
async def test_a_fetch_that_fails_says_why(issuer: Callable[[], FakeIssuer], message: str) -> None:
    with pytest.raises(FetchFailed, match=message):
        await fetched(issuer())


async def test_a_fetch_takes_five_seconds_at_most(autojump_clock: MockClock) -> None:
    with pytest.raises(FetchFailed, match="does not answer within 5 s"):
        await fetched(broken(silent=True))
    assert trio.current_time() == pytest.approx(5)
