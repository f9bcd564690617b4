"""The certificate of a node: which files are refused, and how another one takes the place of the one in use."""

from __future__ import annotations

import shutil
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from softstate.errors import ConfigError
from softstate.server import certificates as module
from softstate.server.bulkhead import Bulkhead
from softstate.server.certificates import (
    FILE_BYTES_MAX,
    WARN_EVERY_S,
    WARN_S,
    CertificateFiles,
    CertificateKeeper,
    load_certificate,
)
from tests.kit.certificates import NAMES, Authority, Pair, TlsClient
from tests.kit.node_rig import until
from tests.kit.threads import at_once

DAY_S = 86_400


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files_of(pair: Pair) -> CertificateFiles:
    return CertificateFiles(pair.cert, pair.key)


def test_a_certificate_tells_its_names_and_its_end(authority: Authority) -> None:
    found = load_certificate(files_of(authority.node(days=(-1, 20))))
    assert found.names == NAMES
    assert abs(found.until - time.time() - 20 * DAY_S) < 600
    assert found.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert found.context.num_tickets == 1


def test_certificate_and_key_may_be_one_file(authority: Authority, tmp_path: Path) -> None:
    pair, both = authority.node(), tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.cert.read_bytes())
    assert load_certificate(CertificateFiles(both, both)).names == NAMES


def test_remarks_between_certificates_may_be_in_any_language(authority: Authority, tmp_path: Path) -> None:
    pair, remarked = authority.node(), tmp_path / "remarked.pem"
    remarked.write_bytes("# Schlüssel\n".encode() + pair.cert.read_bytes())
    assert load_certificate(CertificateFiles(remarked, pair.key)).names == NAMES


def test_what_no_client_would_accept_is_refused(authority: Authority, tmp_path: Path) -> None:
    node, other = authority.node(), authority.node("other")
    long = tmp_path / "long.pem"
    long.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    locked = tmp_path / "locked.pem"
    _lock(node.key, locked)
    for cert, key, words in (
        (node.cert, other.key, "is not that of the first certificate"),
        (node.key, node.cert, "PEM"),
        (node.cert, tmp_path / "nothing.pem", "No such file"),
        (tmp_path, node.key, "Is a directory"),
        (long, node.key, "longer than"),
        (node.cert, locked, "passphrase"),
        (*_pair(authority.node("old", days=(-3, -1))), "expired"),
        (*_pair(authority.node("new", days=(1, 3))), "not yet valid"),
        (*_pair(authority.client()), "purpose"),
    ):
        with pytest.raises(ConfigError, match=words) as raised:
            load_certificate(CertificateFiles(cert, key))
        assert "tls_" in str(raised.value)


def put_in_place(source: Path, target: Path) -> None:
    """Copy a file so that no look finds a part of it."""
    beside = target.with_suffix(".new")
    shutil.copy(source, beside)
    beside.replace(target)


def _pair(pair: Pair) -> tuple[Path, Path]:
    return pair.cert, pair.key


def _lock(key: Path, locked: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of this test alone

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    kind = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind))


def served(keeper: CertificateKeeper, client: TlsClient) -> str:
    """Return the name of the authority of what a client is shown."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    node = keeper.tls.context.wrap_bio(into, out, server_side=True)
    into.write(client.begin())
    with pytest.raises(ssl.SSLWantReadError):
        node.do_handshake()
    client.take(out.read())
    shown = client.object.getpeercert()
    assert shown is not None
    issuer = shown["issuer"]
    assert isinstance(issuer, tuple)
    return str(issuer[0][0][1])


@asynccontextmanager
async def kept(pair: Pair) -> AsyncIterator[CertificateKeeper]:
    keeper = CertificateKeeper(files_of(pair), Bulkhead(strict=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield keeper
        nursery.cancel_scope.cancel()


async def test_another_certificate_takes_its_place_when_it_is_asked_for_or_the_files_change(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    pair = authority.node()
    async with kept(pair) as keeper:
        assert served(keeper, TlsClient(authority.trusting())) == "authority ca"
        first = keeper.tls.context
        for source, target in zip(_pair(other.node()), _pair(pair), strict=True):
            put_in_place(source, target)
        keeper.reload()
        with trio.fail_after(10):
            await until(lambda: keeper.tls.context is not first)
        assert served(keeper, TlsClient(other.trusting())) == "authority other"
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    async with kept(pair) as keeper:
        again = authority.node()
        first = keeper.tls.context
        with trio.fail_after(10):
            await until(lambda: keeper.tls.context is not first)
        assert again == pair
        assert served(keeper, TlsClient(authority.trusting())) == "authority ca"


async def test_a_certificate_that_is_of_no_use_leaves_the_one_in_use_and_is_told(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file is written after the other: a look in between finds a key that does not fit."""
    pair, other = authority.node(), authority.node("other")
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    with structlog.testing.capture_logs() as logs:
        async with kept(pair) as keeper:
            first = keeper.tls.context
            put_in_place(other.cert, pair.cert)
            with trio.fail_after(10):
                await until(lambda: any(line["event"] == "certificate not changed" for line in logs))
            assert keeper.tls.context is first
            served(keeper, TlsClient(authority.trusting()))
            put_in_place(other.key, pair.key)
            with trio.fail_after(10):
                await until(lambda: keeper.tls.context is not first)
            served(keeper, TlsClient(authority.trusting()))
    (told,) = [line for line in logs if line["event"] == "certificate not changed"]
    assert "is not that of the first certificate" in told["because"]


async def test_the_end_of_a_certificate_is_told_ahead_once_a_day(
    authority: Authority, autojump_clock: MockClock
) -> None:
    begin = trio.current_time()
    wall = time.time()

    def warnings() -> int:
        return sum(line["event"].startswith("certificate ends soon") for line in logs)

    with structlog.testing.capture_logs() as logs:
        keeper = CertificateKeeper(
            files_of(authority.node(days=(-1, 16))),
            Bulkhead(strict=True),
            lambda: wall + trio.current_time() - begin,
            in_thread=at_once,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            assert keeper.expires_s > WARN_S
            await trio.sleep(DAY_S)
            assert warnings() == 0
            await trio.sleep(2 * DAY_S)
            assert warnings() == 1
            await trio.sleep(2 * WARN_EVERY_S)
            assert warnings() == 3
            assert keeper.statistics()["tls_expires_seconds"] < WARN_S
            nursery.cancel_scope.cancel()
