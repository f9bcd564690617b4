"""Fault schedule, rows K (clocks), D (the store) and Q (consumers, and digests that collide).

Elsewhere: D1 read-only and D4 (`test_schedule_store`), N9 (`test_schedule_proxies`), H (`test_schedule_herd`). A1, a
revoked permission, is not tested: there is no authentication yet.
"""

from __future__ import annotations

import ast
import math
import re
import time
from pathlib import Path

import pytest

from softstate.server import ServerConfig
from softstate.store.base import Write
from softstate.testing import Bounds, FrameRule, World
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import (
    ChangeCommitted,
    ChangeDelivered,
    MessageWritten,
    NodeSampled,
    PublishAcknowledged,
    ResetDelivered,
    TombstonesCompacted,
)
from tests.kit.simulation_rig import churn, count_of, start_clients, wait_until_live


@pytest.mark.parametrize("rate", [0.9, 0.99, 1.01, 1.1])
@pytest.mark.parametrize("host", ["a", "n1"])
def test_k1_a_clock_runs_at_another_rate(host: str, rate: float) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.clock_rate(host, rate)
        await churn(world, 150, 2.0)
        await wait_until_live(world)

    run_checked(21, scenario, nodes=1)


@pytest.mark.parametrize("for_s", [5.0, 40.0, 600.0])
def test_k2_a_client_sleeps(for_s: float) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.freeze("a")
        await churn(world, for_s, for_s / 20)
        world.faults.thaw("a")
        assert world.clients["a"].age() >= for_s - 1
        await wait_until_live(world)

    run_checked(22, scenario, nodes=1)


@pytest.mark.parametrize("host", ["a", "n1"])
def test_k3_a_process_is_stopped_for_two_leases(host: str) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.freeze(host)
        await churn(world, 120, 4.0)
        world.faults.thaw(host)
        await wait_until_live(world)
        await churn(world, 20)

    run_checked(23, scenario, nodes=1)


def test_k4_a_clock_jumps_an_hour() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        for host in ("a", "n1"):
            world.faults.clock_jump(host, 3_600)
            await churn(world, 60, 2.0)
            await wait_until_live(world)

    run_checked(24, scenario, nodes=1)


def test_k4_the_wall_clock_jumps_back_and_forth_and_not_a_byte_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead_s = 0.0
    now, now_ns, gettime = time.time, time.time_ns, time.clock_gettime
    monkeypatch.setattr(time, "time", lambda: now() + ahead_s)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(ahead_s * 1e9))
    monkeypatch.setattr(time, "clock_gettime", lambda c: gettime(c) + ahead_s * (c == time.CLOCK_REALTIME))

    def digest(*jumps_s: float) -> str:
        async def scenario(world: World) -> None:
            nonlocal ahead_s
            await start_clients(world)
            for jump_s in jumps_s:
                ahead_s += jump_s
                await churn(world, 50, 2.0)
                world.faults.reset("a", "n1")

        return run_checked(24, scenario, nodes=1)[0].trace.digest()

    assert digest(-3_600, 3_600, -7_200) == digest(0, 0, 0)
    assert ahead_s == -7_200


def test_k4_no_decision_reads_a_wall_clock() -> None:
    wall = {"time", "time_ns", "localtime", "gmtime", "ctime", "CLOCK_REALTIME", "now", "today", "utcnow"}
    source = Path(__file__).parents[2] / "softstate"
    read: set[str] = set()
    for package in ("client", "lease", "server", "session", "store", "wire"):
        for path in (source / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
                if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
                    read.add(f"{path.name}: from {node.module}")
                elif re.match(r"(time|datetime)\.", name) and name.split(".")[-1] in wall:
                    read.add(f"{path.name}: {name}")
    # The Date of HTTP replies, which no decision reads; the gate's: tokens tell their times by it (P-AUTH-3); that of
    # questions to a callout, which are signed with their time; and that of certificates, the node's and its clients',
    # which end by it.
    assert read == {f"{name}.py: time.time" for name in ("certificates", "date", "keeper", "node", "tls")}


@pytest.mark.parametrize("how", ["down", "slow", "hanging"])
def test_d1_the_store_is_down_or_slow_and_no_lease_is_lost(how: str) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        if how == "down":
            world.faults.store_down()
        elif how == "slow":
            world.faults.store_slow(1, 2)
        else:
            world.faults.store_hang()
        await churn(world, 300, 5.0)
        held = {lease.client for lease in world.trace.of(NodeSampled)[-1].leases}
        assert {"a", "b"} <= held
        if how != "slow":
            assert min(world.clients[name].age() for name in ("a", "b", "poll")) > 280
            assert not world.trace.of(PublishAcknowledged)
        await world.faults.heal()
        await world.until(lambda: max(world.clients[name].age() for name in ("a", "b", "poll")) < 30, 45)

    world, _ = run_checked(25, scenario, nodes=1)
    assert not [written for written in world.trace.of(MessageWritten) if written.op == "revoked"]


def test_d1_a_store_slower_than_a_call_may_be_breaks_no_promise() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.store_slow(3, 10)
        await churn(world, 200, 5.0)
        await world.faults.heal()
        await wait_until_live(world)

    run_checked(25, scenario, nodes=1)


@pytest.mark.parametrize("expect", [None, 0])
def test_d2_a_commit_of_unknown_outcome_is_asked_again_and_made_once(expect: int | None) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        for number in range(5):
            world.faults.lose_reply("n1")
            world.clients["p"].publish(f"t/{number}", number, expect=expect)
            await world.sleep(3)
        await world.until(lambda: len(world.trace.of(PublishAcknowledged)) == 5, 60)

    world, _ = run_checked(26, scenario, nodes=1)
    assert [committed.value for committed in world.trace.of(ChangeCommitted)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("advance", [0, 3, 100])
def test_d3_an_older_backup_is_restored(advance: int) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        await churn(world, 10)
        world.faults.backup("b")
        await churn(world, 20)
        world.faults.rewind("b", advance=advance)
        await churn(world, 20)
        await wait_until_live(world)

    world, _ = run_checked(27, scenario)
    assert {seen.client for seen in world.trace.of(ResetDelivered)} == {"a", "b", "poll"}


def test_d3_the_store_is_wiped_again_and_again() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        for _ in range(4):
            world.faults.wipe()
            await churn(world, 15)
        await wait_until_live(world)

    run_checked(28, scenario)


def test_d5_tombstones_are_forgotten_while_a_client_is_away() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        for number in range(10):
            world.faults.commit(f"t/{number}", number)
        await world.until(lambda: all(len(world.clients[name].known()) == 10 for name in ("a", "b", "poll")), 30)
        for name in ("a", "poll"):
            world.faults.partition(name, "n1")
        for number in range(5):
            world.clients["p"].delete(f"t/{number}")
        await world.sleep(10)
        world.faults.note("compact")
        world.disk.image.compact(world.disk.image.head, 0)
        await world.sleep(100)
        for name in ("a", "poll"):
            world.faults.restore_routes(name, "n1")
        await world.sleep(60)
        for name in ("a", "poll"):
            assert sorted(t for t, change in world.clients[name].known().items() if not change.deleted) == [
                f"t/{number}" for number in range(5, 10)
            ]  # fmt: skip

    run_checked(29, scenario, nodes=1)


def test_d5_tombstones_are_forgotten_between_two_pages() -> None:
    async def scenario(world: World) -> None:
        await world.client("p")
        for number in range(60):
            world.faults.commit(f"t/{number}", "x" * 60_000)
        reads = 0

        def forget() -> None:
            nonlocal reads
            reads += 1
            for number in range(0, 60, 7):
                world.disk.commit(Write(f"t/{number}", None))
            world.disk.image.compact(world.disk.image.head, 0)

        world.nodes["n1"].at_point("read.after", forget)
        client = await world.client("a", "t/")
        await world.until(lambda: client.mode == "live" and client.age() < math.inf, 60)
        await churn(world, 20)
        assert reads == 1
        assert world.trace.of(TombstonesCompacted)

    run_checked(30, scenario, nodes=1)


@pytest.mark.parametrize("pause_s", [None, 1.0])
def test_q1_a_consumer_stops_reading_or_reads_slowly(pause_s: float | None) -> None:
    config = ServerConfig(congested_s_max=5.0, pending_bytes_max=200_000)

    async def scenario(world: World) -> None:
        await start_clients(world)
        if pause_s is None:
            world.faults.stop_reading("a")
        else:
            world.faults.read_slowly("a", pause_s)
        for number in range(400):
            world.faults.commit(f"t/{number % 30}", "x" * 5_000)
            await world.sleep(0.05)
            if number % 50 == 49:
                assert world.clients["b"].known()[f"t/{number % 30}"].version == world.disk.image.head
        assert world.clients["b"].mode == "live"
        await world.sleep(30)
        world.faults.resume_reading("a")
        await wait_until_live(world)

    bounds = Bounds(pending_bytes_max=config.pending_bytes_max)
    world, oracle = run_checked(31, scenario, bounds=bounds, nodes=1, config=config)
    assert oracle.nodes.pending > 0
    if pause_s is None:
        assert any("a" not in [lease.client for lease in sample.leases] for sample in world.trace.of(NodeSampled)[6:])


@pytest.mark.timeout(240)
def test_q2_ten_thousand_updates_a_second_conflate_for_slow_clients() -> None:
    rate, updates, fast, slow = 10_000, 2_000, 2, 58
    filler = "x" * 1_000

    async def scenario(world: World) -> None:
        clients = [await world.client(f"c{number}", "t") for number in range(fast + slow)]
        await world.until(lambda: all(client.mode == "live" for client in clients), 30)
        for client in clients[fast:]:
            world.faults.read_slowly(client.name, 0.1)
        began = world.now
        for number in range(updates):
            world.faults.commit("t", [number, filler])
            await world.sleep(1 / rate)  # so that no change is superseded before the node reads it
            if number % 100 == 99:
                world.nodes["n1"].sample()
        assert world.now - began == pytest.approx(updates / rate)
        assert all(client.known()["t"].value[0] > updates - 100 for client in clients[:fast])
        await world.until(lambda: all(client.known()["t"].value[0] == updates - 1 for client in clients), 10)
        assert all(client.mode == "live" for client in clients)

    world, oracle = run_checked(32, scenario, nodes=1, sample_every_s=math.inf)
    assert oracle.nodes.pending == 1
    # One entry, and the rest of the frame that is partly written.
    assert max(sample.pending_bytes for sample in world.trace.of(NodeSampled)) < 3 * len(filler)
    seen = world.trace.of(ChangeDelivered)
    assert len([applied for applied in seen if applied.client == "c0"]) > updates * 0.9
    assert len([applied for applied in seen if applied.client == f"c{fast}"]) < updates * 0.1


def a_constant_digest(patch: pytest.MonkeyPatch) -> None:
    for module in ("softstate.client.machine.knowledge", "softstate.lease.table"):
        patch.setattr(f"{module}.name_hash", lambda _name: 0)


async def one_name_for_another(world: World) -> bool:
    """Let a client and its node hold different names, equal in number: the messages with the changes are lost.

    Return whether the client receives a change of its new name in the end.
    """
    await start_clients(world)
    client = world.clients["a"]
    given_up = client.subscribe("given up")
    await world.sleep(1)
    for op in ("unsubscribe", "subscribe"):
        world.faults.frames(FrameRule("drop", op, sender="a"))
    client.unsubscribe(given_up)
    wanted = client.subscribe("wanted")
    await world.sleep(60)
    world.faults.commit("wanted", "new")
    await world.sleep(30)
    return "wanted" in client.known(wanted)


def test_q3_sets_that_differ_are_found_by_their_digest() -> None:
    async def scenario(world: World) -> None:
        assert await one_name_for_another(world)
        assert count_of(world.clients["a"], "repairs_mismatch") == 1

    run_checked(33, scenario, nodes=1)


def test_q3_sets_whose_digests_collide_are_found_by_the_missing_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    a_constant_digest(monkeypatch)

    async def scenario(world: World) -> None:
        # No audit compares the sets. But the client knows that its subscribe was not answered, while a later
        # renewal was.
        assert await one_name_for_another(world)
        assert count_of(world.clients["a"], "repairs_mismatch") == 0
        assert count_of(world.clients["a"], "repairs_unanswered") == 1

    run_checked(33, scenario, nodes=1)


def test_q3_sets_of_different_sizes_are_found_even_if_their_digests_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    a_constant_digest(monkeypatch)

    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.frames(FrameRule("drop", "unsubscribe", sender="a"))
        client = world.clients["a"]
        given_up = client.subscribe("given up")
        await world.sleep(1)
        client.unsubscribe(given_up)
        await churn(world, 60)
        assert count_of(client, "repairs_mismatch") == 1

    run_checked(34, scenario, nodes=1)
