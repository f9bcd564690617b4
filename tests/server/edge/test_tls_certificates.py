"""Certificates on a wire: that of the node, those of clients, and why a handshake is refused."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import time
from pathlib import Path

import pytest

from softstate.server.certificates import CertificateFiles, load_certificate
from softstate.server.edge.tls import Tls
from tests.kit.certificates import Authority, TlsClient, x509
from tests.kit.tls_rig import Rig, has_ended


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Tls:
    pair = authority.node()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pair.cert, pair.key)
    return Tls(context)


def test_the_context_may_be_another_one_for_those_to_come(authority: Authority, tmp_path: Path) -> None:
    def context(of: Authority) -> ssl.SSLContext:
        pair, made = of.node(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(pair.cert, pair.key)
        return made

    other = Authority(tmp_path)
    shared = Tls(context(authority))
    old = Rig(shared, TlsClient(authority.trusting())).shake()
    half = Rig(shared, TlsClient(authority.trusting()))
    shared.context = context(other)
    half.shake()
    Rig(shared, TlsClient(other.trusting())).shake()
    for rig in (old, half):
        rig.peer.send(b"still here")
        assert rig.heard() == b"still here"
    assert shared.handshakes == 3


@pytest.fixture
def asking(authority: Authority) -> Tls:
    """The TLS of a node that asks clients for certificates, with clocks of its own."""
    pair = authority.node()
    loaded = load_certificate(CertificateFiles(pair.cert, pair.key, authority.ca))
    return Tls(loaded.context, lambda: 1_000.0, time.time)


def test_a_client_is_known_by_the_names_of_its_certificate(authority: Authority, asking: Tls) -> None:
    names = x509.UniformResourceIdentifier("spiffe://x/y"), x509.DNSName("a.example"), x509.RFC822Name("a@example")
    pair = authority.client("named", *names, subject="Ann")
    rig = Rig(asking, TlsClient(authority.trusting(pair))).shake()
    found = rig.wire.certificate
    assert found is not None
    assert found.names == (("uri", "spiffe://x/y"), ("dns", "a.example"), ("email", "a@example"), ("cn", "Ann"))
    der = ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
    assert found.digest == hashlib.sha256(der).hexdigest()
    assert found.end - time.time() == pytest.approx(30 * 86_400, abs=60)
    assert Rig(asking, TlsClient(authority.trusting())).shake().wire.certificate is None


@pytest.mark.parametrize("bad", ["stranger", "expired", "of a node"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_is_not_good_makes_no_connection(
    authority: Authority, asking: Tls, tmp_path: Path, bad: str, version: ssl.TLSVersion
) -> None:
    """It would be taken for anybody else."""
    made = {
        "stranger": lambda: Authority(tmp_path).client(),
        "expired": lambda: authority.client("old", days=(-3, -1)),
        "of a node": lambda: authority.node("used"),
    }[bad]()
    context = authority.trusting(made)
    context.maximum_version = version
    rig, before = Rig(asking, TlsClient(context)), asking.refused
    with contextlib.suppress(ssl.SSLError):
        rig.shake()
        rig.socket.arrive(rig.client.say(b"GET / HTTP/1.1"))
    assert asking.refused == before + 1
    assert rig.peer.received == b""
    rig.socket.end()
    assert rig.peer.ended


def test_a_connection_ends_with_the_certificate_of_its_client(authority: Authority, asking: Tls) -> None:
    """So its client connects again, with a new one if it has one; an answer would have it stop."""
    now = 1_000.0
    asking.now = lambda: now
    client = TlsClient(authority.trusting(authority.client("short", days=(-1, 1))))
    rig = Rig(asking, client).shake()
    now += 86_400 - 30
    rig.socket.arrive(client.say(b"before"))
    assert rig.peer.received == b"before"
    assert not has_ended(rig)
    now += 30
    rig.socket.arrive(client.say(b"after"))
    assert rig.peer.received == b"before"
    assert has_ended(rig)


def reason_of(authority: Authority, tls: Tls, context: ssl.SSLContext, name: str = "localhost") -> str:
    """Return why a handshake was refused, as the audit log has it."""
    told: list[tuple[str, str, str]] = []
    shared = Tls(tls.context)
    shared.failed = lambda *given: told.append(given)
    rig = Rig(shared, TlsClient(context, name))
    rig.wire.address = "192.0.2.1:4711"
    with contextlib.suppress(ssl.SSLError):
        rig.shake()
    rig.socket.arrive(rig.client.outgoing())
    ((what, because, address),) = told
    assert (what, address, shared.refused) == ("handshake refused", "192.0.2.1:4711", 1)
    return because


def test_it_is_told_in_plain_words_why_a_handshake_is_refused(authority: Authority, tls: Tls, asking: Tls) -> None:
    assert reason_of(authority, tls, ssl.create_default_context()) == (
        "the client does not know the authority of this node's certificate"
    )
    assert reason_of(authority, tls, authority.trusting(), "other.example") == (
        "the client does not accept this node's certificate"
    )
    old = authority.trusting()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA")
    assert reason_of(authority, tls, old) == "the client and this node have no cipher in common"
    stranger = Authority(authority.folder, "stranger").client("stranger")
    assert reason_of(authority, asking, authority.trusting(stranger)).startswith(
        "the client's certificate is not accepted: unable to get local issuer certificate"
    )
    late = authority.client("late", days=(-2, -1))
    assert "certificate has expired" in reason_of(authority, asking, authority.trusting(late))
