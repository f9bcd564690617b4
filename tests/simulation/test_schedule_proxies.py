"""Fault schedule, row N9: a proxy that cuts idle connections, and a cache in front of polls (B4 with M)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from softstate.client.shell.http import HttpClient
from softstate.client.url import parse_url
from softstate.server import ServerConfig
from softstate.testing import Bounds, PromiseBroken, World
from softstate.testing.network.proxy import Cut, HttpCache, SimProxy
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import AgeSampled, PublishAcknowledged
from softstate.wire import JSON
from tests.kit.simulation_rig import churn, count_of, wait_until_live

CUTS: tuple[Cut, ...] = ("end", "reset", "swallow")


async def a_proxy(world: World, **options: Any) -> SimProxy:
    world.faults.note("proxy", str({name: value for name, value in options.items() if name != "cache"}))
    proxy = SimProxy(world.network, "proxy", "n1", **options)
    world.nursery.start_soon(proxy.run)
    await world.settled()
    return proxy


@pytest.mark.parametrize("cut", CUTS)
def test_n9_no_connection_is_idle_for_a_minute_with_the_timers_of_a_node(cut: Cut) -> None:
    async def scenario(world: World) -> None:
        proxy = await a_proxy(world, cut=cut)
        client = await world.client("a", "t/", urls=[proxy.url])
        await world.client("poll", "t/", push=False, urls=[proxy.url])
        await world.until(lambda: client.mode == "live", 30)
        await world.sleep(1_800)
        assert (client.mode, count_of(client, "connects")) == ("live", 1)
        # The connection of the first poll lies idle, since the client does not need it any more.
        assert proxy.cuts["websocket"] == 0
        assert proxy.cuts["http"] <= 1

    run_checked(51, scenario, nodes=1)


def test_n9_a_proxy_cuts_no_connection_on_which_beats_come() -> None:
    config = ServerConfig(ttl_ms=600_000)

    async def scenario(world: World) -> None:
        proxy = await a_proxy(world)
        client = await world.client("a", "t/", urls=[proxy.url], beat_ms=8_000)
        await wait_until_live(world, "a")
        await world.sleep(1_500)
        assert proxy.cuts["websocket"] == 0
        assert client.age() < 10
        assert (client.mode, count_of(client, "connects")) == ("live", 1)

    run_checked(55, scenario, nodes=1, config=config, bounds=Bounds(ttl_s=600, renew_s=200))


@pytest.mark.parametrize("cut", CUTS)
def test_n9_a_proxy_cuts_connections_whose_renewals_are_too_rare(cut: Cut) -> None:
    config = ServerConfig(ttl_ms=600_000)

    async def scenario(world: World) -> None:
        proxy = await a_proxy(world, cut=cut)
        for name in ("a", "b"):
            await world.client(name, "t/", "single", urls=[proxy.url], beat_ms=None)
        await world.client("p", urls=[proxy.url], beat_ms=None)
        await wait_until_live(world)
        await churn(world, 1_500, 90.0)
        assert proxy.cuts["websocket"] >= 10
        assert max(world.clients[name].age() for name in ("a", "b")) < bounds.cut_off_s / 0.99
        assert count_of(world.clients["a"], "repairs_mismatch") == 0

    bounds = Bounds(ttl_s=600, renew_s=200)
    world, _ = run_checked(52, scenario, nodes=1, config=config, bounds=bounds)
    assert len(world.trace.of(PublishAcknowledged)) > 5


@pytest.mark.parametrize("cut", CUTS)
def test_n9_a_proxy_cuts_connections_that_wait_between_polls(cut: Cut) -> None:
    config = ServerConfig(poll_every_ms=40_000, held_names_max=1)

    async def scenario(world: World) -> None:
        proxy = await a_proxy(world, cut=cut, idle_s=30)
        client = await world.client("poll", "t/", "u/", push=False, urls=[proxy.url])  # too much to be held
        await world.client("p", urls=[proxy.url])
        await churn(world, 600, 10.0)
        assert proxy.cuts["http"] >= 8
        assert client.mode == "polling"
        # A connection that died silently costs one poll its time-out, and a backoff.
        ages = [sample.age_s for sample in world.trace.of(AgeSampled) if sample.client == "poll"]
        assert max(age_s for age_s in ages if age_s < math.inf) < 1.2 * 40 + (1 if cut != "swallow" else 12)

    run_checked(53, scenario, nodes=1, config=config, bounds=Bounds(poll_s=40))


def test_n9_a_long_poll_is_answered_before_a_proxy_times_out() -> None:
    async def scenario(world: World) -> None:
        proxy = await a_proxy(world)
        world.faults.commit("t", 1)
        http = HttpClient(world.network.opener("curl"), JSON)
        for _ in range(3):
            asked = world.now
            reply = await http.request(parse_url(proxy.url), "GET", "/v1/topics/gone?wait_ms=600000", timeout_s=100)
            assert (reply.status, round(world.now - asked)) == (404, 25)
        assert not proxy.cuts
        await http.aclose()

    run_checked(54, scenario, nodes=1)


async def cached_company(world: World, cache: HttpCache) -> SimProxy:
    proxy = await a_proxy(world, cache=cache)
    for name in ("poll", "other"):
        await world.client(name, "t/", "single", push=False, urls=[proxy.url])
    await world.client("a", "t/", "single", urls=[proxy.url])
    await world.client("p", urls=[proxy.url])
    await world.until(lambda: world.clients["a"].mode == "live", 30)
    return proxy


def test_n9_a_cache_that_obeys_its_headers_answers_no_poll() -> None:
    cache = HttpCache()

    async def scenario(world: World) -> None:
        await cached_company(world, cache)
        await churn(world, 300, 5.0)
        ages = [sample.age_s for sample in world.trace.of(AgeSampled) if sample.client == "poll"]
        assert max(age_s for age_s in ages if age_s < math.inf) < 1.2 * 15 + 1  # B4 with M = 0
        assert (cache.counts["reused"], cache.counts["forwarded"] > 40) == (0, True)

    run_checked(55, scenario, nodes=1)


def test_n9_a_cache_that_obeys_its_headers_revalidates_every_read() -> None:
    """The cache of one client, as a browser has it: one that others share keeps nothing."""
    cache = HttpCache(shared=False)

    async def scenario(world: World) -> None:
        proxy = await cached_company(world, cache)
        reader = world.clients["poll"].client
        assert reader is not None
        http = HttpClient(world.network.opener("curl"), JSON)
        for number in range(30):
            version = world.faults.commit("t", number) if number % 3 == 0 else world.disk.image.latest["t"]
            change = await reader.get("t")
            assert change is not None
            assert (change.value, change.version) == (number - number % 3, version)
            # A read certifies the position that comes with it: the current one, also with an older body.
            reply = await http.request(parse_url(proxy.url), "GET", "/v1/topics/t", timeout_s=5)
            assert reply.header("softstate-position") == str(world.disk.image.position)
            world.faults.commit("another", number)
        assert cache.counts["revalidated"] >= 30
        assert cache.counts["reused"] == 0
        await http.aclose()

    run_checked(56, scenario, nodes=1)


def test_n9_a_cache_that_ignores_its_headers_makes_ages_wrong_and_the_oracle_finds_it() -> None:
    """The client that asks second gets the answer to the first; their jitter decides which that is.

    Polls of two names are not held here, so that both ask at about the same time.
    """
    found: set[tuple[str, str]] = set()
    for seed in (57, 58, 59, 60, 61):
        cache = HttpCache(stubborn_s=60)

        async def scenario(world: World, cache: HttpCache = cache) -> None:
            await cached_company(world, cache)
            await world.sleep(30)
            world.faults.commit("t/0", "new")
            await world.sleep(100)
            assert cache.counts["reused"] > 0

        with pytest.raises(PromiseBroken) as broken:
            run_checked(seed, scenario, nodes=1, config=ServerConfig(held_names_max=1))
        found |= {(each.promise, each.party.partition("#")[0]) for each in broken.value.violations}
    assert found == {("S5", "poll"), ("S5", "other")}
