"""Credentials, TLS and URLs of the store in etcd, against real servers."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from softstate.errors import ConfigError, StoreRefused, Unavailable
from softstate.store.etcd.store import EtcdStore
from softstate.testing.conformance.stage import put, state
from tests.store.engines.etcd_rig import EtcdRig, need_etcd
from tests.store.engines.rig import WAIT_S

PASSWORD = "sésame:/@"
QUOTED = "s%C3%A9same%3A%2F%40"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[EtcdRig]:
    """An etcd with authentication, a user `app` who may read and write below softstate/, and a user `guest`."""
    need_etcd()
    rig = EtcdRig(tmp_path, flags=["--bcrypt-cost=4"], user=f"app:{QUOTED}@")
    try:
        await rig.start()
        for command in (
            ["user", "add", "root:root"],
            ["user", "grant-role", "root", "root"],
            ["role", "add", "app"],
            ["role", "grant-permission", "app", "--prefix=true", "readwrite", "softstate/"],
            ["user", "add", f"app:{PASSWORD}"],
            ["user", "grant-role", "app", "app"],
            ["user", "add", "guest:guest"],
            ["auth", "enable"],
        ):
            if command[1:3] == ["grant-role", "root"]:
                await trio.to_thread.run_sync(rig.ctl, "role", "add", "root")
            await trio.to_thread.run_sync(rig.ctl, *command)
        yield rig
    finally:
        await rig.kill()


async def test_user_with_a_password(guarded: EtcdRig) -> None:
    store = await guarded.open()
    version = await put(store, "a")
    assert (await state(store))["a"].version == version
    assert PASSWORD not in repr(store.name)
    assert QUOTED not in store.name
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.wait, (await store.head()).revision)
        await put(store, "b")
    await store.aclose()


async def test_token_that_a_restart_has_forgotten(guarded: EtcdRig) -> None:
    store = await guarded.open()
    await put(store, "a")
    await guarded.kill()
    await guarded.start()
    assert list(await state(store)) == ["a"]
    await put(store, "b")
    await store.aclose()


async def test_token_that_is_over_on_an_open_connection(guarded: EtcdRig) -> None:
    store = await guarded.open()
    before = await store.head()
    store._gateway._token = "unknown.1"
    await put(store, "a")
    store._gateway._token = "unknown.2"
    assert (await store.head()).lineage == before.lineage, "nothing of the connection was lost"
    await store.aclose()


async def test_wrong_password(guarded: EtcdRig) -> None:
    with pytest.raises(StoreRefused, match="password") as caught:
        await EtcdStore.open(f"etcd://app:wr0ng@{guarded.address}/")
    assert "wr0ng" not in str(caught.value)


async def test_no_credentials(guarded: EtcdRig) -> None:
    with pytest.raises(StoreRefused, match="credentials"):
        await EtcdStore.open(f"etcd://{guarded.address}/")


async def test_user_without_permission(guarded: EtcdRig) -> None:
    with pytest.raises(StoreRefused, match="grant"):
        await EtcdStore.open(f"etcd://guest:guest@{guarded.address}/")


async def test_password_from_a_file(guarded: EtcdRig, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    store = await EtcdStore.open(f"etcd://app@{guarded.address}/?password_file={secret}")
    await put(store, "a")
    await store.aclose()


async def test_password_that_the_server_does_not_ask_for(tmp_path: Path) -> None:
    need_etcd()
    rig = EtcdRig(tmp_path, user="app:x@")
    try:
        await rig.start()
        store = await rig.open()
        await put(store, "a")
        await store.aclose()
    finally:
        await rig.kill()


def certify(folder: Path) -> None:
    """Make an authority, and a server's and a client's certificate signed by it."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=WAIT_S)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=rig", "-days", "2")
    for name in ("server", "client"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        sign = ["-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
        openssl("x509", *sign, "-out", f"{name}.pem", "-extfile", "san")


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[EtcdRig]:
    """An etcd that speaks TLS, and wants certificates of its clients."""
    need_etcd()
    certify(tmp_path)
    tls = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    tls.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    flags = [f"--cert-file={tmp_path}/server.pem", f"--key-file={tmp_path}/server.key", "--client-cert-auth"]
    flags += [f"--trusted-ca-file={tmp_path}/ca.pem"]
    options = f"cacert={tmp_path}/ca.pem&cert={tmp_path}/client.pem&key={tmp_path}/client.key"
    rig = EtcdRig(tmp_path, flags=flags, options=options, tls=tls)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.kill()


async def test_tls(secure: EtcdRig) -> None:
    store = await secure.open()
    version = await put(store, "a")
    first = await store.head()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.wait, version)
        await put(store, "b")
    for _ in range(3):
        await put(store, "b")
    assert (await store.head()).lineage == first.lineage, "the connection is used again"
    assert sorted(await state(store)) == ["a", "b"]
    await store.aclose()


async def test_tls_that_is_not_trusted(secure: EtcdRig) -> None:
    with pytest.raises(StoreRefused, match="cacert"):
        await EtcdStore.open(f"etcds://{secure.address}/")


async def test_tls_without_a_certificate_of_ones_own(secure: EtcdRig, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await EtcdStore.open(f"etcds://{secure.address}/?cacert={tmp_path}/ca.pem")


async def test_plain_to_a_server_that_wants_tls(secure: EtcdRig) -> None:
    with pytest.raises(Unavailable, match="etcds://"):
        await EtcdStore.open(f"etcd://{secure.address}/")


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("etcd://localhost/database", "namespace"),
        ("etcd://localhost/?namespace=a//b", "namespace"),
        ("etcd://localhost/?namespace=", "namespace"),
        (f"etcd://localhost/?namespace={'n' * 200}", "namespace"),
        ("etcd://localhost/?cacert=/x", "etcds://"),
        ("etcds://localhost/?cacert=/nowhere", "cacert"),
        ("etcds://localhost/?key=/nowhere", "cert"),
        ("etcds://localhost/?cert=/nowhere", "cert"),
        ("etcds://localhost/?cacert=%00", "cacert"),
        ("etcd://localhost:port/", "port"),
        ("etcd://a..b:1", "host"),
        ("etcd://localhost,ü..x:1", "host"),
        ("etcd://%00@localhost", "user"),
        ("etcd://localhost/?colour=red", "colour"),
    ],
)
async def test_wrong_url(url: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        await EtcdStore.open(url)
