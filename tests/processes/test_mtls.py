"""A real node that asks clients for certificates: who they are, what decides, and how one is revoked or replaced."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

import softstate
from tests.kit.certificates import Authority, Pair, x509
from tests.kit.node_rig import mode_is
from tests.kit.processes import WAIT_S, Server, command, running
from tests.kit.static_tokens import CI, static

POLICY = f"""
[auth.mtls]
subject = "uri"

{static("ci", CI, read=["builds/"])}
[[allow]]
who = "anyone"
read = ["public/"]

[[allow]]
who = {{issuer = "mtls"}}
read = ["services/"]
write = ["services/"]

[[allow]]
who = {{issuer = "mtls", sub = "spiffe://x/root"}}
admin = true
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def service(authority: Authority, name: str, days: tuple[float, float] = (-1, 30)) -> Pair:
    return authority.client(name, x509.UniformResourceIdentifier(f"spiffe://x/{name}"), subject=None, days=days)


@contextmanager
def secured(authority: Authority, **options: object) -> Iterator[Server]:
    pair = authority.node()
    (authority.folder / "auth.toml").write_text(POLICY)
    with running(
        authority.folder,
        tls_cert=str(pair.cert), tls_key=str(pair.key), tls_client_ca=str(authority.ca), auth="auth.toml", **options,
    ) as server:  # fmt: skip
        server.trusts = authority.trusting()
        yield server


def status(server: Server, path: str, token: str | None = None) -> int:
    return server.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})[0]


def run(server: Server, authority: Authority, pair: Pair, *words: str, code: int = 0) -> str:
    files = ["--tls-ca", str(authority.ca), "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    done = command(server.url, *words, *files, code=code)
    return done.stdout + done.stderr


def test_a_certificate_decides_first_and_a_bad_one_makes_nobody(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = service(authority, "one")
    with secured(authority) as server:
        assert status(server, "/v1/topics/public/x") == 404
        assert status(server, "/v1/topics/services/x") == 403
        assert status(server, "/v1/topics/builds/x", CI) == 404
        server.trusts = authority.trusting(one)
        _, me, _ = server.request("GET", "/v1/whoami")
        assert (me["issuer"], me["subject"]) == ("mtls", "spiffe://x/one")
        assert me["credentials_ms"] == 7 * 86_400_000, "no duration is longer"
        assert status(server, "/v1/topics/services/x") == 404
        assert status(server, "/v1/topics/builds/x", CI) == 403, "the certificate decides, not the token beside it"
        assert status(server, "/v1/topics/services/x", "nonsense") == 404
        assert server.request("GET", "/v1/topics/services/x", headers={"Authorization": "Basic x"})[0] == 404
        # A page may be anybody's, and a browser presents the certificate all the same.
        assert server.request("GET", "/v1/whoami", headers={"Host": "evil.example"})[0] == 403
        server.trusts = authority.trusting(authority.client("nameless"))
        assert status(server, "/v1/topics/public/x") == 401
        for bad in (Authority(tmp_path / "other").client(), service(authority, "old", (-3, -1))):
            server.trusts = authority.trusting(bad)
            with pytest.raises(OSError, match=r"(?i)alert|reset|broken pipe"):  # as fast as the node was
                server.request("GET", "/v1/topics/public/x")
        server.trusts = authority.trusting()
        assert status(server, "/v1/topics/public/x") == 404, "it has refused those two and nobody else"
        assert server.stop() == 0


def test_a_certificate_is_revoked_by_its_digest(authority: Authority) -> None:
    one, root = service(authority, "one"), service(authority, "root")
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(one.cert.read_text())).hexdigest()
    with secured(authority) as server:
        run(server, authority, one, "publish", "services/a", "1")
        assert run(server, authority, one, "get", "services/a").strip() == "1"
        run(server, authority, root, "revoke", "key", "mtls", digest)
        assert "revoked" in run(server, authority, one, "get", "services/a", code=7)
        assert run(server, authority, service(authority, "one"), "get", "services/a").strip() == "1"
        assert server.stop() == 0


async def decides(server: Server, authority: Authority) -> None:
    tls = authority.trusting(service(authority, "one"))
    async with (
        softstate.connect(server.url, tls=tls, token=CI) as client,
        client.subscribe("services/") as services,
        client.subscribe("builds/") as builds,
    ):
        with trio.fail_after(2 * WAIT_S):
            await client.publish("services/a", 1)
            async for _ in services:
                break
            with pytest.raises(softstate.Denied):
                async for _ in builds:
                    pass


def test_a_certificate_decides_over_websocket_too(authority: Authority) -> None:
    with secured(authority) as server:
        trio.run(decides, server, authority)
        assert server.stop() == 0


async def replace(server: Server, authority: Authority) -> None:
    context = authority.trusting(service(authority, "one", (-1, 6 / 86_400)))
    async with softstate.connect(server.url, tls=context) as client, client.subscribe("services/") as updates:
        with trio.fail_after(3 * WAIT_S):
            await client.publish("services/a", 1)
            await mode_is(client, "live")
            # Its holder renews it in time, as an agent beside a service does; the client is not told.
            again = service(authority, "one")
            context.load_cert_chain(again.cert, again.key)
            await mode_is(client, "connecting", "polling", "offline")
            await mode_is(client, "live")
            await client.publish("services/a", 2)
            async for change in updates:
                if change.value == 2:
                    break
            assert client.mode == "live"


def test_a_client_outlives_its_certificate_if_it_gets_another(authority: Authority) -> None:
    with secured(authority) as server:
        trio.run(replace, server, authority)
        assert server.stop() == 0


def test_a_client_is_told_that_its_certificate_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").client()
    with secured(authority) as server:
        said = run(server, authority, stranger, "get", "public/x", "--timeout", "2s", code=5)
        assert "does not accept this client's certificate" in said
        assert server.stop() == 0
