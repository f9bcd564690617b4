"""Certificates made for one test, by an authority of its own; and the client's side of TLS, without a socket."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["NAMES", "Authority", "Pair", "TlsClient", "x509"]

NAMES = ("localhost", "127.0.0.1", "node.example")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """An authority whose certificate is `ca`, a file in `folder`; all that it makes is there too."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {name}")])
        self._cert = (
            _builder(self._name, self._name, self._key.public_key(), -1, 30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def node(self, name: str = "node", *, names: tuple[str, ...] = NAMES, days: tuple[float, float] = (-1, 30)) -> Pair:
        """Make the certificate of a node with these names, good for these days from now."""
        return self._make(name, [_name_of(each) for each in names], None, days, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(
        self,
        name: str = "client",
        *names: x509.GeneralName,
        subject: str | None = "client",
        days: tuple[float, float] = (-1, 30),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> Pair:
        """Make the certificate of a client."""
        return self._make(name, list(names), subject, days, usage)

    def _make(
        self,
        name: str,
        names: list[x509.GeneralName],
        subject: str | None,
        days: tuple[float, float],
        usage: x509.ObjectIdentifier,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [] if subject is None else [x509.NameAttribute(NameOID.COMMON_NAME, subject)]
        builder = _builder(x509.Name(attributes), self._name, key.public_key(), *days).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=subject is None)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        pair = Pair(self.folder / f"{name}.cert.pem", self.folder / f"{name}.key.pem")
        pair.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        pair.key.chmod(0o600)
        return pair

    def trusting(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority, and has a certificate, if any."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: float, end: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begin))
        .not_valid_after(now + dt.timedelta(days=end))
    )


def _name_of(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class TlsClient:
    """The other end of a connection with TLS. `outgoing` is what it sends, `take` what was sent to it."""

    def __init__(self, context: ssl.SSLContext, name: str = "localhost") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.shaken = False

    def outgoing(self) -> bytes:
        """Take what is to be sent."""
        return self._outgoing.read()

    def take(self, data: bytes | bytearray) -> bytes:
        """Take what was sent to it; return what that says, once the handshake is over."""
        self._incoming.write(data)
        said = b""
        try:
            if not self.shaken:
                self.object.do_handshake()
                self.shaken = True
            while part := self.object.read(1 << 16):
                said += part
        except ssl.SSLWantReadError:
            pass
        return said

    def begin(self) -> bytes:
        """Begin the handshake; return what is to be sent."""
        self.take(b"")
        return self.outgoing()

    def say(self, data: bytes) -> bytes:
        """Seal data; return what is to be sent."""
        self.object.write(data)
        return self.outgoing()

    def close(self) -> bytes:
        """Say that no more comes; return what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):  # the other end has not said so yet
            self.object.unwrap()
        return self.outgoing()
