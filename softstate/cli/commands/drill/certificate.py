"""The certificate of a throw-away node, made by ``openssl``, and what trusts it."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trio

from softstate.cli.exit_codes import USAGE, Failure
from softstate.client.shell.trust import opening
from softstate.http_client.streams import OpenStream, open_tcp

DAYS = 2
"""For how long it is good: longer than the longest drill."""

_REQUEST = (
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(DAYS),
    "-subj", "/CN=softstate drill", "-addext", "subjectAltName=IP:127.0.0.1",
    "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files. Who trusts the certificate as an authority trusts the node."""

    cert: Path
    key: Path

    @property
    def options(self) -> list[str]:
        """The options of a node that has it."""
        return ["--tls-cert", str(self.cert), "--tls-key", str(self.key)]


async def make_certificate(folder: Path) -> Pair:
    """Make a certificate for 127.0.0.1, with a new key, in a folder. Raises `Failure` if there is no ``openssl``."""
    pair = Pair(folder / "node.cert.pem", folder / "node.key.pem")
    command = ["openssl", *_REQUEST, "-out", str(pair.cert), "-keyout", str(pair.key)]
    try:
        done = await trio.run_process(
            command, capture_stdout=True, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        message = "--tls needs the program openssl, to make a certificate: install it, or drill your own node by --url"
        raise Failure(message, USAGE) from None
    if done.returncode:
        last = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
        raise Failure(f"openssl has made no certificate: {last or 'it says nothing'}", USAGE)
    pair.key.chmod(0o600)
    return pair


def trusting(ca: str) -> ssl.SSLContext | None:
    """Return what trusts an authority, a file; None, for the system's own, if there is none named."""
    return ssl.create_default_context(cafile=ca) if ca else None


def opener(tls: ssl.SSLContext | None) -> OpenStream:
    """Return what opens streams with a context, or with the system's authorities."""
    return open_tcp if tls is None else opening(tls)
