"""Being let in: URLs, passwords, permissions, TLS, and a driver that is not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from softstate.errors import ConfigError, StoreRefused
from softstate.store import open_store
from softstate.store.base import Write
from softstate.store.redis.url import RedisAddress
from tests.kit.engines import missing
from tests.store.engines.redis_rig import RedisRig, redis_rig
from tests.store.engines.rig import free_port

SECRET = "s3cret-of-mine"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[RedisRig]:
    async with redis_rig(tmp_path, requirepass=SECRET) as rig:
        yield rig


# URLs ----------------------------------------------------------------------------------------------------------------


def test_parts() -> None:
    address = RedisAddress.read("redis://u%40:p%2F@h:1/3?namespace=n.1")
    assert (address.host, address.port, address.database, address.namespace) == ("h", 1, 3, "n.1")
    assert (address.user, address.password) == ("u@", "p/")
    assert address.name == "redis://u%40@h:1/3?namespace=n.1"
    assert "p/" not in repr(address)
    address = RedisAddress.read("redis://h")
    assert (address.port, address.database, address.namespace, address.tls) == (6379, 0, "softstate", None)
    assert RedisAddress.read("redis://é").host == "xn--9ca"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://a,b", "name one host"),
        ("redis://", "is not HOST"),
        (f"redis://{'x' * 64}.org", "no name or address"),
        ("redis://h/x", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis://h/?namespace=a{b}", "namespace must be"),
        ("redis://h/?namespace=", "namespace must be"),
        ("redis://h/?cacert=x", "cacert need TLS"),
        ("redis://h/?what=x", "unknown option 'what'"),
        ("rediss://h/?key=x", "key is given without cert"),
        ("rediss://h/?cacert=/nowhere", "cacert '/nowhere' cannot be used"),
        ("rediss://h/?cert=/nowhere", "cert '/nowhere' cannot be used"),
        ("rediss://h/?cacert=/etc/hostname", "cacert '/etc/hostname' cannot be used"),
    ],
)
async def test_wrong_urls(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        await open_store(url)


# Passwords and permissions -------------------------------------------------------------------------------------------


async def test_password(guarded: RedisRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the URL, in a file or in the environment; in none of the names."""
    place = f"127.0.0.1:{guarded.port}"
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("REDIS_PASSWORD", SECRET)
    for url in (
        f"redis://:{SECRET}@{place}",
        f"redis://default:{SECRET}@{place}",
        f"redis://{place}?password_file={tmp_path}/secret",
        f"redis://default@{place}?password_env=REDIS_PASSWORD",
    ):
        store = await open_store(url)
        assert SECRET not in f"{store.name} {store!r} {vars(store)}"
        await store.aclose()


@pytest.mark.parametrize(("user", "complaint"), [(f":{SECRET[:-1]}@", "password is wrong"), ("", "wants a password")])
async def test_wrong_password(guarded: RedisRig, user: str, complaint: str) -> None:
    with pytest.raises(StoreRefused, match=complaint) as refused:
        await open_store(f"redis://{user}127.0.0.1:{guarded.port}")
    error: BaseException | None = refused.value
    while error is not None:
        assert SECRET[:-1] not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


async def test_user_with_few_permissions(guarded: RedisRig) -> None:
    """The permissions that the message names are enough; without them, it names them."""
    url = f"redis://app:pw@127.0.0.1:{guarded.port}"
    await guarded.ask("ACL", "SETUSER", "app", "on", ">pw", "+@all", "-function")
    with pytest.raises(StoreRefused, match=r"may not do that.*\+function") as refused:
        await open_store(url)
    granted = str(refused.value).rpartition("grant it ")[2].replace("NAMESPACE", "softstate").split()
    await guarded.ask("ACL", "SETUSER", "app", "reset", "on", ">pw", *granted)
    store = await open_store(url)
    await store.publish([Write("a/b", b"\x01", key="k")])
    await store.info()
    await store.compact(tombstones=9, keys=9)
    await store.aclose()


# TLS -----------------------------------------------------------------------------------------------------------------


def certificates(folder: Path) -> None:
    """Make an authority, and a certificate of 127.0.0.1 by it."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed, which makes the certificates: run .dev/engines")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in (
        f"req -x509 {new_key} -days 2 -subj /CN=ca -keyout ca.key -out ca.crt",
        f"req {new_key} -subj /CN=server -keyout own.key -out own.csr",
        "x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out own.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


async def test_tls(tmp_path: Path) -> None:
    """With the authority's certificate and one's own; neither an unknown authority nor another name will do."""
    certificates(tmp_path)
    own = {"tls-cert-file": f"{tmp_path}/own.crt", "tls-key-file": f"{tmp_path}/own.key"}
    async with redis_rig(tmp_path, "redis", None, **{"tls-ca-cert-file": f"{tmp_path}/ca.crt", **own}) as rig:
        port = free_port()
        await rig.ask("CONFIG", "SET", "tls-port", port)
        place = f"127.0.0.1:{port}"
        mine = f"cert={tmp_path}/own.crt&key={tmp_path}/own.key"
        store = await open_store(f"rediss://{place}/?cacert={tmp_path}/ca.crt&{mine}")
        await store.publish([Write("a", b"\x01")])
        await store.aclose()
        with pytest.raises(StoreRefused, match="cacert=FILE"):
            await open_store(f"rediss://{place}/?{mine}")
        with pytest.raises(StoreRefused, match="use the host's name"):
            await open_store(f"rediss://localhost:{port}/?cacert={tmp_path}/ca.crt&{mine}")


# The driver ----------------------------------------------------------------------------------------------------------


def test_missing_driver() -> None:
    program = (
        "import sys, trio; sys.modules['coredis'] = None; from softstate.store import open_store;"
        f" trio.run(open_store, 'redis://:{SECRET}@127.0.0.1')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert "ConfigError: store redis://… needs coredis: pip install '.[redis]', in a clone of softstate" in done.stderr
    assert SECRET not in done.stderr.replace(program, "")
