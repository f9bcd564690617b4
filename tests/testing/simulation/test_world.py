"""The simulated world runs the product and repeats itself, and each fault has the effect that its name says."""

import math
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from trio._core import _run

import softstate.testing
from softstate.model import Durability
from softstate.server import ServerConfig
from softstate.testing import FrameRule, ScenarioTimeout, World, run_world
from softstate.testing.simulation.determinism import Seeds
from softstate.testing.trace import (
    AgeSampled,
    ChangeCommitted,
    ChangeDelivered,
    ClientEnded,
    FaultInjected,
    HistoryReplaced,
    LeasesDropped,
    MessageWritten,
    ModeChanged,
    NodeEnded,
    NodeSampled,
    NodeStarted,
    PublishAcknowledged,
    PublishFailed,
    PublishStarted,
    ResetDelivered,
)

SCENARIO = Path(__file__).with_name("mixed_scenario.py")
ROOT = Path(__file__).parents[3]


def digest_in_a_fresh_process(seed: int, hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCENARIO), str(seed)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_same_seed_does_the_same_in_every_process_and_another_does_not() -> None:
    first, again, other = (digest_in_a_fresh_process(*seeds) for seeds in ((1, 1), (1, 99), (2, 1)))
    assert first == again
    assert first != other


def test_a_run_in_this_process_changes_nothing_about_the_next_one() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.sleep(2)
        client.publish("t", 1)
        await world.sleep(5)

    # Numbers that the process gives to tasks, cancel scopes and others start higher the second time.
    assert run_world(7, scenario).trace.digest() == run_world(7, scenario).trace.digest()


def test_seeds_give_each_purpose_its_own_numbers() -> None:
    seeds = Seeds(3)
    assert seeds.random("a").random() == seeds.random("a").random() != seeds.random("b").random()


def test_the_trace_has_what_an_application_sees_and_the_commits_of_the_disk() -> None:
    async def scenario(world: World) -> None:
        alice = await world.client("alice", "orders/")
        bob = await world.client("bob")
        await world.until(lambda: alice.mode == bob.mode == "live")
        bob.publish("orders/1", {"state": "new"}, key="k")
        await world.sleep(1)
        bob.publish("orders/1", "late", expect=1)
        bob.delete("orders/1")
        await world.sleep(2)
        assert alice.known()["orders/1"].deleted
        assert alice.age() < 60
        second = alice.subscribe("x")
        await world.sleep(1)
        alice.unsubscribe(second)
        await alice.aclose()

    trace = run_world(1, scenario, record_messages=True).trace
    committed = trace.of(ChangeCommitted)
    assert [(c.revision, c.topic, c.value, c.deleted) for c in committed] == [
        (3, "orders/1", {"state": "new"}, False), (4, "orders/1", None, True)
    ]  # fmt: skip
    assert committed[0].key == "k"
    assert [(a.client, a.version, a.value, a.deleted) for a in trace.of(ChangeDelivered)] == [
        ("alice", 3, {"state": "new"}, False), ("alice", 4, None, True)
    ]  # fmt: skip
    assert [a.number for a in trace.of(PublishStarted)] == [1, 2, 3]
    assert {a.number: a.version for a in trace.of(PublishAcknowledged)} == {1: 3, 3: 4}
    assert [(r.number, r.error) for r in trace.of(PublishFailed)] == [(2, "Conflict")]
    assert "live" in [m.mode for m in trace.of(ModeChanged) if m.client == "alice"]
    assert [s for s in trace.of(AgeSampled) if s.handle == 1][-1].known == (("orders/1", 4, True),)
    assert max(sample.connections for sample in trace.of(NodeSampled)) >= 1
    assert {"hello", "welcome", "subscribe", "subscribed", "notify", "published"} <= {
        s.op for s in trace.of(MessageWritten)
    }
    assert trace.of(ClientEnded)[0].how == "closed"


@pytest.mark.parametrize("how", ["killed", "power"])
def test_a_crashed_node_is_noticed_at_once_or_by_its_silence_and_can_be_restarted(how: Any) -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        crashed = world.now
        world.faults.crash("n1", how)
        await world.until(lambda: client.mode != "live")
        noticed_s = world.now - crashed
        assert noticed_s < 0.1 if how == "killed" else noticed_s > 1
        await world.faults.restart("n1")
        world.faults.commit("t", "after")
        await world.until(lambda: client.mode == "live" and "t" in client.known(), 120)
        assert client.known()["t"].value == "after"

    trace = run_world(2, scenario, nodes=1).trace
    assert [(e.incarnation, e.how) for e in trace.of(NodeEnded)] == [(1, how)]
    assert [e.incarnation for e in trace.of(NodeStarted)] == [1, 2]


@pytest.mark.parametrize(("point", "commits"), [("publish.before_commit", 0), ("publish.after_commit", 1)])
def test_a_crash_point_decides_whether_the_commit_was_made(point: str, commits: int) -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.faults.crash_at("n1", point)
        client.publish("t", 1)
        await world.sleep(1)
        assert not world.nodes["n1"].up
        assert len(world.trace.of(ChangeCommitted)) == commits
        assert world.trace.of(PublishAcknowledged) == []
        await world.faults.restart("n1")
        await world.until(lambda: len(world.trace.of(PublishAcknowledged)) == 1)
        assert len(world.trace.of(ChangeCommitted)) == 1

    run_world(3, scenario, nodes=1)


def test_a_store_reply_that_is_lost_leaves_one_commit() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.faults.lose_reply("n1")
        client.publish("t", 1)
        await world.until(lambda: len(world.trace.of(PublishAcknowledged)) == 1)
        assert len(world.trace.of(ChangeCommitted)) == 1

    run_world(3, scenario, nodes=1)


@pytest.mark.parametrize(("durability", "lost"), [(Durability.DURABLE, 0), (Durability.WEAK, 1)])
def test_a_crash_of_the_disk_loses_commits_that_were_not_durable(durability: Durability, lost: int) -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.disk.sync()
        client.publish("t", 1)
        await world.sleep(1)
        assert world.faults.disk_crash() == lost
        await world.until(lambda: client.mode == "live" and len(world.trace.of(ResetDelivered)) == lost, 120)

    trace = run_world(4, scenario, durability=durability, sync_every_s=1e9).trace
    assert len(trace.of(HistoryReplaced)) == lost


@pytest.mark.parametrize("advance", [0, 20])
def test_a_rewound_store_resets_clients_also_when_it_has_passed_them(advance: int) -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t", "advanced/")
        await world.until(lambda: client.mode == "live")
        world.faults.commit("t", "old")
        world.faults.backup("b")
        for number in range(10):
            world.faults.commit("t", number)
        await world.until(lambda: "t" in client.known() and client.known()["t"].value == 9)
        world.faults.rewind("b", advance=advance)
        await world.until(lambda: "t" in client.known() and client.known()["t"].value == "old", 120)
        await world.until(lambda: len(client.known()) == 1 + advance, 120)
        world.faults.wipe()
        await world.until(lambda: len(world.trace.of(ResetDelivered)) == 2 and client.age() < math.inf, 120)

    run_world(5, scenario)


def test_a_frozen_node_is_suspected_and_goes_on_after_the_thaw() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.faults.freeze("n1")
        await world.until(lambda: client.mode == "suspect")
        world.faults.thaw("n1")
        await world.until(lambda: client.mode == "live")

    assert len(run_world(6, scenario, nodes=1).trace.of(NodeStarted)) == 1


def test_a_frozen_client_sees_nothing_and_its_timers_do_not_run() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.faults.freeze("a")
        world.faults.commit("t", 1)
        client.publish("t", 2)
        await world.sleep(500)
        assert client.known() == {}
        assert client.mode == "live"
        assert client.age() > 500
        world.faults.thaw("a")
        await world.until(lambda: client.known().get("t") is not None and client.known()["t"].value == 2)

    run_world(6, scenario)


def test_a_clock_that_jumps_looks_like_sleep() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.faults.clock_jump("a", 30)
        assert client.age() > 30
        await world.sleep(2)
        assert client.mode == "live"
        assert client.age() < 30

    assert [seen.mode for seen in run_world(6, scenario).trace.of(ModeChanged)][-2:] == ["suspect", "live"]


def test_the_leases_of_a_node_grow_old_while_its_host_sleeps() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t", ttl_ms=60_000)
        await world.until(lambda: client.mode == "live")
        world.faults.freeze("n1")
        world.faults.partition("a", "n1")
        await world.sleep(100)  # longer than TTL and grace
        world.faults.thaw("n1")
        await world.sleep(2)
        world.sample()
        assert not world.trace.of(NodeSampled)[-1].leases

    run_world(6, scenario, nodes=1)


def test_amnesia_is_repaired_and_recorded() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.faults.amnesia("n1")
        assert world.trace.of(LeasesDropped)[-1].clients == ("a",)
        world.faults.commit("t", 1)
        await world.until(lambda: "t" in client.known(), 60)

    run_world(6, scenario, nodes=1)


@pytest.mark.parametrize("fault", ["drop", "duplicate", "delay", "cut"])
def test_a_fault_of_one_message_is_repaired(fault: Any) -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t", beat_ms=None)
        await world.until(lambda: client.mode == "live")
        rule = world.faults.frames(FrameRule(fault, "notify", sender="n1", delay_s=100))
        world.faults.commit("t", 1)
        await world.sleep(1)
        assert rule.hits == 1
        assert ("t" in client.known()) == (fault in ("duplicate", "cut"))
        await world.until(lambda: "t" in client.known(), 60)

    run_world(8, scenario, nodes=1)


def test_a_rule_leaves_other_messages_alone() -> None:
    async def scenario(world: World) -> None:
        seen: list[str] = []
        await world.client("a", "t", beat_ms=None)
        rule = world.faults.frames(
            FrameRule("observe", receiver="a", times=None, skip=1, hit=lambda f: seen.append(f.op))
        )
        world.faults.frames(FrameRule("drop", "notify", receiver="another"))
        await world.sleep(5)
        world.faults.commit("t", 1)
        await world.sleep(1)
        assert seen[0] == "subscribed"
        assert seen[-1] == "notify"
        assert rule.hits == len(seen)
        assert "t" in world.clients["a"].known()

    run_world(8, scenario, nodes=1)


def test_a_client_that_stops_reading_congests_its_own_outbox_only() -> None:
    config = ServerConfig(congested_s_max=5.0, pending_bytes_max=200_000)

    async def scenario(world: World) -> None:
        slow, quick = await world.client("slow", "t/"), await world.client("quick", "t/")
        await world.until(lambda: slow.mode == quick.mode == "live")
        world.faults.stop_reading("slow")
        for number in range(200):
            world.faults.commit(f"t/{number % 20}", "x" * 5_000)
            await world.sleep(0.05)
        assert quick.known()["t/19"].version == world.disk.image.head
        node = world.nodes["n1"].node
        assert node is not None
        assert 0 < max(sample.pending_bytes for sample in world.trace.of(NodeSampled)) <= config.pending_bytes_max
        world.faults.resume_reading("slow")
        await world.until(lambda: slow.known() == quick.known() and slow.mode == "live", 120)

    run_world(9, scenario, nodes=1, config=config)


def test_store_faults_let_ages_grow_and_end() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.until(lambda: client.mode == "live")
        world.faults.store_down("n1")
        await world.sleep(300)
        assert client.age() > 200
        assert client.mode == "live"
        world.faults.store_down("n1", down=False)
        await world.until(lambda: client.age() < 60)
        world.faults.store_hang()
        await world.sleep(100)
        assert client.age() > 50
        world.faults.store_hang(on=False)
        world.faults.store_slow(0.1, 0.2)
        began = world.now
        client.publish("t", 1)
        await world.until(lambda: bool(world.trace.of(PublishAcknowledged)))
        assert world.now - began > 0.2

    run_world(10, scenario, nodes=1)


def test_heal_takes_everything_back() -> None:
    async def scenario(world: World) -> None:
        client = await world.client("a", "t")
        await world.sleep(1)
        faults = world.faults
        faults.crash("n1", "power")
        faults.freeze("n2")
        faults.partition("a", "n1")
        faults.split("a", "n2", 1)
        faults.block("a", "n2", "http")
        faults.ignore_new("a", "n2")
        faults.stop_reading("a")
        faults.read_slowly("a", 1)
        faults.store_hang()
        faults.store_slow(10, 10)
        faults.frames(FrameRule("drop", times=None))
        faults.clock_rate("a", 0.5)
        await faults.heal()
        faults.commit("t", 1)
        await world.until(lambda: client.mode == "live" and "t" in client.known(), 120)

    kinds = {fault.kind for fault in run_world(11, scenario).trace.of(FaultInjected)}
    assert {"crash", "partition", "heal"} <= kinds


def test_a_failure_names_the_seed_and_the_faults() -> None:
    async def scenario(world: World) -> None:
        await world.client("a", "t")
        world.faults.freeze("n2")
        world.faults.crash("n1")
        await world.sleep(5)
        assert world.now < 0, "as intended"

    with pytest.raises(AssertionError, match="as intended") as failure:
        run_world(12, scenario)
    notes = "\n".join(failure.value.__notes__)
    assert "seed 12, at 5.0" in notes
    assert "0.000 freeze n2; 0.000 crash n1 killed" in notes


def test_waiting_and_running_end_in_virtual_time() -> None:
    async def waits(world: World) -> None:
        with pytest.raises(ScenarioTimeout, match="within 100 virtual seconds"):
            await world.until(lambda: False, 100)
        await trio.sleep_forever()

    with pytest.raises(ScenarioTimeout, match="500 virtual seconds"):
        run_world(13, waits, limit_s=500)


def test_clients_end_too() -> None:
    async def scenario(world: World) -> None:
        for how in ("killed", "power"):
            client = await world.client(how, "t")
            await world.until(lambda: client.mode == "live")  # noqa: B023
            world.faults.crash(how, how)
            await world.settled()
            assert not client.running
        await world.sleep(300)
        world.sample()
        last = {sample.node: sample for sample in world.trace.of(NodeSampled)}
        assert [(sample.leases, sample.connections) for sample in last.values()] == [((), 0), ((), 0)]

    assert [end.how for end in run_world(14, scenario).trace.of(ClientEnded)] == ["killed", "power"]


def test_the_world_is_imported_only_when_it_is_asked_for() -> None:
    code = "import sys, softstate.testing; print('softstate.server' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
    assert all(getattr(softstate.testing, name) is not None for name in softstate.testing.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = softstate.testing.nothing


def test_random_numbers_of_others_are_left_as_they_were() -> None:
    async def scenario(world: World) -> None:
        await world.sleep(1)

    state = _run._r.getstate()
    run_world(Random(1).randrange(100), scenario)
    assert _run._r.getstate() == state
