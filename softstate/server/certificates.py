"""The certificate of a node: loaded, tried, and put into use; and loaded again when its file changes.

A context that is in use is never changed: to load a key that does not fit would leave it without any. Another one is
loaded, tried in a handshake with itself, and then takes the place of the one before. Connections that are open keep
what they have; if anything is wrong, everybody does.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, final

import structlog
import trio

from softstate.errors import ConfigError
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.edge.tls import Tls

LOOK_S = 60.0
"""Time between two looks at the files: whether they have changed, and whether the certificate ends soon."""

WARN_S = 14 * 86_400.0
"""Time before a certificate ends from which on that is warned of."""

WARN_EVERY_S = 86_400.0
"""Time between two such warnings."""

FILE_BYTES_MAX = 1024 * 1024
"""Longest file of a certificate or key."""

TICKETS = 1
"""Session tickets that a client of TLS 1.3 gets: it opens one connection at a time, and each costs a message."""

ALPN = "http/1.1"

log = structlog.get_logger("softstate.tls")

T = TypeVar("T")


class InThread(Protocol):
    """Calls a function that reads files, without stopping the loop for a disk that hangs."""

    async def __call__(self, function: Callable[[CertificateFiles], T], files: CertificateFiles, /) -> T:
        """Return what it returns."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The files of TLS: `cert` holds the chain of the node, its own first; `key` may be the same file.

    `client_ca` holds the authorities by which clients' certificates are taken; None: clients are not asked for any.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every one of them."""
        return (self.cert, self.key) if self.client_ca is None else (self.cert, self.key, self.client_ca)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A context that has been tried, the names that its certificate is for, and when that ends, in wall time."""

    context: ssl.SSLContext
    names: tuple[str, ...]
    until: float


def files_of(config: ServerConfig) -> CertificateFiles | None:
    """Return the files that a configuration names, None for a node without TLS."""
    if not config.tls_cert:
        return None
    client_ca = Path(config.tls_client_ca) if config.tls_client_ca else None
    return CertificateFiles(Path(config.tls_cert), Path(config.tls_key or config.tls_cert), client_ca)


def load_certificate(files: CertificateFiles) -> Certificate:
    """Load files into a new context, and try it. Raises `ConfigError`, which says what is wrong with which file."""
    chain = _read(files.cert, "tls_cert")
    _read(files.key, "tls_key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = TICKETS
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(files.cert, files.key, partial(_refuse_passphrase, files.key))
    except ssl.SSLError as error:
        raise ConfigError(f"tls_cert, tls_key: {_unusable(files, error)}") from None
    except OSError as error:
        raise ConfigError(f"tls_cert, tls_key: cannot read {files.cert} or {files.key}: {error.strerror}") from None
    if files.client_ca is not None:
        _ask_clients(context, files.client_ca)
    told = _try(context, chain, files.cert)
    names = tuple(str(name) for kind, name in _pairs(told.get("subjectAltName")) if kind in ("DNS", "IP Address"))
    return Certificate(context, names, float(ssl.cert_time_to_seconds(str(told["notAfter"]))))


@final
class CertificateKeeper:
    """Keeps the `tls` of one node up to date with its files. Raises `ConfigError` if they cannot be used to begin with.

    `wall` is the clock by which certificates end, in seconds since 1970.
    """

    def __init__(
        self,
        files: CertificateFiles,
        bulkhead: Bulkhead,
        wall: Callable[[], float] = time.time,
        *,
        now: Callable[[], float] = trio.current_time,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._files = files
        self._bulkhead = bulkhead
        self._wall = wall
        self._in_thread = in_thread
        self._seen = _stamps(files)
        self._certificate = load_certificate(files)
        self._warn_at = 0.0
        self._asked = trio.Event()
        self.tls = Tls(self._certificate.context, now, wall)
        """The TLS of the node's connections."""
        self._tell()

    @property
    def expires_s(self) -> float:
        """The time until the certificate ends, in seconds; below 0 once it has."""
        return self._certificate.until - self._wall()

    def statistics(self) -> dict[str, int]:
        """Count handshakes, and the seconds until the certificate ends, under the names that are shown."""
        return {
            "tls_expires_seconds": round(self.expires_s),
            "tls_handshakes": self.tls.handshakes,
            "tls_refused": self.tls.refused,
        }

    def reload(self) -> None:
        """Have the files loaded again soon, though they may not have changed."""
        self._asked.set()

    async def run(self) -> None:
        """Look at the files until cancelled."""
        while True:
            with self._bulkhead.contain("certificate") as round_:
                await self._look()
            if round_.failed:
                await trio.sleep(RETRY_S)

    async def _look(self) -> None:
        with trio.move_on_after(LOOK_S):
            await self._asked.wait()
        asked, self._asked = self._asked.is_set(), trio.Event()
        seen = await self._in_thread(_stamps, self._files)
        if asked or seen != self._seen:
            self._seen = seen
            await self._load()
        elif self._wall() >= self._warn_at:
            self._warn()

    async def _load(self) -> None:
        try:
            loaded = await self._in_thread(load_certificate, self._files)
        except ConfigError as error:
            log.warning("certificate not changed", because=str(error), expires_s=round(self.expires_s))
            return
        self._certificate = loaded
        self.tls.context = loaded.context
        self._tell()

    def _tell(self) -> None:
        log.info("certificate in use", names=self._certificate.names, expires_s=round(self.expires_s))
        self._warn()

    def _warn(self) -> None:
        if self.expires_s < WARN_S:
            self._warn_at = self._wall() + WARN_EVERY_S
            log.warning("certificate ends soon: renew it", file=str(self._files.cert), expires_s=round(self.expires_s))
        else:
            self._warn_at = self._certificate.until - WARN_S


Stamp = tuple[int, int, int, int]


def _stamps(files: CertificateFiles) -> Mapping[Path, Stamp | None]:
    """Return how files are now: device, number, size and time of modification; None for one that is not there."""
    found: dict[Path, Stamp | None] = {}
    for path in files.all:
        try:
            status = path.stat()
        except (OSError, ValueError):
            found[path] = None
        else:
            found[path] = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return found


def _read(path: Path, option: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option}: cannot read {path}: {getattr(error, 'strerror', error)}") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{option}: {path} is longer than {FILE_BYTES_MAX} bytes: name another file")
    return data.decode("ascii", "ignore")  # PEM itself is ASCII, what stands between its blocks may be anything


def _ask_clients(context: ssl.SSLContext, client_ca: Path) -> None:
    """Ask clients for certificates. One that is presented and not good fails the handshake."""
    _read(client_ca, "tls_client_ca")
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        what = error.reason or str(error)
        raise ConfigError(
            f"tls_client_ca: {client_ca} cannot be used ({what}): it must hold certificates (PEM)"
        ) from None
    context.verify_mode = ssl.CERT_OPTIONAL


def _refuse_passphrase(key: Path) -> str:
    raise ConfigError(f"tls_key: {key} is protected by a passphrase, which nobody could type: give the key without one")


def _unusable(files: CertificateFiles, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {files.key} is not that of the first certificate in {files.cert}: name both of one pair"
    what = error.reason.lower().replace("_", " ") if error.reason else str(error)
    if files.key == files.cert:
        return (
            f"{files.cert} cannot be used ({what}): it must be PEM; if its key is in another file, give --tls-key FILE"
        )
    both = "both must be PEM files, the node's own certificate first"
    return f"{files.cert} and {files.key} cannot be used ({what}): {both}"


def _try(context: ssl.SSLContext, chain: str, path: Path) -> Mapping[str, object]:
    """Make a handshake in memory; return what a client is told. Raises `ConfigError` if none would accept it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its own certificate need not be signed by anybody
    client.load_verify_locations(cadata=chain)
    to_node, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_node), context.wrap_bio(to_node, to_client, server_side=True)
    try:
        for _ in range(4):
            for end in ends:
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"tls_cert: no client would accept {path}: {error.verify_message}: get another") from None
    except ssl.SSLError as error:
        raise ConfigError(f"tls_cert: no handshake can be made with {path}: {error.reason or error}") from None
    return ends[0].getpeercert() or {}


def _pairs(found: object) -> Iterable[tuple[object, object]]:
    return found if isinstance(found, tuple) else ()
