"""The warden judges sessions and held requests when rules change: which, in which turns, and what a bug costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from softstate.auth.lasting import NOBODY
from softstate.client.api.connect import connect
from softstate.errors import Denied
from softstate.server.auth.warden import BUSY_ROUNDS, BUSY_S, JUDGED_PER_TURN
from softstate.server.bulkhead import RETRY_S, Bulkhead
from tests.kit.node_rig import mode_is, node, until
from tests.kit.rules_gate import RulesGate
from tests.kit.silent_sink import SilentSink
from tests.kit.warden_rig import U1, Rig


class LoopTurns(trio.abc.Instrument):
    """Counts the turns of the loop."""

    begun = 0

    def before_io_wait(self, timeout: float) -> None:
        self.begun += 1


class FakeSession:
    """A session that has to wait so often before it can be judged, or meets a bug."""

    def __init__(self, busy: int = 0, bug: bool = False, turns: LoopTurns | None = None) -> None:
        self.turns = turns
        self.judged_in = 0
        self.busy = busy
        self.bug = bug
        self.judged = 0
        self.failed = False

    def judge(self) -> bool:
        self.judged += 1
        self.judged_in = self.turns.begun if self.turns is not None else 0
        if self.bug:
            raise ZeroDivisionError
        return self.judged > self.busy

    def fail(self) -> None:
        self.failed = True


class JudgedSink(SilentSink):
    """The connection of a lease; see `FakeSession`."""

    def __init__(self, busy: int = 0) -> None:
        self.session = FakeSession(busy)

    @property
    def judged(self) -> int:
        return self.session.judged

    def judge(self) -> bool:
        return self.session.judge()


async def test_all_sessions_are_judged_in_turns_when_rules_change(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    rig, turns = Rig(), LoopTurns()
    sessions = [FakeSession(turns=turns) for _ in range(2 * JUDGED_PER_TURN + 1)]
    nursery.start_soon(rig.warden.judge, lambda: tuple(sessions), Bulkhead())
    await trio.testing.wait_all_tasks_blocked()
    assert not any(session.judged for session in sessions)
    trio.lowlevel.add_instrument(turns)
    rig.warden.rules_changed("")
    await trio.testing.wait_all_tasks_blocked()
    assert [session.judged for session in sessions] == [1] * len(sessions)
    each = Counter(session.judged_in for session in sessions)
    assert list(each.values()) == [JUDGED_PER_TURN, JUDGED_PER_TURN, 1]
    rig.warden.rules_changed("")
    await trio.testing.wait_all_tasks_blocked()
    assert [session.judged for session in sessions] == [2] * len(sessions)
    assert mock_clock.rate == 0


async def test_a_session_that_is_busy_is_judged_later_and_given_up_in_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    rig = Rig()
    free, busy, ever = FakeSession(), FakeSession(busy=3), FakeSession(busy=10**6)
    nursery.start_soon(rig.warden.judge, lambda: (free, busy, ever), Bulkhead())
    rig.warden.rules_changed("")
    await trio.sleep(BUSY_S * 3.5)
    assert (free.judged, busy.judged, ever.judged) == (1, 4, 4)
    await trio.sleep(BUSY_S * BUSY_ROUNDS * 2)
    assert (busy.judged, ever.judged) == (4, BUSY_ROUNDS)
    assert autojump_clock.rate == 0


async def test_rules_that_change_again_begin_all_again(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    rig = Rig()
    free, busy = FakeSession(), FakeSession(busy=10)
    nursery.start_soon(rig.warden.judge, lambda: (free, busy), Bulkhead())
    rig.warden.rules_changed("")
    await trio.sleep(BUSY_S * 1.5)
    assert free.judged == 1
    rig.warden.rules_changed("")
    await trio.sleep(BUSY_S)
    assert free.judged == 2
    assert autojump_clock.rate == 0


async def test_only_sessions_of_a_principal_are_judged_if_rules_change_for_it_alone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    rig = Rig()
    sinks = [JudgedSink(busy=2), JudgedSink(), JudgedSink()]
    for sink, subject in zip(sinks, ("u1", "u1", "u2"), strict=True):
        rig.table.attach(rig.lease(str(id(sink)), replace(U1, subject=subject)), sink)
    rig.lease("detached", U1)
    every = FakeSession()
    nursery.start_soon(rig.warden.judge, lambda: [every], Bulkhead())
    rig.warden.rules_changed(U1.digest)
    await trio.sleep(BUSY_S / 2)
    assert [sink.judged for sink in sinks] == [1, 1, 0]
    rig.warden.rules_changed(replace(U1, subject="u2").digest)
    await trio.sleep(BUSY_S * 3)
    assert [sink.judged for sink in sinks] == [3, 2, 1], "those that were busy are not forgotten for others"
    assert every.judged == 0
    assert autojump_clock.rate == 0


async def test_a_bug_in_one_session_costs_no_other(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    rig, bad, good, bulkhead = Rig(), FakeSession(bug=True), FakeSession(), Bulkhead(strict=False)
    nursery.start_soon(rig.warden.judge, lambda: (bad, good), bulkhead)
    rig.warden.rules_changed("")
    await trio.testing.wait_all_tasks_blocked()
    assert (bad.failed, good.failed, good.judged, bulkhead.bugs) == (True, False, 1, 1)
    assert mock_clock.rate == 0


async def test_a_round_that_meets_a_bug_is_made_again(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    rig, session, bulkhead = Rig(), FakeSession(), Bulkhead(strict=False)
    faults = [ZeroDivisionError(), ZeroDivisionError()]

    def sessions() -> list[FakeSession]:
        if faults:
            raise faults.pop()
        return [session]

    nursery.start_soon(rig.warden.judge, sessions, bulkhead)
    rig.warden.rules_changed("")
    await trio.sleep(RETRY_S * 1.5)
    assert (session.judged, bulkhead.bugs) == (0, 2)
    await trio.sleep(RETRY_S * 3)
    assert (session.judged, bulkhead.bugs) == (1, 2)
    assert autojump_clock.rate == 0


async def test_held_requests_that_have_lost_something_are_answered_and_others_wait_on(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    rig = Rig()
    for token, subject in (("t1", "u1"), ("t2", "u2"), ("t3", "u3")):
        rig.rules.may(subject, read=["a"])
        rig.rules.issue(token, subject)
    identities = [rig.rules.identify(token, 0.0) for token in ("t1", "t2", "t3")]
    rig.held = [(trio.CancelScope(), identity) for identity in (NOBODY, *identities)]
    nursery.start_soon(rig.warden.judge, list, Bulkhead())
    rig.rules.may("u2", read=["b"])
    rig.rules.revoke("t3")
    rig.warden.rules_changed("")
    await trio.testing.wait_all_tasks_blocked()
    assert [scope.cancel_called for scope, _ in rig.held] == [False, False, True, True]
    assert mock_clock.rate == 0


async def test_a_client_hears_at_once_that_a_name_is_taken_away() -> None:
    rules = RulesGate()
    rules.may("u1", read=["a", "b"])
    rules.issue("token", "u1")
    async with node(parts={"authority": rules}, ttl_ms=3_600_000, poll_every_ms=3_600_000) as running:
        async with connect(running.url, token="token") as client, client.subscribe("a", "b") as updates:
            await mode_is(client, "live")
            await until(lambda: running.node.counts()["subscriptions"] == 2)
            rules.may("u1", read=["a"])
            with pytest.raises(Denied):
                await anext(updates)
            assert updates.denied == ("b",)
            assert running.node.counts()["subscriptions"] == 1
            assert not running.node.repairs
