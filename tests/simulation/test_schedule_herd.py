"""Fault schedule, rows H: all clients come back at once, after a kill -9 (H1), a power loss (H2), a planned bye (H3).

`bench.trials.herd` runs the real client machines and the node's own advice against a modelled node, and its docstring
has the law of collapse that the bounds here follow; ``python -m bench herd --clients 100000`` does so with ten times as
many. A hundred real clients come back to a real node in a `World`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from bench.trials.herd import How, Plan, herd
from softstate.server import ServerConfig
from softstate.session.load_advice import LOAD, RATE_PRIOR_PER_S, advise
from softstate.testing import Bounds, World
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.simulation.client import SimClient
from softstate.testing.trace import NodeEnded, NodeSampled
from tests.kit.simulation_rig import RARE_MS, count_of

HOW: tuple[How, ...] = ("killed", "power", "bye")
CROWDS: tuple[How, ...] = ("killed", "power")
"""A client of the model notices a planned end as it notices a kill: at once."""

HEARS_S = {"killed": 0.0, "power": 1.2 * 20, "bye": 0.0}
"""Seconds until a client notices at the latest. It notices a power loss when it renews at a node without its lease."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", CROWDS)
def test_h1_to_h3_ten_thousand_clients_come_back_as_advised(how: How) -> None:
    plan = Plan(clients=10_000, how=how)
    report = herd(plan)
    per_s = 1 / plan.handshake_s
    _, advised = advise(plan.clients, per_s, RATE_PRIOR_PER_S)
    assert report.spread_s == pytest.approx(advised.spread_ms / 1000, rel=0.15)
    assert report.last_s <= HEARS_S[how] + 1.3 * max(report.spread_s, plan.clients / per_s), str(report)
    assert report.attempts / plan.clients <= 1.5, str(report)
    assert (report.wasted, report.shed) == (0, 0), str(report)
    # Clients that tried while the node was down keep their place in the spread, so arrivals follow it from the start.
    assert report.peak_per_s <= 1.25 * LOAD * per_s, str(report)
    settled = [count for second, count in report.arrivals.items() if second >= plan.down_s + 4]
    assert max(settled) <= 1.15 * LOAD * per_s, str(report)


SPREAD_S = advise(1_000, 20, 20)[1].spread_ms / 1000


@pytest.mark.parametrize(
    ("guards", "last_s", "attempts"),
    [
        ("none", math.inf, math.inf),
        ("shed", 130, 9),
        ("spread", 1.1 * SPREAD_S, 1.2),
        ("spread and shed", 1.1 * SPREAD_S, 1.2),
    ],
)
def test_h1_without_spreading_and_shedding_there_is_no_recovery(guards: str, last_s: float, attempts: float) -> None:
    spread, shed = "spread" in guards, "shed" in guards
    # N/mu = 50 s, well above 2q + c/2 = 25 s, as with 50,000 clients at 1 ms.
    report = herd(Plan(clients=1_000, handshake_s=1 / 20, known_per_s=20, spread=spread, shed=shed, patience_s=400))
    if last_s == math.inf:
        assert report.last_s == math.inf, str(report)
        assert report.wasted > 3_000, str(report)
        assert len(report.back_s) < 0.5 * report.plan.clients, str(report)
    else:
        assert report.last_s <= last_s, str(report)
        assert report.wasted == 0, str(report)
        # Without a spread, clients dial a node that refuses them several times in two seconds: that costs it nothing.
        assert report.arrivals.total() / report.plan.clients <= attempts, str(report)


@pytest.mark.parametrize(("clients", "per_s"), [(300, 100), (3_000, 1_000)])
def test_h1_a_herd_whose_node_is_down_knocks_twice_a_client_at_most(clients: int, per_s: int) -> None:
    plan = Plan(clients=clients, handshake_s=1 / per_s, known_per_s=per_s)
    report = herd(plan)
    assert (report.attempts + report.polls) / clients <= 2.0, str(report)
    assert report.peak_per_s <= 1.2 * LOAD * per_s + 10, str(report)
    assert report.back(0.99) <= plan.down_s + 1.1 * report.spread_s, str(report)


def test_h1_in_a_long_outage_clients_try_no_more_often_than_backoff_allows() -> None:
    plan = Plan(clients=1_000, handshake_s=0.01, known_per_s=100, down_s=300)
    report = herd(plan)
    cap_s = max(30.0, 2 * report.spread_s)
    while_down = [report.tried[second] for second in range(100, 300)]
    assert sum(while_down) / len(while_down) <= 2 * plan.clients / cap_s, str(report)
    assert report.peak_per_s <= 1 / plan.handshake_s, str(report)
    assert report.last_s <= plan.down_s + 1.3 * cap_s, str(report)
    assert report.wasted == 0, str(report)


@pytest.mark.parametrize("how", HOW)
def test_h1_to_h3_a_hundred_real_clients_come_back_to_a_real_node(how: How) -> None:
    count = 100
    config = ServerConfig(ttl_ms=15_000, timeout_ms=2_000)

    async def scenario(world: World) -> None:
        clients = [await world.client(f"c{number}", "t/", beat_ms=RARE_MS) for number in range(count)]
        await world.until(lambda: all(client.mode == "live" for client in clients), 60)
        await world.sleep(10)
        before = _knocks(clients)
        world.faults.commit("t/before", 1)
        if how == "bye":
            node = world.nodes["n1"].node
            assert node is not None
            world.faults.note("drain", "n1")
            await node.drain()
            await world.nodes["n1"].ended()
        else:
            world.faults.crash("n1", how)
        await world.sleep(2)
        world.faults.commit("t/meanwhile", 2)
        await world.faults.restart("n1")
        # A client that has not noticed yet that the power failed is live, too.
        await world.until(lambda: all(client.mode == "live" and len(client.known()) == 2 for client in clients), 45)
        # Two seconds are eight spreads of so few, and one dial in each costs a node nothing that does not listen; they
        # are all live 0.8 s after it is back.
        assert _knocks(clients) - before <= 9 * count, (_knocks(clients) - before) / count
        world.sample()
        assert len(world.trace.of(NodeSampled)[-1].leases) == count

    bounds = Bounds(ttl_s=15, renew_s=5, timeout_s=2)
    world, _ = run_checked(61, scenario, nodes=1, config=config, bounds=bounds, sample_every_s=5.0)
    assert [ended.how for ended in world.trace.of(NodeEnded)] == [how if how != "bye" else "drained"]


def _knocks(clients: Sequence[SimClient]) -> int:
    """Count the connections and polls that clients began, refused ones included."""
    return sum(count_of(client, "connects") + count_of(client, "polls") for client in clients)
