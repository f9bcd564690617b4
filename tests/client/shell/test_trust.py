"""A client and a node with TLS: what is told of certificates that are not accepted, and that it goes on after that."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import softstate
from softstate.errors import ConfigError
from softstate.server.bulkhead import Bulkhead
from softstate.server.certificates import CertificateFiles, CertificateKeeper
from tests.kit.certificates import Authority, Pair
from tests.kit.node_rig import WAIT_S, LocalNode, mode_is, node, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def secured(pair: Pair) -> AsyncIterator[tuple[LocalNode, CertificateKeeper]]:
    keeper = CertificateKeeper(CertificateFiles(pair.cert, pair.key), Bulkhead(strict=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        async with node(parts={"certificate": keeper}) as local:
            yield local, keeper
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("push", [True, False], ids=["push", "poll"])
async def test_a_client_does_all_over_tls(authority: Authority, push: bool) -> None:
    async with secured(authority.node()) as (local, keeper):
        url = f"wss://localhost:{local.port}"
        async with (
            softstate.connect(url, tls=authority.trusting(), push=push) as client,
            client.subscribe("a/") as updates,
        ):
            version = await client.publish("a/b", "x" * 60_000)
            async for change in updates:
                assert (change.version, change.value) == (version, "x" * 60_000)
                break
            found = await client.get("a/b")
            assert found is not None
            await mode_is(client, "live" if push else "polling")
        assert keeper.tls.handshakes > 0


async def refusal(client: softstate.Client) -> str:
    """Return what a client tells once, and check that it goes on trying."""
    async with client.subscribe("a") as updates:
        with trio.fail_after(WAIT_S):
            async for event in updates.events():
                if isinstance(event, softstate.NodeRefused):
                    assert event.error.why == "certificate"
                    assert client.last_error is not None
                    assert client.mode not in ("stopped", "closed")
                    return event.error.message
    raise AssertionError


@pytest.mark.parametrize("push", [True, False], ids=["push", "poll"])
async def test_a_node_that_is_not_trusted_is_told_with_what_to_do_and_tried_again(
    authority: Authority, tmp_path: Path, push: bool
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    pair = authority.node()
    async with secured(pair) as (local, keeper):
        url = f"wss://localhost:{local.port}"
        async with softstate.connect(url, tls=other.trusting(), push=push) as client:
            assert "--tls-ca" in await refusal(client)
            for source, target in zip(other_files(other), (pair.cert, pair.key), strict=True):
                shutil.copy(source, target)
            keeper.reload()
            await mode_is(client, "live" if push else "polling")
            assert await client.publish("a", 1) > 0


def other_files(other: Authority) -> tuple[Path, Path]:
    made = other.node()
    return made.cert, made.key


async def test_names_that_do_not_fit_and_ports_without_tls_are_told(authority: Authority) -> None:
    async with secured(authority.node(names=("node.example",))) as (local, _), node() as plain:
        for url, words in (
            (f"wss://localhost:{local.port}", "not for localhost"),
            (f"wss://127.0.0.1:{local.port}", "not for 127.0.0.1"),
            (f"wss://127.0.0.1:{plain.port}", "ws://"),
        ):
            async with softstate.connect(url, tls=authority.trusting()) as client:
                assert words in await refusal(client)
                with pytest.raises(softstate.Unavailable, match=words):
                    await client.get("a", timeout_s=0.2)


async def test_a_client_of_the_plain_port_of_a_node_with_tls_is_told(authority: Authority) -> None:
    async with secured(authority.node()) as (local, _), softstate.connect(f"ws://127.0.0.1:{local.port}") as client:
        with pytest.raises(softstate.Invalid, match="https://"):
            await client.get("a", timeout_s=WAIT_S)
        await until(lambda: client.mode in ("polling", "offline"))


def test_a_context_of_no_use_is_refused(authority: Authority) -> None:
    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        raise AssertionError

    context = authority.trusting()
    with pytest.raises(ConfigError, match="wss://"):
        softstate.connect("ws://localhost", tls=context)
    with pytest.raises(ConfigError, match="open_stream"):
        softstate.connect("wss://localhost", tls=context, open_stream=open_stream)
    with pytest.raises(ConfigError, match="SSLContext"):
        softstate.connect("wss://localhost", tls=ssl.CERT_NONE)  # type: ignore[arg-type]
