"""Offline, one attempt at a time, of the path whose turn it is: and always another one after it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from softstate.client.machine.events import Connect, ConnectFailed, Lost, RequestFailed, SendPoll, Wanted
from softstate.errors import Invalid
from tests.kit.machine_rig import OTHER, URL, Rig

CAP_S = 30.0
"""The longest pause between two attempts of a client that was told nothing else."""


def _go_on(rig: Rig, status: int | None, seconds: float) -> list[float]:
    """Let time pass; no connection comes to be, and polls are turned down. Return when connections were tried."""
    tries, end = [], rig.now + seconds
    while min(rig.now, rig.machine.deadline()) <= end:
        connection = rig.machine.describe().connection
        if connection is not None:
            tries.append(rig.now)
            rig.do(ConnectFailed(connection.conn, "failed", status, unsent=status is None))
        elif rig.machine.describe().polling:
            rig.do(RequestFailed(rig.poll.request, "no", Invalid("a rule")))
        else:
            rig.tick_once()
    return tries


def _offline_and_turned_down(*urls: str) -> Rig:
    """A client whose polls are turned down, and whose node refused dials until it was offline."""
    rig = Rig("a", urls=urls).live()
    rig.do(Lost(rig.conn, None, "cut"))
    while len(rig.all(SendPoll)) < len(urls):
        _go_on(rig, 503, 0.5)
    while rig.mode != "offline":
        _go_on(rig, None, 1.0)
    return rig


@pytest.mark.parametrize("urls", [(URL,), (URL, OTHER)])
def test_a_client_whose_polls_are_turned_down_goes_on_dialling_when_its_node_is_back(urls: tuple[str, ...]) -> None:
    rig = _offline_and_turned_down(*urls)
    tries = _go_on(rig, 503, 3_600.0)
    assert len(tries) > 100
    assert max(later - earlier for earlier, later in pairwise(tries)) <= 2 * CAP_S
    rig.live()
    assert rig.age == 0.0


def test_dials_of_a_client_whose_polls_are_turned_down_back_off() -> None:
    rig = _offline_and_turned_down(URL)
    tries = _go_on(rig, 503, 3_600.0)
    late = [at_s for at_s in tries if at_s > tries[0] + 600.0]
    assert len(late) <= 3_000.0 / (CAP_S / 2) * 1.3, "as many as full jitter within the cap makes, and no more"


def test_a_client_all_of_whose_polls_are_turned_down_is_offline_when_its_connections_fail() -> None:
    rig = Rig("a").open()
    _go_on(rig, 503, 3_600.0)
    assert rig.mode == "offline"
    polls = len(rig.all(SendPoll))
    rig.do(Wanted(["b"]))
    _go_on(rig, 503, 3 * CAP_S)
    assert len(rig.all(SendPoll)) > polls, "that is another question"
    assert len(rig.all(Connect)) > 10
