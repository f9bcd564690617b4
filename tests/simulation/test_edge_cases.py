"""The worlds of `edge_cases` break no promise, and do reach their edge case."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from softstate.model import PAGE_RECORDS_MAX
from softstate.position import Position
from softstate.store.base import Committed, Feed, Write
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.simulation.disk import SimStore
from softstate.testing.simulation.world import World
from softstate.testing.trace import (
    AgeSampled,
    ChangeCommitted,
    ChangeDelivered,
    ClientEnded,
    PublishAcknowledged,
    PublishFailed,
    ResetDelivered,
)
from tests.kit.simulation_rig import count_of
from tests.simulation.edge_cases import (
    POLLING,
    SHORT,
    SHORT_LEASED,
    EdgeCase,
    damaged_while_followed,
    lost_then_cut,
    published_again_after_a_rewind,
    refused_after_an_answer_was_lost,
    rewound_and_left,
    rewound_while_suspect,
    run,
)


def test_a_publish_whose_answer_was_lost_is_not_told_as_refused() -> None:
    world, _ = run(refused_after_an_answer_was_lost)
    assert [failed.error for failed in world.trace.of(PublishFailed)] == ["OutcomeUnknown"] * 2
    assert world.trace.of(PublishAcknowledged) == []


def _counts(world: World) -> dict[str, int]:
    (ended,) = world.trace.of(ClientEnded)
    return dict(ended.counts)


def test_a_push_lost_before_a_cut_is_replayed() -> None:
    world, _ = run(lost_then_cut)
    lost, later = (change for change in world.trace.of(ChangeDelivered) if change.topic in ("t/lost", "t/later"))
    assert (lost.topic, later.topic) == ("t/later", "t/lost")
    assert _counts(world)["resumed"] == 1


def test_a_suspicious_client_counts_pushes_of_a_lost_history_as_strays() -> None:
    world, _ = run(rewound_while_suspect)
    assert _counts(world)["history_mismatches"] == 1
    assert "never was" not in {change.value for change in world.trace.of(ChangeDelivered)}


def test_pushes_of_a_lost_history_on_an_abandoned_connection_are_ignored() -> None:
    world, _ = run(rewound_and_left)
    assert _counts(world)["welcomes"] == 2
    assert world.trace.of(ResetDelivered) == []
    assert "never was" not in {change.value for change in world.trace.of(ChangeDelivered)}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("edge_case", SHORT_LEASED)
def test_an_edge_case_breaks_no_promise(edge_case: EdgeCase) -> None:
    _, oracle = run(edge_case)
    assert oracle.wire.renewals > 3


@pytest.mark.timeout(240)
@pytest.mark.parametrize("edge_case", POLLING)
def test_polls_from_memory_break_no_promise(edge_case: EdgeCase) -> None:
    world, _ = run(edge_case)
    node = world.nodes["n1"].node
    assert node is not None
    counts = node.counts()
    assert counts["polls_unchanged"] > counts["reads"] / 2
    assert counts["reads"] > 10


@pytest.fixture
def slow_reopening(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell a node three seconds late that its store is open again."""
    reopen = SimStore.reopen

    async def slowly(self: SimStore) -> Position:
        position = await reopen(self)
        await trio.sleep(3.0)
        return position

    monkeypatch.setattr(SimStore, "reopen", slowly)


@pytest.mark.usefixtures("slow_reopening")
def test_nothing_is_certified_between_the_reopening_of_a_store_and_the_restart_of_the_hub() -> None:
    # Found under seed 1179: the new history's head, at a low revision, was taken for one that the hub had reached.
    async def scenario(world: World) -> None:
        follower = await world.client("a", "t/")
        for number in range(5):
            world.faults.commit("t/x", number)
        await world.until(lambda: follower.mode == "live")
        await world.sleep(5.0)
        world.faults.wipe()
        await world.sleep(10.0)

    run_checked(1, scenario, nodes=1, **SHORT)


@pytest.mark.usefixtures("slow_reopening")
def test_nothing_of_a_new_history_is_answered_to_a_session_of_the_old_one() -> None:
    # Found under seed 41: the answer to a subscribe took its client into the new history without a reset (S9).
    async def scenario(world: World) -> None:
        follower = await world.client("a", "t/")
        world.faults.backup("before")
        for number in range(5):
            world.faults.commit("t/x", number)
        await world.until(lambda: follower.mode == "live")
        world.faults.rewind("before", advance=20)
        await world.sleep(1.0)
        follower.subscribe("/")
        follower.publish("t/y", 1)
        await world.sleep(10.0)

    run_checked(1, scenario, nodes=1, **SHORT)


def test_a_subscribe_whose_answer_is_lost_is_asked_again() -> None:
    # Found under seed 1409: renewals matched without end, and certified nothing, at an age without bound (B).
    async def scenario(world: World) -> None:
        follower = await world.client("a", "t/x")
        await world.until(lambda: follower.mode == "live")
        world.faults.frames(FrameRule("drop", "subscribed"))
        follower.subscribe("t/y")
        await world.sleep(30.0)
        assert count_of(follower, "repairs_unanswered") == 1

    run_checked(1, scenario, nodes=1)


def test_a_commit_that_is_answered_after_its_history_was_replaced_is_not_pushed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Found under seed 557: the hub was exactly where the lost commit began, since the feed had not brought it yet (S7).
    publish, feed = SimStore.publish, SimStore.feed

    async def answered_late(self: SimStore, group: Sequence[Write]) -> Committed:
        committed = await publish(self, group)
        await trio.sleep(1.5)
        return committed

    async def read_late(self: SimStore, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        await trio.sleep(1.0)
        return await feed(self, after, limit)

    async def scenario(world: World) -> None:
        follower = await world.client("a", "t/")
        await world.until(lambda: follower.mode == "live")
        await world.sleep(5.0)
        monkeypatch.setattr(SimStore, "publish", answered_late)
        monkeypatch.setattr(SimStore, "feed", read_late)
        world.faults.backup("before")
        follower.publish("t/lost", 1)
        await world.sleep(0.5)
        world.faults.rewind("before")
        await world.sleep(0.9)
        world.faults.commit("t/new", 2)
        await world.sleep(20.0)

    run_checked(1, scenario, nodes=1, **SHORT)


def test_a_key_used_after_a_restore_is_not_aged_by_the_lost_history() -> None:
    world, _ = run(published_again_after_a_rewind)
    first, again = world.trace.of(PublishAcknowledged)
    assert first.version == again.version
    assert [event.key for event in world.trace.of(ChangeCommitted) if event.topic == "t/keyed"] == ["key"]


def test_damaged_records_are_refused_alone_and_heal() -> None:
    world, _ = run(damaged_while_followed)
    refused = {(sample.client, topic) for sample in world.trace.of(AgeSampled) for topic in sample.unreadable}
    assert refused == {(client, topic) for client in ("a", "b", "poll") for topic in ("t/1", "t/late")}
    meanwhile = [change for change in world.trace.of(ChangeDelivered) if change.value == "while others are damaged"]
    assert {change.client for change in meanwhile} == {"a", "b", "poll"}
    last = {sample.client: sample for sample in world.trace.of(AgeSampled)}
    assert all(not sample.unreadable for sample in last.values())
    assert len({sample.known for sample in last.values()}) == 1


def test_a_client_is_live_one_round_trip_after_its_handshake() -> None:
    """Two seconds each for the stream, the handshake, and one flight (P-CLI-16)."""
    live_at: list[float] = []

    async def far_away(world: World) -> None:
        world.faults.commit("t/x", 1)
        world.faults.slow("n1", "a", 1.0, 1.0)
        world.faults.slow("a", "n1", 1.0, 1.0)
        for node in world.nodes:
            world.faults.block("a", node, "http")
        opened_at = trio.current_time()
        follower = await world.client("a", "t/", nodes=["n1"])
        await world.until(lambda: follower.mode == "live")
        live_at.append(trio.current_time() - opened_at)

    run_checked(1, far_away)
    assert 6.0 <= live_at[0] < 6.5
